/**
 * A training run for people: a header, a live line, a line an epoch, and at the end what came of it and what to do next.
 *
 * Idea: events say what is certain and become lasting lines; progress, which comes after every step, only feeds the live line, at a bounded
 * rate. Where no line can be redrawn, the same text comes as a plain line every few seconds.
 * Must stay true: drawing costs a run nothing that grows with its steps; only the closing lines go to standard output.
 */

import { modelName } from '../config/model-name.js';
import type { RunConfig } from '../config/schema.js';
import { nowSeconds } from '../core/clock.js';
import type { EndEvent, EvaluationEvent, RunStartEvent, StepEvent, TrainEvent } from '../core/events.js';
import type { TrainProgress } from '../run/train.js';
import type { Console } from './console.js';
import { countText, durationText, percentText, rateText } from './number-text.js';

/** Steps that must have been seen before their speed says how long the run lasts. */
const ESTIMATED_STEPS = 10;
const REDRAW_SECONDS = 0.1;
const PLAIN_LINE_SECONDS = 5;
const MIN_BAR_COLUMNS = 10;
const MAX_BAR_COLUMNS = 30;

export class RunPrinter {
  readonly #console: Console;
  readonly #config: RunConfig;
  readonly #clock: () => number;
  readonly #startSeconds: number;
  #lastDrawn = Number.NEGATIVE_INFINITY;
  #runDir = '';
  /** Of the first progress. */
  #firstStep: number | undefined;
  #firstEpoch: number | undefined;
  #isEstimated = false;
  /** Passes that the run begins; train.maxSteps may end it before train.epochs. */
  #numEpochs: number;
  #lastStep: StepEvent | undefined;
  /** An epoch whose end was seen, and whose evaluation may follow. */
  #endedEpoch: StepEvent | undefined;

  constructor(console: Console, config: RunConfig, clock: () => number = nowSeconds) {
    this.#console = console;
    this.#config = config;
    this.#clock = clock;
    this.#startSeconds = clock();
    this.#numEpochs = config.train.epochs;
  }

