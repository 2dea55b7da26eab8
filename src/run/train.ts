/**
 * The training loop: segments of steps, with reports, evaluations and checkpoints between them.
 *
 * Idea: an async generator of the events. What yields an event has also written it to metrics.jsonl, so a program, the command line and
 * the run's folder see the same.
 * Must stay true: a run that goes on from a checkpoint does what the undisturbed run would have done, bit for bit, and its metrics.jsonl
 * has each line once.
 */
import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { ClusterSpec } from '../cluster/cluster-spec.js';
import { type RankProgress, readProgress, requestStop } from '../collective/progress.js';
import { epochOfStep } from '../config/derive.js';
import { printConfig } from '../config/print-config.js';
import type { RunConfig } from '../config/schema.js';
import { nowSeconds } from '../core/clock.js';
import { DtrainError, ExitCode } from '../core/errors.js';
import type { CheckpointEvent, EndEvent, EvaluationEvent, RunStartEvent, TrainEvent } from '../core/events.js';
import { realFs } from '../core/file-system.js';
import { Profiler } from '../tensorflow/profiler.js';
import type { OpenCheckpoint } from '../train/checkpoint.js';
import type { RunProgress } from '../train/checkpoint-state.js';
import { checkSpace, pointTo, type RunFacts } from '../train/save-checkpoint.js';
import { readState } from '../train/state-transfer.js';
import { type Assembly, assemble, type ResumedParts, type RunStart, tellHosts } from './assemble.js';
import { CheckpointSaver } from './checkpoint-saver.js';
import { type CarriedSteps, Coordinator, rounded, roundedDown, type SegmentResult } from './coordinator.js';
import type { DeviceRequest } from './devices.js';
import { writeDivergence } from './divergence.js';
import { evaluateOnRanks } from './evaluation.js';
import { endOfFinishedRun } from './finished-run.js';
import type { HostLink } from './host-link.js';
import { Profile } from './profile.js';
import {
  checkDataSet,
  checkModule,
  checkpointToResume,
  checkWorkers,
  configurationHash,
  placeOfRun,
  type ResumePlace,
  type ResumeRequest,
  resumedConfig,
  setLaterAside,
} from './resume.js';
import { RunArtifacts } from './run-artifacts.js';
import { RunDirectory } from './run-directory.js';
import { Timetable } from './timetable.js';
import { packageVersion } from './version.js';
import { limitsOf } from './watchdog.js';

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
  /** Takes a line that people must see. */
  readonly warn?: (line: string) => void;
  /** Write profile.json of the first so many steps (of this process). */
  readonly profileSteps?: number;
  /** See AssembleOptions. */
  readonly explicitPlacement?: boolean;
  /** For a supervisor: told the run's folder once it is there, and how to read what the ranks do once they are. */
  readonly onFolder?: (runDir: string) => void;
  readonly onRanks?: (read: () => readonly RankProgress[]) => void;
  /** Counts restarts by a supervisor, from 1. */
  readonly life?: number;
  /** Where this host is one of several; host 0 alone writes the run's folder. */
  readonly hosts?: ClusterSpec | undefined;
}

const PROGRESS_MILLISECONDS = 100;
/** How long a run that has failed waits for a save in flight, to name the last good checkpoint. */
const LAST_SAVE_MILLISECONDS = 1000;
const MAIN_JOB = 'quickstart';
/** Failed saves in a row that end a run. */
const MAX_SAVE_FAILURES = 3;
/** Room for checkpoints that a run asks for before its first step, as a multiple of one. */
const FREE_SPACE_FACTOR = 2.2;

/**
 * Trains. The last event is `end`, unless it throws; an aborted signal ends the run after the step, with a checkpoint.
 * @throws DtrainError with the contract's exit code; DTRAIN_STOPPED (75) on an aborted signal.
 */
