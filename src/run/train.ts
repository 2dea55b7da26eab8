/**
 * The training loop: segments of steps, with reports, evaluations and checkpoints between them.
 *
 * Idea: an async generator of the events. What yields an event has also written it to metrics.jsonl, so a program, the command line and
 * the run's folder see the same.
 */
import { requestStop } from '../collective/progress.js';
import { epochOfStep } from '../config/derive.js';
import { printConfig } from '../config/print-config.js';
import type { RunConfig } from '../config/schema.js';
import { nowSeconds } from '../core/clock.js';
import { DtrainError, ExitCode } from '../core/errors.js';
import type { CheckpointEvent, EndEvent, EvaluationEvent, RunStartEvent, TrainEvent } from '../core/events.js';
import { type CheckpointState, removeOldCheckpoints, saveCheckpoint } from '../train/checkpoint.js';
import { checkpointTensors } from '../train/state-transfer.js';
import { type Assembly, assemble } from './assemble.js';
import { Coordinator, rounded, roundedDown } from './coordinator.js';
import type { DeviceRequest } from './devices.js';
import { evaluateOnRanks } from './evaluation.js';
import { findResumePoint, type ResumeRequest } from './resume.js';
import { RunArtifacts } from './run-artifacts.js';
import { RunDirectory } from './run-directory.js';
import { Timetable } from './timetable.js';
import { packageVersion } from './version.js';

/** How far a run is, between two events. */
export interface TrainProgress {
  readonly step: number;
  readonly totalSteps: number;
  /** Fraction. */
  readonly epoch: number;
  readonly loss: number;
  readonly trainAccuracy: number;
  readonly imagesPerSecond: number;
}

export interface TrainOptions {
  readonly config: RunConfig;
  /** Null: all GPUs, else one CPU worker a core. */
  readonly devices: DeviceRequest | null;
  /** Null: a new folder under runs/, named after `configName`. */
  readonly runDir: string | null;
  readonly configName: string;
  /** Go on from a checkpoint instead of beginning anew. */
  readonly resume?: ResumeRequest;
  /** Called several times a second while steps run. */
  readonly onProgress?: (progress: TrainProgress) => void;
  /** Takes a line for people. */
  readonly say?: (line: string) => void;
  /** See AssembleOptions. */
  readonly explicitPlacement?: boolean;
}

const PROGRESS_MILLISECONDS = 100;
const MAIN_JOB = 'quickstart';

/**
 * Trains. The last event is `end`, unless it throws; an aborted signal ends the run after the step, with a checkpoint.
 * @throws DtrainError with the contract's exit code; DTRAIN_STOPPED (75) on an aborted signal.
 */
export async function* train(options: TrainOptions, signal?: AbortSignal): AsyncGenerator<TrainEvent, void> {
  const startedAt = nowSeconds();
  const { configName, say = () => undefined } = options;
  const point = options.resume
    ? findResumePoint(options.resume, options, say)
    : { runDir: options.runDir, checkpoint: null };
  if (point.checkpoint) say(`resume: going on from ${point.checkpoint.folder}`);
  using directory = new RunDirectory({ ...point, configName, isResumed: point.checkpoint !== null });
  const assembly = await assemble({
    ...options,
    say,
    command: `dtrain --config ${configName}`,
    fallBackToSynthetic: configName === MAIN_JOB,
    resume: point.checkpoint,
  });
  const resumedStep = point.checkpoint?.state.step ?? null;
  directory.begin(assembly.config, resumedStep);
  const stop = () => requestStop(assembly.arena);
  signal?.addEventListener('abort', stop, { once: true });
  try {
    if (signal?.aborted) stop();
    using artifacts = new RunArtifacts(directory.path, assembly);
    for await (const event of new TrainingRun(
      assembly,
      directory,
      artifacts,
      options,
      startedAt,
      point.checkpoint?.state,
    ).events()) {
      if (event.event !== 'run' || resumedStep === null) directory.record(event);
      artifacts.event(event);
      yield event;
    }
  } finally {
    signal?.removeEventListener('abort', stop);
    await assembly.pool.close();
  }
}

/** One run: what has happened so far, and the loop. */
class TrainingRun {
  readonly #assembly: Assembly;
  readonly #directory: RunDirectory;
  readonly #artifacts: RunArtifacts;
  readonly #options: TrainOptions;
  readonly #startedAt: number;
  readonly #coordinator: Coordinator;
  readonly #timetable: Timetable;
  /** The step that this life of the run began after. */
  readonly #firstStep: number;
  #step: number;
  #trainingSeconds = 0;
  #lastAccuracy: number | null;
  #bestAccuracy: number | null;
  #evaluationDue: boolean;

  constructor(
    assembly: Assembly,
    directory: RunDirectory,
    artifacts: RunArtifacts,
    options: TrainOptions,
    startedAt: number,
    resumed: CheckpointState | undefined,
  ) {
    this.#assembly = assembly;
    this.#directory = directory;
    this.#artifacts = artifacts;
    this.#options = options;
    this.#startedAt = startedAt;
    this.#coordinator = new Coordinator(assembly);
    this.#timetable = new Timetable(assembly.config, assembly.data.train.count);
    this.#firstStep = resumed?.step ?? 0;
    this.#step = this.#firstStep;
    this.#lastAccuracy = resumed?.testAccuracy ?? null;
    this.#bestAccuracy = resumed?.bestTestAccuracy ?? null;
    this.#evaluationDue = resumed?.evaluationDue ?? false;
  }