  event(event: TrainEvent): void {
    const isItsEvaluation = event.event === 'evaluation' && event.step === this.#endedEpoch?.step;
    if (this.#endedEpoch !== undefined && !isItsEvaluation) this.#epochLine(this.#endedEpoch);
    this.#endedEpoch = undefined;
    switch (event.event) {
      case 'run':
        return this.#header(event);
      case 'step':
        return this.#step(event);
      case 'evaluation':
        return this.#epochLine(this.#lastStep, event);
      case 'end':
        return this.#closing(event);
      case 'checkpoint':
      case 'error': // told by whoever catches the error itself
        return;
      default:
        event satisfies never;
    }
  }

  progress(progress: TrainProgress): void {
    const { step, totalSteps, imagesPerSecond } = progress;
    this.#firstStep ??= step;
    this.#firstEpoch ??= progress.epoch;
    this.#estimate(step, totalSteps, imagesPerSecond);
    const now = this.#clock();
    const console = this.#console;
    if (console.isQuiet || now - this.#lastDrawn < (console.isLive ? REDRAW_SECONDS : PLAIN_LINE_SECONDS)) return;
    this.#lastDrawn = now;
    this.#numEpochs = epochsBegun(progress);
    if (console.isLive) console.live(this.#liveLine(progress, console.columns - 1));
    else console.say(this.#progressParts(progress).join('  '));
  }

  /** Once: a run that was restarted goes on. */
  #header({ version, runDir, devices, parameters, ...event }: RunStartEvent): void {
    if (this.#runDir !== '') return;
    this.#runDir = runDir;
    const { model, train, data } = { ...this.#config, ...(event.config as Partial<RunConfig>) };
    const name = this.#console.styled('bold', modelName(model));
    const row = (word: string, text: string) => this.#console.say(`  ${word.padEnd(9)}${text}`);
    this.#console.say(`dtrain ${version}: ${name}, ${countText(parameters)} parameters, ${train.precision}`);
    row('devices', devicesText(devices));
    row(
      'data',
      `${data.name}, ${countText(event.trainImages)} training and ${countText(event.testImages)} test images`,
    );
    row('batch', batchText(event.globalBatch, event.workers));
    row('steps', stepsText(event, train));
    row('run', runDir);
  }

  /** The last line of the header, once, when some steps have shown the speed. */
  #estimate(step: number, totalSteps: number, imagesPerSecond: number): void {
    if (
      this.#isEstimated ||
      step >= totalSteps ||
      step < (this.#firstStep ?? step) + ESTIMATED_STEPS ||
      !(imagesPerSecond > 0)
    )
      return;
    this.#isEstimated = true;
    const leftSeconds = ((totalSteps - step) * this.#config.train.globalBatch) / imagesPerSecond;
    this.#console.say(`  ${'time'.padEnd(9)}about ${durationText(leftSeconds)} to go, at ${rateText(imagesPerSecond)}`);
  }

  #step(event: StepEvent): void {
    const epochBefore = Math.floor(this.#lastStep?.epoch ?? this.#firstEpoch ?? 0);
    this.#lastStep = event;
    if (Math.floor(event.epoch) > epochBefore) this.#endedEpoch = event;
  }

  #epochLine(step: StepEvent | undefined, evaluation?: EvaluationEvent): void {
    const epoch = evaluation?.epoch ?? step?.epoch ?? 0;
    const time = durationText(this.#clock() - this.#startSeconds);
    const parts = [`epoch ${Math.floor(epoch)}/${this.#numEpochs}`];
    if (step !== undefined) parts.push(`loss ${step.loss.toFixed(3)}`, `train ${percentText(step.trainAccuracy)}`);
    const test = evaluation === undefined ? [] : [`test ${percentText(evaluation.testAccuracy)}`];
    const rate = step === undefined ? [] : [rateText(step.imagesPerSecond)];
    const fits = (words: readonly string[]) => !this.#console.isLive || words.join('  ').length < this.#console.columns;
    const shown = fits([...parts, ...test, ...rate, time]) ? rate : [];
    const bold = test.map((text) => this.#console.styled('bold', text));
    this.#console.say([...parts, ...bold, ...shown, this.#console.styled('dim', time)].join('  '));
  }

  #closing({ steps, epochs, finalTestAccuracy, bestTestAccuracy, imagesPerSecond, wallSeconds }: EndEvent): void {
    const accuracy =
      finalTestAccuracy === null
        ? 'no evaluation at the end'
        : `test accuracy ${percentText(finalTestAccuracy)}, best ${percentText(bestTestAccuracy ?? finalTestAccuracy)}`;
    const counted = `${countText(steps)} ${steps === 1 ? 'step' : 'steps'}`;
    const whole = epochs === 0 ? [] : [epochsText(epochs)]; // none that is whole: the steps say it
    const effort = [counted, ...whole, durationText(wallSeconds), rateText(imagesPerSecond)].join(', ');
    const isNarrow = this.#console.isLive && accuracy.length + effort.length + 2 >= this.#console.columns;
    this.#console.out(`${accuracy};${isNarrow ? '\n' : ' '}${effort}`);
    const folder = this.#runDir;
    const kinds = bestTestAccuracy === null ? 'last' : 'last, best';
    const rows = [
      ['run', folder],
      ['report', `${folder}/report.html`],
      ['checkpoints', `${folder}/checkpoints (${kinds})`],
      ['TensorBoard', `tensorboard --logdir ${folder}`],
      ['next', `dtrain eval ${folder}`],
      ['', `dtrain predict ${folder} IMAGE...`],
      ['', `dtrain export ${folder} --format onnx --out ${modelName(this.#config.model)}.onnx`],
    ] as const;
    for (const [name, text] of rows) this.#console.out(`  ${name.padEnd(13)}${text}`);
  }

  /** As much as fits in `columns`, the most wanted first; the rest of the line becomes a bar. */
  #liveLine(progress: TrainProgress, columns: number): string {
    const parts = this.#progressParts(progress);
    while (parts.length > 1 && parts.join('  ').length > columns) parts.pop();
    const text = parts.join('  ');
    const barColumns = Math.min(MAX_BAR_COLUMNS, columns - text.length - 2);
    if (barColumns < MIN_BAR_COLUMNS) return text;
    const filled = Math.round((progress.step / progress.totalSteps) * barColumns);
    return `${text}  ${'━'.repeat(filled)}${'─'.repeat(barColumns - filled)}`;
  }

  #progressParts({ step, totalSteps, epoch, loss, trainAccuracy, imagesPerSecond }: TrainProgress): string[] {
    const parts = [
      `epoch ${Math.min(this.#numEpochs, Math.floor(epoch) + 1)}/${this.#numEpochs}`,
      `step ${String(step).padStart(String(totalSteps).length)}/${totalSteps}`,
      `loss ${loss.toFixed(3)}`,
      `accuracy ${percentText(trainAccuracy)}`,
    ];
    if (!(imagesPerSecond > 0)) return parts; // not known yet
    const leftSeconds = ((totalSteps - step) * this.#config.train.globalBatch) / imagesPerSecond;
    return [...parts, rateText(imagesPerSecond), `${durationText(leftSeconds)} left`];
  }
}

/** `128 images: 2 x 64` */
function batchText(globalBatch: number, workers: number): string {
  const share = workers === 1 ? '' : `: ${workers} x ${countText(globalBatch / workers)}`;
  return `${countText(globalBatch)} ${globalBatch === 1 ? 'image' : 'images'} a step${share}`;
}

/** `3,519: 9 epochs of 391`; an epoch may end inside a step. */
function stepsText(
  { totalSteps, trainImages, globalBatch }: Pick<RunStartEvent, 'totalSteps' | 'trainImages' | 'globalBatch'>,
  train: RunConfig['train'],
): string {
  const ofEpoch = Math.ceil(trainImages / globalBatch);
  const isWhole = totalSteps >= Math.ceil((train.epochs * trainImages) / globalBatch);
  const epochs = isWhole ? epochsText(train.epochs) : epochsText((totalSteps * globalBatch) / trainImages);
  return `${countText(totalSteps)}: ${epochs} of ${countText(ofEpoch)}`;
}

/** `4 GPUs`, `2 CPU workers` */
export function devicesText(devices: readonly string[]): string {
  const isGpu = devices.some((device) => device.includes('GPU'));
  return `${devices.length} ${isGpu ? 'GPU' : 'CPU worker'}${devices.length === 1 ? '' : 's'}`;
}

/** Of the whole run: the epoch that its last step begins in. */
function epochsBegun({ step, totalSteps, epoch }: TrainProgress): number {
  return Math.floor((totalSteps - 1) * (epoch / step)) + 1;
}

function epochsText(epochs: number): string {
  const text = Number.isInteger(epochs) ? String(epochs) : epochs.toFixed(2);
  return `${text} ${text === '1' ? 'epoch' : 'epochs'}`;
}