export async function* train(options: TrainOptions, signal?: AbortSignal): AsyncGenerator<TrainEvent, void> {
  const startedAt = nowSeconds();
  const { configName, say = () => undefined, warn = say, hosts } = options;
  const common = { ...options, say, command: `dtrain --config ${configName}`, signal };
  const fallBackToSynthetic = configName === MAIN_JOB;
  const { place, opened, config, ...found } = await beginningOf(options, fallBackToSynthetic, warn).catch(
    async (error: unknown) => {
      if (hosts) await tellHosts(common, error); // they would wait for a host that does not come
      throw error;
    },
  );
  using directory = found.directory;
  if (place && opened) {
    setLaterAside(place, opened.manifest.step, warn);
    say(`resume: going on from ${opened.folder}`);
    // Several hosts end a finished run as any other, together.
    const finished = hosts ? undefined : endOfFinishedRun(place.path, config, opened);
    if (finished) {
      say(`resume: ${place.path} is finished; nothing is left to do`);
      yield* finished;
      return;
    }
  } else if (place && options.resume) say('resume: no checkpoint yet: starting from the beginning');
  const assembly = await assemble({
    ...common,
    config,
    fallBackToSynthetic,
    ...(opened && { resumed: resumedParts(opened) }),
    start: startOf(directory, opened),
  });
  options.onRanks?.(() => readProgress(assembly.arena));
  const stop = () => requestStop(assembly.arena);
  signal?.addEventListener('abort', stop, { once: true });
  let run: TrainingRun | undefined;
  let end: unknown = new Error('this run has ended');
  try {
    if (directory) {
      checkSpace(realFs, directory.checkpoints, FREE_SPACE_FACTOR * assembly.state.byteLength);
      directory.begin(assembly.config, opened?.state.progress.metricsBytes ?? 0);
    }
    const isBegun = directory !== null && directory.metricsBytes > 0;
    if (directory && opened) directory.record(checkpointEvent(directory, opened.manifest.step));
    if (signal?.aborted && !hosts) throw stoppedBefore(opened);
    if (signal?.aborted) stop();
    using artifacts = directory && (await RunArtifacts.open(directory.path, assembly, warn));
    run = new TrainingRun({ assembly, directory, artifacts, options, startedAt, opened });
    for await (const event of run.events()) {
      if (event.event !== 'run' || !isBegun) directory?.record(event);
      artifacts?.event(event);
      yield event;
    }
  } catch (error) {
    await run?.settle();
    const named = (await assembly.hosts?.named(error)) ?? error;
    end = named;
    if (!directory) throw named;
    throw withLastGood(named, run?.lastGoodStep ?? opened?.manifest.step, directory.path, assembly);
  } finally {
    signal?.removeEventListener('abort', stop);
    await assembly.hosts?.abort(end);
    run?.close();
    await assembly.close();
  }
}

/** Where the run is kept, and what it goes on from; without a folder on all hosts but the first. */
interface Beginning {
  readonly place: ResumePlace | null;
  readonly directory: RunDirectory | null;
  readonly opened: OpenCheckpoint | undefined;
  readonly config: RunConfig;
}

async function beginningOf(
  options: TrainOptions,
  fallBackToSynthetic: boolean,
  warn: (line: string) => void,
): Promise<Beginning> {
  const { config, hosts } = options;
  if (hosts && hosts.rank > 0) return { place: null, directory: null, opened: undefined, config };
  const place = placeOfRun(options.resume, options);
  const directory = await RunDirectory.open(place, warn);
  try {
    options.onFolder?.(directory.path);
    const opened = checkpointToResume(place, warn);
    const resumed = opened ? await resumedConfig(config, opened, fallBackToSynthetic) : config;
    return { place, directory, opened, config: resumed };
  } catch (error) {
    directory[Symbol.dispose]();
    throw error;
  }
}

interface RunParts {
  readonly assembly: Assembly;
  readonly directory: RunDirectory | null;
  readonly artifacts: RunArtifacts | null;
  readonly options: TrainOptions;
  readonly startedAt: number;
  readonly opened: OpenCheckpoint | undefined;
}

