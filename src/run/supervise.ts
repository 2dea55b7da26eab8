/**
 * The supervisor: trains in a process of its own, the engine, and starts that again where it ended by a fault that may pass.
 *
 * Idea: native code may abort, hang or be killed at any moment and takes its whole process along; so this side has none, keeps the
 * terminal, and goes on from the last good checkpoint. The engine says `done`, or it has failed.
 *
 *   train command ─▶ supervise ─▶ engine, life 1: train() … ended by a signal
 *                        └──────▶ engine, life 2: train({ resume }) … done
 *
 * Must stay true: imports nothing that loads native code; no engine is left behind, and none lives beside another; every wait for an engine
 * has a deadline, after which it is killed. What happened to a step is decided by the checkpoints alone.
 */

import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { RankProgress } from '../collective/progress.js';
import { nowSeconds } from '../core/clock.js';
import { DtrainError, deserializeError, ExitCode, internalError, type SerializedError } from '../core/errors.js';
import type { TrainEvent } from '../core/events.js';
import { newestStep } from '../train/step-folders.js';
import { engineFailure, type KilledFor } from './engine-failure.js';
import { type EngineEnd, EngineProcess } from './engine-process.js';
import type { EngineOptions } from './engine-protocol.js';
import { memoryEventsFile, memoryKills } from './memory-kills.js';
import type { TrainOptions } from './train.js';
import { limitsOf, type RankLimits } from './watchdog.js';

export interface Supervision {
  /** Aborted when the run is to end at once; the reason is the name of the signal. */
  readonly atOnce: AbortSignal;
  /** Restarts in a row without a new checkpoint between them. */
  readonly maxRestarts: number;
  /** Starts an engine; the first call may give one that was started in advance. */
  readonly startEngine?: () => EngineProcess;
  /** Of the pause before the first restart; each later one is twice as long, up to a minute. For tests. */
  readonly pauseSeconds?: number;
  /** The kernel's count of kills for want of memory; undefined where there is none. */
  readonly memoryEvents?: string | undefined;
}

/** Failures after which another try may succeed. */
const RESTARTED: readonly ExitCode[] = [ExitCode.workerFailed, ExitCode.hang, ExitCode.hostLost, ExitCode.nativeAbort];
/** But not these: the other host was waited for as long as was asked, or it has said that it will not come. */
const WILL_NOT_COME: readonly string[] = ['DTRAIN_HOST_MISSING', 'DTRAIN_HOST_FAILED'];
const MAX_PAUSE_SECONDS = 60;

/**
 * Trains as `train` does, in another process. An aborted `signal` ends the run after its step, with a checkpoint.
 * @throws DtrainError as `train` does, and where the engine itself ended; after the last restart that of the last failure.
 */
export function supervise(
  options: TrainOptions,
  signal: AbortSignal,
  supervision: Supervision,
): AsyncGenerator<TrainEvent, void> {
  return new Supervisor(options, signal, supervision).events();
}

class Supervisor {
  readonly #options: TrainOptions;
  readonly #stop: AbortSignal;
  readonly #supervision: Supervision;
  readonly #memoryEvents: string | undefined;
  /** Known once an engine has told it. */
  #runDir: string | undefined;
  /** Whether an engine has begun to train: from then on the newest checkpoint is the right one. */
  #hasBegun = false;
  #furthestStep: number | undefined;
  /** The newest checkpoint at the last failure. */
  #failedAt = -1;
  #restarts = 0;

  constructor(options: TrainOptions, stop: AbortSignal, supervision: Supervision) {
    this.#options = options;
    this.#stop = stop;
    this.#supervision = supervision;
    this.#memoryEvents = 'memoryEvents' in supervision ? supervision.memoryEvents : memoryEventsFile();
  }

  async *events(): AsyncGenerator<TrainEvent, void> {
    for (let life = 1; ; life++) {
      const failure = yield* this.#live(life);
      if (failure === undefined) return;
      await this.#beforeRestart(failure);
    }
  }