  async *events(): AsyncGenerator<TrainEvent, void> {
    const timetable = this.#timetable;
    yield this.#runEvent();
    if (this.#evaluationDue && (yield* this.#evaluate())) yield await this.#save(true);
    while (this.#step < timetable.totalSteps) {
      const stopRequested = yield* this.#segment(timetable.segmentEnd(this.#step));
      this.#evaluationDue = timetable.evaluatesAt(this.#step);
      const isBest = this.#evaluationDue && !stopRequested ? yield* this.#evaluate() : false;
      if (timetable.savesAt(this.#step) || isBest || stopRequested) yield await this.#save(isBest);
      if (stopRequested && this.#step < timetable.totalSteps) throw this.#stopped();
    }
    yield this.#endEvent();
  }

  /** Runs one segment; whether the run was asked to stop. */
  async *#segment(end: number): AsyncGenerator<TrainEvent, boolean> {
    const timer = setInterval(() => this.#showProgress(), PROGRESS_MILLISECONDS);
    try {
      const { event, step, seconds, stopRequested } = await this.#coordinator.runSegment(this.#step, end);
      this.#step = step;
      this.#trainingSeconds += seconds;
      yield event;
      return stopRequested;
    } finally {
      clearInterval(timer);
    }
  }

  /** Evaluates; whether this is the best accuracy so far. */
  async *#evaluate(): AsyncGenerator<EvaluationEvent, boolean> {
    const { pool, data } = this.#assembly;
    const result = await evaluateOnRanks(pool, data);
    const { testLoss, testAccuracy, images } = result;
    const isBest = this.#bestAccuracy === null || testAccuracy > this.#bestAccuracy;
    this.#lastAccuracy = testAccuracy;
    if (isBest) this.#bestAccuracy = testAccuracy;
    this.#evaluationDue = false;
    const epoch = this.#timetable.epochsAfter(this.#step);
    this.#artifacts.evaluation(this.#step, epoch, result);
    yield { event: 'evaluation', step: this.#step, epoch, testLoss, testAccuracy, images };
    return isBest;
  }

  /** Saves rank 0's state, after all ranks have shown that theirs is the same. */
  async #save(isBest: boolean): Promise<CheckpointEvent> {
    const { pool, state, recorded, model, data, config } = this.#assembly;
    const hashes = await pool.runAll('stateHash', () => null);
    const differing = hashes.findIndex((hash) => hash !== hashes[0]);
    if (differing !== -1) throw replicasDiffer(this.#step, differing);
    await pool.run(0, 'exportState', { state });
    const content = {
      state: {
        step: this.#step,
        epoch: this.#epoch(),
        testAccuracy: this.#lastAccuracy,
        bestTestAccuracy: this.#bestAccuracy,
        evaluationDue: this.#evaluationDue,
        shards: this.#assembly.batch.shards,
        classes: data.classes,
        imageSize: [data.train.height, data.train.width] as const,
        normalization: data.normalization,
      },
      configYaml: printConfig(config),
      ...checkpointTensors(state, recorded.program.layout),
    };
    const path = saveCheckpoint(this.#directory.checkpoints, model, content, isBest);
    removeOldCheckpoints(this.#directory.checkpoints, config.checkpoint.keep);
    return { event: 'checkpoint', step: this.#step, path };
  }

  #runEvent(): RunStartEvent {
    const { config, devices, model, data } = this.#assembly;
    return {
      event: 'run',
      runDir: this.#directory.path,
      version: packageVersion(),
      devices: devices.names,
      workers: devices.names.length,
      globalBatch: config.train.globalBatch,
      parameters: model.numParameters,
      normalization: data.normalization,
      config,
    };
  }

  #endEvent(): EndEvent {
    return {
      event: 'end',
      steps: this.#step,
      epochs: this.#timetable.epochsAfter(this.#step),
      finalTestAccuracy: this.#lastAccuracy,
      bestTestAccuracy: this.#bestAccuracy,
      imagesPerSecond: this.#imagesPerSecond(),
      wallSeconds: rounded(nowSeconds() - this.#startedAt, 2),
    };
  }

  #showProgress(): void {
    const { step, loss, trainAccuracy } = this.#coordinator.progress();
    if (step === 0) return;
    const { globalBatch } = this.#assembly.config.train;
    const imagesPerSecond = this.#imagesPerSecond();
    const epoch = epochOfStep(step, globalBatch, this.#assembly.data.train.count);
    const { totalSteps } = this.#timetable;
    this.#options.onProgress?.({ step, totalSteps, epoch, loss, trainAccuracy, imagesPerSecond });
  }

  /** Over the steps of this life; 0: none yet. */
  #imagesPerSecond(): number {
    const images = (this.#step - this.#firstStep) * this.#assembly.config.train.globalBatch;
    return images === 0 ? 0 : rounded(images / this.#trainingSeconds, 1);
  }

  #epoch(): number {
    const { config, data } = this.#assembly;
    return roundedDown(epochOfStep(this.#step, config.train.globalBatch, data.train.count), 4);
  }

  #stopped(): DtrainError {
    const text = `stopped on request after step ${this.#step}; the checkpoint is ${this.#directory.checkpoints}/step-${this.#step}.`;
    return new DtrainError('DTRAIN_STOPPED', ExitCode.stopped, text, { step: this.#step });
  }
}

function replicasDiffer(step: number, rank: number): DtrainError {
  const text = `step ${step}: the weights of rank ${rank} differ from those of rank 0, though both made the same updates. Nothing was saved. Check the machine's memory.`;
  return new DtrainError('DTRAIN_REPLICAS_DIFFER', ExitCode.workerFailed, text, { rank, step });
}