/** One run: what has happened so far, and the loop. */
class TrainingRun {
  readonly #assembly: Assembly;
  /** Null on all hosts but the first, with all that is written. */
  readonly #directory: RunDirectory | null;
  readonly #artifacts: RunArtifacts | null;
  readonly #options: TrainOptions;
  readonly #startedAt: number;
  readonly #coordinator: Coordinator;
  readonly #timetable: Timetable;
  readonly #saver: CheckpointSaver | null;
  readonly #generation: number;
  readonly #profile: Profile | undefined;
  #profiler: Profiler | undefined;
  #step = 0;
  /** Of this process: steps that were finished before it, and the first progress that was seen. */
  #firstStep = 0;
  #firstSeen: { readonly step: number; readonly atSeconds: number } | undefined;
  #lastGoodStep: number | undefined;
  #trainingSeconds = 0;
  #earlierWallSeconds = 0;
  #lastAccuracy: number | null = null;
  #bestAccuracy: number | null = null;
  /** Steps since the last `step` event at its regular place, where a stop came between. */
  #carried: CarriedSteps = { losses: [], corrects: [] };
  #evaluationDue = false;
  /** Length of metrics.jsonl without what the undisturbed run would not have. */
  #metricsBytes = 0;
  #saveFailures = 0;

  constructor({ assembly, directory, artifacts, options, startedAt, opened }: RunParts) {
    this.#assembly = assembly;
    this.#directory = directory;
    this.#artifacts = artifacts;
    this.#options = options;
    this.#startedAt = startedAt;
    this.#coordinator = new Coordinator(assembly);
    this.#timetable = new Timetable(assembly.config, assembly.data.train.count);
    const { firstStepSeconds } = limitsOf(assembly.config.allReduce.timeoutSeconds);
    this.#saver = directory && new CheckpointSaver(firstStepSeconds);
    this.#generation = (opened?.manifest.generation ?? 0) + 1;
    if (opened) this.#goOn(opened);
    else if (assembly.hosts && assembly.start) this.#follow(assembly.start);
    const { profileSteps } = options;
    if (profileSteps && directory) {
      this.#profile = new Profile(directory.path, assembly.devices.names, this.#step, profileSteps);
      this.#profiler = this.#beginProfiler();
    }
  }

  /** Undefined where there is no checkpoint yet. */
  get lastGoodStep(): number | undefined {
    return this.#lastGoodStep;
  }