  /** One engine, from its start to its end; what it failed of. */
  async *#live(life: number): AsyncGenerator<TrainEvent, DtrainError | undefined> {
    const { startEngine = () => new EngineProcess() } = this.#supervision;
    const kills = memoryKills(this.#memoryEvents);
    const engine = startEngine();
    using watched = new WatchedEngine(engine, this.#options, this.#stop, this.#supervision.atOnce);
    try {
      if (this.#stop.aborted) throw this.#stoppedBefore();
      engine.run(this.#optionsOf(life));
      for await (const event of watched.events((runDir) => (this.#runDir = runDir))) {
        if (event.event === 'run') this.#hasBegun = true;
        if (event.event === 'step') this.#furthestStep = Math.max(event.step, this.#furthestStep ?? 0);
        yield event;
      }
    } finally {
      engine.kill(); // where whoever reads the events stops reading
      await engine.ended;
    }
    return this.#failureOf(watched, await engine.ended, kills);
  }

  /** The first life does what was asked; later ones go on in its folder. */
  #optionsOf(life: number): EngineOptions {
    const { onProgress, say, warn, onFolder, onRanks, ...data } = this.#options;
    const namesCheckpoint = data.resume !== undefined && data.resume.from !== null;
    if (life === 1 || this.#runDir === undefined || (namesCheckpoint && !this.#hasBegun)) return { ...data, life };
    return { ...data, runDir: this.#runDir, resume: { from: null }, life };
  }

  #failureOf(engine: WatchedEngine, end: EngineEnd, killsBefore: number | undefined): DtrainError | undefined {
    const { atOnce } = this.#supervision;
    if (engine.isDone) {
      if (end.code !== 0) this.#warn(`The engine did not end well after the run was finished (${endText(end)}).`);
      return undefined;
    }
    if (engine.error) return deserializeError(engine.error);
    if (atOnce.aborted) return interrupted(String(atOnce.reason), this.#safeText());
    if (this.#stop.aborted && !engine.hasRanks && engine.killedFor !== 'silence') return this.#stoppedBefore();
    const file = this.#memoryEvents;
    const killsNow = memoryKills(file);
    const areKnown = file !== undefined && killsBefore !== undefined && killsNow !== undefined;
    const kills = areKnown ? { file, before: killsBefore, now: killsNow } : undefined;
    return engineFailure({ ...engine.lastSeen(), end, memoryKills: kills }, this.#safeText());
  }

  /** Waits until it is time to try again. @throws the failure where that makes no sense, or DTRAIN_STOPPED. */
  async #beforeRestart(failure: DtrainError): Promise<void> {
    const { maxRestarts, pauseSeconds = 1 } = this.#supervision;
    const newest = this.#newestStep();
    if ((newest ?? -1) > this.#failedAt) this.#restarts = 0;
    this.#failedAt = newest ?? -1;
    const isRestarted = RESTARTED.includes(failure.exitCode) && !WILL_NOT_COME.includes(failure.code);
    if (!isRestarted || this.#stop.aborted || maxRestarts === 0) throw failure;
    if (this.#restarts >= maxRestarts) throw gaveUp(failure, maxRestarts);
    const seconds = Math.min(MAX_PAUSE_SECONDS, pauseSeconds * 2 ** this.#restarts);
    this.#restarts++;
    const from = !this.#isKeeper
      ? 'from where host 0 goes on'
      : newest === undefined
        ? 'from the beginning'
        : `from step ${newest}`;
    this.#warn(`${failure.message}\nRestart ${this.#restarts} of ${maxRestarts} in ${seconds} s, ${from}.`);
    await delay(seconds * 1000, undefined, { signal: this.#stop }).catch(() => undefined); // aborted
    if (this.#stop.aborted) throw this.#stoppedBefore();
  }

  /** Of several hosts, host 0 has the checkpoints; on the others a step that nobody had come to before counts as a new one. */
  get #isKeeper(): boolean {
    return (this.#options.hosts?.rank ?? 0) === 0;
  }

  #newestStep(): number | undefined {
    if (!this.#isKeeper) return this.#furthestStep;
    return this.#runDir === undefined ? undefined : newestStep(path.join(this.#runDir, 'checkpoints'));
  }

  #safeText(): string {
    if (!this.#isKeeper) return 'The checkpoints are those of host 0.';
    const step = this.#newestStep();
    return step === undefined ? 'No checkpoint was saved yet.' : `Last good checkpoint: step ${step}.`;
  }

  /** A stop that came while no engine was training. */
  #stoppedBefore(): DtrainError {
    const step = this.#isKeeper ? this.#newestStep() : undefined;
    const nothing =
      this.#options.resume === undefined
        ? 'before the first step; nothing was saved, and --resume starts from the beginning'
        : 'before the run went on; its checkpoints are as they were';
    const where =
      step === undefined ? nothing : `before a step; the checkpoint is ${this.#runDir}/checkpoints/step-${step}`;
    return new DtrainError('DTRAIN_STOPPED', ExitCode.stopped, `stopped on request ${where}.`);
  }

  #warn(line: string): void {
    const { warn, say } = this.#options;
    (warn ?? say)?.(line);
  }
}

/** What an engine may take to go once it has said its last word. */
const LEAVE_SECONDS = 1;
/** For the engine's own watchdog to speak first. */
const HEAD_START_SECONDS = 5;
/** What a stop may take beyond a step; and in all, before there are ranks. */
const SAVE_SECONDS = 10;
const START_STOP_SECONDS = 8;

/** An engine under watch: relays what it says, asks it to stop, and kills it when a deadline has passed. */
class WatchedEngine implements Disposable {
  isDone = false;
  error: SerializedError | undefined;
  killedFor: KilledFor | undefined;
  readonly #process: EngineProcess;
  readonly #options: TrainOptions;
  readonly #stop: AbortSignal;
  readonly #atOnce: AbortSignal;
  readonly #limits: RankLimits;
  readonly #timer: NodeJS.Timeout;
  #leaving: NodeJS.Timeout | undefined;
  #isReady = false;
  #ranks: readonly RankProgress[] = [];
  #beatAt = nowSeconds();
  /** Counted by the timer, so that a machine that slept, or a supervisor that could not run, raises no alarm. */
  #silentSeconds = 0;
  #stoppingSeconds = 0;

  constructor(process: EngineProcess, options: TrainOptions, stop: AbortSignal, atOnce: AbortSignal) {
    this.#process = process;
    this.#options = options;
    this.#stop = stop;
    this.#atOnce = atOnce;
    this.#limits = limitsOf(options.config.allReduce.timeoutSeconds);
    this.#timer = setInterval(() => this.#tick(), 1000);
    stop.addEventListener('abort', this.#onStop);
    atOnce.addEventListener('abort', this.#onAtOnce);
  }

  /** Whether it has come to where a stop saves something. */
  get hasRanks(): boolean {
    return this.#ranks.length > 0;
  }

  async *events(onFolder: (runDir: string) => void): AsyncGenerator<TrainEvent, void> {
    const { say, warn = say, onProgress } = this.#options;
    for await (const message of this.#process.messages()) {
      this.#silentSeconds = 0;
      if (message.kind === 'event') yield message.event;
      else if (message.kind === 'progress') onProgress?.(message.progress);
      else if (message.kind === 'beat') this.#beat(message.ranks);
      else if (message.kind === 'say') say?.(message.line);
      else if (message.kind === 'warn') warn?.(message.line);
      else if (message.kind === 'folder') onFolder(message.runDir);
      else if (message.kind === 'ready') this.#isReady = true;
      else if (message.kind === 'done') this.#last(() => (this.isDone = true));
      else if (message.kind === 'failed') this.#last(() => (this.error = message.error));
      else throw internalError(`a run was told ${message.kind}.`);
    }
  }

  /** For the message about its end. */
  lastSeen() {
    return {
      pid: this.#process.pid,
      ranks: this.#ranks,
      beatAgeSeconds: nowSeconds() - this.#beatAt,
      wasReady: this.#isReady,
      killedFor: this.killedFor,
      waitedSeconds: this.killedFor === 'stop' ? this.#stoppingSeconds : this.#silentSeconds,
    };
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    clearTimeout(this.#leaving);
    this.#stop.removeEventListener('abort', this.#onStop);
    this.#atOnce.removeEventListener('abort', this.#onAtOnce);
    this.#process.kill();
  }

  #beat(ranks: readonly RankProgress[]): void {
    this.#beatAt = nowSeconds();
    this.#ranks = ranks;
  }

  #last(note: () => void): void {
    note();
    this.#leaving = setTimeout(() => this.#process.kill(), LEAVE_SECONDS * 1000);
  }

  #tick(): void {
    if (this.#leaving || this.killedFor) return;
    this.#silentSeconds++;
    if (this.#stop.aborted) this.#stoppingSeconds++;
    const { timeoutSeconds, firstStepSeconds } = this.#limits;
    const hasStepped = this.#ranks.some(({ step }) => step > 0);
    const silence = this.hasRanks ? timeoutSeconds + HEAD_START_SECONDS : firstStepSeconds;
    const stepSeconds = hasStepped ? timeoutSeconds : firstStepSeconds;
    const stopping = this.hasRanks ? stepSeconds + HEAD_START_SECONDS + SAVE_SECONDS : START_STOP_SECONDS;
    if (this.#silentSeconds > silence) this.killedFor = 'silence';
    else if (this.#stoppingSeconds > stopping) this.killedFor = 'stop';
    if (this.killedFor) this.#process.kill();
  }

  readonly #onStop = (): void => this.#process.stop(String(this.#stop.reason));
  readonly #onAtOnce = (): void => this.#process.kill();
}

function gaveUp(failure: DtrainError, restarts: number): DtrainError {
  const { code, exitCode, message, rank, step, phase } = failure;
  const times = `${restarts} ${restarts === 1 ? 'restart' : 'restarts'}`;
  const place = { ...(rank !== undefined && { rank }), ...(step !== undefined && { step }), ...(phase && { phase }) };
  const text = `${message}\nGave up after ${times} without a new checkpoint.`;
  return new DtrainError(code, exitCode, text, { ...place, cause: failure });
}

function interrupted(signal: string, safe: string): DtrainError {
  const text = `ended at once by a second ${signal}; nothing new was saved. ${safe}`;
  if (signal === 'SIGTERM') return new DtrainError('DTRAIN_TERMINATED', ExitCode.terminated, text);
  return new DtrainError('DTRAIN_INTERRUPTED', ExitCode.interrupted, text);
}

function endText({ code, signal }: EngineEnd): string {
  return signal === null ? `exit code ${code}` : signal;
}
