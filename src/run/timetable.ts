/**
 * When a run reports, evaluates and saves: the steps at which a segment ends. Pure.
 *
 * Idea: a segment is the run of steps until the next of these, so the cost of a task is paid once for many steps.
 */
import { lastStepOfEpoch } from '../config/derive.js';
import type { RunConfig } from '../config/schema.js';

/** Steps between two `step` events, at most. */
const REPORT_STEPS = 50;

export class Timetable {
  /** The last step of the run. */
  readonly totalSteps: number;
  /** The last step of the last epoch; more than totalSteps where train.maxSteps ends the run earlier. */
  readonly lastEpochStep: number;
  readonly #config: RunConfig;
  readonly #trainImages: number;

  constructor(config: RunConfig, trainImages: number) {
    this.#config = config;
    this.#trainImages = trainImages;
    this.lastEpochStep = lastStepOfEpoch(config.train.epochs, config.train.globalBatch, trainImages);
    this.totalSteps = Math.min(this.lastEpochStep, config.train.maxSteps ?? Number.POSITIVE_INFINITY);
  }

  /** Epochs that are finished after `step` steps, whole ones. */
  epochsAfter(step: number): number {
    return Math.floor((step * this.#config.train.globalBatch) / this.#trainImages);
  }

  /** The last step of the segment that begins after `step` steps. */
  segmentEnd(step: number): number {
    let end = step + 1;
    while (!this.#endsAt(end)) end++;
    return end;
  }

  /** Evaluation is due by evaluation.everyEpochs, and at the end of the last epoch. */
  evaluatesAt(step: number): boolean {
    return step === this.lastEpochStep || this.#completes(step, this.#config.evaluation.everyEpochs);
  }

  /** Saving is due by checkpoint.everyEpochs or everySteps, and at the last step of the run. */
  savesAt(step: number): boolean {
    const { everyEpochs, everySteps } = this.#config.checkpoint;
    const bySteps = everySteps !== null && everySteps > 0 && step % everySteps === 0;
    return step === this.totalSteps || bySteps || this.#completes(step, everyEpochs ?? 0);
  }

  #endsAt(step: number): boolean {
    return step >= this.totalSteps || step % REPORT_STEPS === 0 || this.evaluatesAt(step) || this.savesAt(step);
  }

  /** Whether `step` completes a multiple of `epochs` epochs; 0 epochs: never. */
  #completes(step: number, epochs: number): boolean {
    if (epochs === 0) return false;
    return Math.floor(this.epochsAfter(step) / epochs) > Math.floor(this.epochsAfter(step - 1) / epochs);
  }
}