  /** After a failure: whether the save in flight was one. */
  async settle(): Promise<void> {
    if (!this.#saver) return;
    await Promise.race([this.#saver.idle(), delay(LAST_SAVE_MILLISECONDS, undefined, { ref: false })]);
    for (const outcome of this.#saver.take()) if ('path' in outcome) this.#lastGoodStep = outcome.step;
  }

  close(): void {
    if (this.#profile) this.#writeProfile(this.#profile);
    this.#saver?.close();
  }

  async *events(): AsyncGenerator<TrainEvent, void> {
    const timer = setInterval(() => this.#showProgress(), PROGRESS_MILLISECONDS); // of the run: a segment may be shorter
    try {
      yield* this.#segments();
    } finally {
      clearInterval(timer);
    }
  }

  async *#segments(): AsyncGenerator<TrainEvent, void> {
    const timetable = this.#timetable;
    yield this.#runEvent();
    if (this.#evaluationDue) yield* this.#evaluateLate();
    while (this.#step < timetable.totalSteps) {
      const stopRequested = yield* this.#segment(timetable.segmentEnd(this.#step));
      const isDue = timetable.evaluatesAt(this.#step);
      const evaluated = isDue && !stopRequested ? yield* this.#evaluate() : undefined;
      this.#evaluationDue = isDue && evaluated === undefined;
      const isBest = evaluated?.isBest ?? false;
      const isLast = stopRequested || this.#evaluationDue || this.#step === timetable.totalSteps;
      if (isLast || timetable.savesAt(this.#step) || isBest) yield* this.#save(isBest);
      if (isLast && this.#directory) yield* this.#finishSaves(isBest);
      if (this.#evaluationDue || (stopRequested && this.#step < timetable.totalSteps)) await this.#leaveStopped();
    }
    await this.#assembly.hosts?.leave();
    yield this.#endEvent();
  }

  #goOn({ state }: OpenCheckpoint): void {
    const { progress } = state;
    this.#step = state.step;
    this.#firstStep = state.step;
    this.#lastGoodStep = state.step;
    this.#trainingSeconds = progress.trainingSeconds;
    this.#earlierWallSeconds = progress.wallSeconds;
    this.#lastAccuracy = state.testAccuracy;
    this.#bestAccuracy = state.bestTestAccuracy;
    this.#carried = { losses: progress.losses, corrects: progress.corrects };
    this.#evaluationDue = progress.evaluationDue;
  }

  /** Begins where host 0 does. */
  #follow({ step, trainingSeconds, wallSeconds, testAccuracy, bestTestAccuracy, evaluationDue }: RunStart): void {
    this.#step = step;
    this.#trainingSeconds = trainingSeconds;
    this.#earlierWallSeconds = wallSeconds;
    this.#lastAccuracy = testAccuracy;
    this.#bestAccuracy = bestTestAccuracy;
    this.#evaluationDue = evaluationDue;
  }

  /** Runs one segment; whether the run was asked to stop. */
  async *#segment(end: number): AsyncGenerator<TrainEvent, boolean> {
    const result = await this.#coordinator.runSegment(this.#step, end, this.#carried);
    yield* this.#savesSoFar();
    for (const line of result.warnings) this.#warn(line);
    this.#addToProfile(result);
    const { event, step, seconds, stopRequested, losses, corrects } = result;
    this.#step = step;
    this.#trainingSeconds += seconds;
    this.#metricsBytes = this.#directory?.metricsBytes ?? 0;
    const before = this.#carried;
    const isWhole = step === end;
    this.#carried = isWhole
      ? { losses: [], corrects: [] }
      : { losses: [...before.losses, ...losses], corrects: [...before.corrects, ...corrects] };
    yield event;
    if (isWhole) this.#metricsBytes = this.#directory?.metricsBytes ?? 0;
    return stopRequested;
  }

  #addToProfile({ ranks, losses }: SegmentResult): void {
    if (this.#profile?.add({ step: this.#step, ranks, losses })) this.#writeProfile(this.#profile);
  }

  /** Without TensorFlow's part a profile is still one. */
  #beginProfiler(): Profiler | undefined {
    try {
      return new Profiler(this.#assembly.devices.runtime);
    } catch (error) {
      this.#warn(`profile: it will be without TensorFlow's operations. ${(error as Error).message}`);
      return undefined;
    }
  }

  /** A profile that cannot be written ends no run. */
  #writeProfile(profile: Profile): void {
    try {
      profile.addOperations(this.#profiler?.end() ?? []);
      this.#profiler = undefined;
      if (profile.write()) this.#options.say?.(`profile: ${profile.file} (for ui.perfetto.dev)`);
    } catch (error) {
      this.#warn((error as Error).message);
    }
  }

  /** Evaluates; whether this is the best accuracy so far. Undefined where a stop was asked for meanwhile, on any host. */
  async *#evaluate(): AsyncGenerator<EvaluationEvent, { readonly isBest: boolean } | undefined> {
    const { pool, data, hosts } = this.#assembly;
    using watchdog = this.#coordinator.watchdog();
    const result = await evaluateOnRanks(pool, data, watchdog.alarm, hosts);
    if (result === undefined) return undefined;
    const { testLoss, testAccuracy, images } = result;
    const isBest = this.#bestAccuracy === null || testAccuracy > this.#bestAccuracy;
    this.#lastAccuracy = testAccuracy;
    if (isBest) this.#bestAccuracy = testAccuracy;
    const epoch = this.#timetable.epochsAfter(this.#step);
    await this.#artifacts?.evaluation(this.#step, epoch, result);
    yield { event: 'evaluation', step: this.#step, epoch, testLoss, testAccuracy, images };
    this.#metricsBytes = this.#directory?.metricsBytes ?? 0;
    return { isBest };
  }

  /** The evaluation of the checkpoint that the run was stopped at. */
  async *#evaluateLate(): AsyncGenerator<TrainEvent, void> {
    const evaluated = yield* this.#evaluate();
    if (evaluated === undefined) return this.#leaveStopped();
    if (evaluated.isBest && this.#directory) pointTo(realFs, this.#directory.checkpoints, 'best', `step-${this.#step}`);
    this.#evaluationDue = false;
  }

  /** Begins to save rank 0's state, after all ranks of all hosts have shown that theirs is the same. Only host 0 writes. */
  async *#save(isBest: boolean): AsyncGenerator<CheckpointEvent, void> {
    const { pool, state, hosts } = this.#assembly;
    await this.#saver?.idle();
    yield* this.#savesSoFar();
    using watchdog = this.#coordinator.watchdog();
    const own = await pool.runAll('stateHash', () => null, watchdog.alarm);
    const hashes = hosts ? await hashesOfHosts(hosts, own) : own;
    const differing = hashes.flatMap((hash, rank) => (hash === hashes[0] ? [] : [rank]));
    if (differing.length > 0) throw replicasDiffer(this.#step, differing);
    if (!this.#directory) return;
    await Promise.race([pool.run(0, 'exportState', { state }), watchdog.alarm]);
    this.#beginSave(isBest);
  }

  #beginSave(isBest: boolean): void {
    const { state, recorded, model, data, config } = this.#assembly;
    const { checkpoints, lock, metricsFile } = this.#directory!;
    const { name, parameters, statistics } = model;
    this.#saver!.begin({
      checkpoints,
      model: { name, parameters, statistics },
      layout: recorded.program.layout,
      state,
      saved: {
        step: this.#step,
        epoch: this.#epoch(),
        testAccuracy: this.#lastAccuracy,
        bestTestAccuracy: this.#bestAccuracy,
        classes: data.classes,
        imageSize: [data.train.height, data.train.width],
        normalization: data.normalization,
        progress: this.#progress(),
      },
      configYaml: printConfig(config),
      facts: this.#facts(),
      isBest,
      lock: lock.token,
      metricsFile: fs.existsSync(metricsFile) ? metricsFile : null,
      keep: config.checkpoint.keep,
    });
  }

  /** Tells of the saves that have ended. @throws where too many failed in a row, or going on makes no sense. */
  *#savesSoFar(): Generator<CheckpointEvent, void> {
    for (const outcome of this.#saver?.take() ?? []) {
      if ('path' in outcome) {
        this.#saveFailures = 0;
        this.#lastGoodStep = outcome.step;
        yield checkpointEvent(this.#directory!, outcome.step);
        continue;
      }
      const { error, step } = outcome;
      this.#saveFailures++;
      const isPassing = error.exitCode === ExitCode.storage && error.code !== 'DTRAIN_LOCK_LOST';
      if (!isPassing || this.#saveFailures >= MAX_SAVE_FAILURES) throw error;
      const what = `The checkpoint of step ${step} was not saved (failure ${this.#saveFailures} of ${MAX_SAVE_FAILURES} in a row)`;
      this.#warn(`${error.message} ${what}; training goes on.`);
    }
  }

  /** Waits for the last save; one that fails is tried once more, into new files. */
  async *#finishSaves(isBest: boolean): AsyncGenerator<CheckpointEvent, void> {
    await this.#saver?.idle();
    yield* this.#savesSoFar();
    if (this.#lastGoodStep === this.#step) return;
    this.#beginSave(isBest);
    this.#saveFailures = MAX_SAVE_FAILURES;
    await this.#saver?.idle();
    yield* this.#savesSoFar();
  }

  #runEvent(): RunStartEvent {
    const { config, devices, model, data, batch } = this.#assembly;
    return {
      event: 'run',
      runDir: this.#runDir,
      version: packageVersion(),
      devices: devices.names,
      workers: batch.world,
      globalBatch: config.train.globalBatch,
      parameters: model.numParameters,
      trainImages: data.train.count,
      testImages: data.test.count,
      totalSteps: this.#timetable.totalSteps,
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
      imagesPerSecond: rounded(this.#imagesPerSecond(), 1),
      wallSeconds: rounded(this.#wallSeconds(), 2),
    };
  }

  #progress(): RunProgress {
    const { batch, data } = this.#assembly;
    return {
      trainImages: data.train.count,
      shards: batch.shards,
      threadsPerWorker: batch.threadsPerWorker,
      trainingSeconds: this.#trainingSeconds,
      wallSeconds: this.#wallSeconds(),
      metricsBytes: this.#metricsBytes,
      losses: this.#carried.losses,
      corrects: this.#carried.corrects,
      evaluationDue: this.#evaluationDue,
    };
  }

  #facts(): RunFacts {
    const { batch, config, data, devices, model } = this.#assembly;
    const module = model.codeHash;
    return {
      run: path.basename(path.resolve(this.#runDir)),
      generation: this.#generation,
      world: batch.world,
      shards: batch.shards,
      globalBatch: config.train.globalBatch,
      precision: config.train.precision,
      threadsPerWorker: batch.threadsPerWorker,
      hashes: {
        configuration: configurationHash(config),
        dataSet: data.fingerprint,
        ...(module !== undefined && { module }),
      },
      versions: { dtrain: packageVersion(), tensorflow: devices.runtime.c.TF_Version(), node: process.version },
    };
  }

  #showProgress(): void {
    const { step, loss, trainAccuracy } = this.#coordinator.progress();
    if (step <= this.#firstStep) return;
    const { globalBatch } = this.#assembly.config.train;
    const imagesPerSecond = this.#imagesPerSecond() || this.#firstRate(step);
    const epoch = epochOfStep(step, globalBatch, this.#assembly.data.train.count);
    const { totalSteps } = this.#timetable;
    this.#options.onProgress?.({ step, totalSteps, epoch, loss, trainAccuracy, imagesPerSecond });
  }

  /** Of the first segment while it runs, without its first step, which is slower; 0 where that is all there is. */
  #firstRate(step: number): number {
    this.#firstSeen ??= { step, atSeconds: nowSeconds() };
    const seconds = nowSeconds() - this.#firstSeen.atSeconds;
    return seconds > 0 ? ((step - this.#firstSeen.step) * this.#assembly.config.train.globalBatch) / seconds : 0;
  }

  /** Over all steps of the run; 0 before the first. */
  #imagesPerSecond(): number {
    const images = this.#step * this.#assembly.config.train.globalBatch;
    return images === 0 ? 0 : images / this.#trainingSeconds;
  }

  #warn(line: string): void {
    const { warn, say } = this.#options;
    (warn ?? say)?.(line);
  }

  #wallSeconds(): number {
    return this.#earlierWallSeconds + nowSeconds() - this.#startedAt;
  }

  #epoch(): number {
    const { config, data } = this.#assembly;
    return roundedDown(epochOfStep(this.#step, config.train.globalBatch, data.train.count), 4);
  }

  /** Of several hosts, the folder on host 0. */
  get #runDir(): string {
    return this.#directory?.path ?? this.#assembly.start?.runDir ?? '';
  }

  /** Ends a run that was stopped, together with the other hosts. @throws DTRAIN_STOPPED. */
  async #leaveStopped(): Promise<never> {
    await this.#assembly.hosts?.leave();
    throw this.#stopped();
  }

  #stopped(): DtrainError {
    const text = `stopped on request after step ${this.#step}; the checkpoint is ${this.#runDir}/checkpoints/step-${this.#step}.`;
    return new DtrainError('DTRAIN_STOPPED', ExitCode.stopped, text, { step: this.#step });
  }
}

/** What host 0 tells the others. */
function startOf(directory: RunDirectory | null, opened: OpenCheckpoint | undefined): RunStart {
  const { step = 0, testAccuracy = null, bestTestAccuracy = null, progress } = opened?.state ?? {};
  const { trainingSeconds = 0, wallSeconds = 0, evaluationDue = false } = progress ?? {};
  const runDir = directory?.path ?? '';
  return { runDir, step, trainingSeconds, wallSeconds, testAccuracy, bestTestAccuracy, evaluationDue };
}

function checkpointEvent({ checkpoints }: RunDirectory, step: number): CheckpointEvent {
  return { event: 'checkpoint', step, path: path.join(checkpoints, `step-${step}`) };
}

function resumedParts(opened: OpenCheckpoint): ResumedParts {
  const { shards, threadsPerWorker } = opened.state.progress;
  return {
    shards,
    threadsPerWorker,
    checkWorkers: (workers) => checkWorkers(opened, shards, workers),
    checkData: ({ fingerprint }) => checkDataSet(opened, fingerprint),
    checkModel: ({ codeHash }) => checkModule(opened, codeHash),
    readState: (state, layout, model) => readState(state, layout, model, opened),
  };
}

/** SHA-256 in hexadecimal of each rank of each host, in order. */
async function hashesOfHosts(hosts: HostLink, own: readonly string[]): Promise<string[]> {
  const words = own.map((hash) => Buffer.from(hash, 'hex'));
  const bytes = Uint8Array.from(Buffer.concat(words));
  const gathered = await hosts.gather(new Int32Array(bytes.buffer));
  return gathered.flatMap((values) => {
    const text = Buffer.from(values.buffer, values.byteOffset, values.byteLength).toString('hex');
    return own.map((hash, rank) => text.slice(rank * hash.length, (rank + 1) * hash.length));
  });
}

function stoppedBefore(opened: OpenCheckpoint | undefined): DtrainError {
  const nothing = 'before the first step; nothing was saved, and --resume starts from the beginning';
  const where = opened === undefined ? nothing : `before a step; the checkpoint is ${opened.folder}`;
  return new DtrainError('DTRAIN_STOPPED', ExitCode.stopped, `stopped on request ${where}.`);
}

const NEEDS_LAST_GOOD: readonly ExitCode[] = [
  ExitCode.data,
  ExitCode.storage,
  ExitCode.diverged,
  ExitCode.outOfMemory,
  ExitCode.workerFailed,
  ExitCode.hang,
  ExitCode.hostLost,
];

/** The error with what is safe: the last good checkpoint. */
function withLastGood(error: unknown, lastGood: number | undefined, runDir: string, assembly: Assembly): unknown {
  if (!(error instanceof DtrainError) || !NEEDS_LAST_GOOD.includes(error.exitCode)) return error;
  const { code, exitCode, rank, step, phase } = error;
  const place = {
    ...(rank !== undefined && { rank }),
    ...(step !== undefined && { step }),
    ...(phase !== undefined && { phase }),
  };
  const safe = lastGood === undefined ? 'No checkpoint was saved yet.' : `Last good checkpoint: step ${lastGood}.`;
  const isDiverged = exitCode === ExitCode.diverged && step !== undefined;
  const details = isDiverged ? ` ${divergenceText(runDir, assembly, step)}` : '';
  const message = `${error.message.replace(/[.\s]*$/, '.')}${details} ${safe}`;
  return new DtrainError(code, exitCode, message, { ...place, cause: error });
}

function divergenceText(runDir: string, assembly: Assembly, step: number): string {
  try {
    return `Images and gradients of the step: ${writeDivergence(runDir, assembly, step)}.`;
  } catch {
    return 'Images and gradients of the step could not be written.'; // the divergence is the error to tell
  }
}

function replicasDiffer(step: number, ranks: readonly number[]): DtrainError {
  const who = ranks.length === 1 ? `rank ${ranks[0]}` : `ranks ${ranks.join(', ')}`;
  const text = `step ${step}: the weights of ${who} differ from those of rank 0, though all made the same updates. Nothing was saved. Check the machine's memory.`;
  return new DtrainError('DTRAIN_REPLICAS_DIFFER', ExitCode.workerFailed, text, { rank: ranks[0]!, step });
}
