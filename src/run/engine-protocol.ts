/**
 * What the supervisor and the engine's process say to each other over a pipe, as structured clones.
 *
 *   supervisor              engine
 *     run, or bench ───▶      once: what to train, or to time
 *     stop    ─────────▶      finish the step, save, end
 *             ◀─────────      ready: its modules are loaded
 *             ◀─────────      folder: where the run is kept
 *             ◀─────────      beat, once a second: what each rank does
 *             ◀─────────      say, warn, progress, event: for whoever watches
 *             ◀─────────      done, benched, or failed: the last one, when all files are closed
 *
 * Must stay true: an end without `done` is no success, whatever the exit code.
 */
import type { RankProgress } from '../collective/progress.js';
import type { SerializedError } from '../core/errors.js';
import type { TrainEvent } from '../core/events.js';
import type { StepBench, StepBenchOptions } from './bench-step.js';
import type { TrainOptions, TrainProgress } from './train.js';

/** What of the options is data. */
export type EngineOptions = Omit<TrainOptions, 'onProgress' | 'say' | 'warn' | 'onFolder' | 'onRanks'>;

export type EngineBenchOptions = Omit<StepBenchOptions, 'say'>;

export type ToEngine =
  | { readonly kind: 'run'; readonly options: EngineOptions }
  | { readonly kind: 'bench'; readonly options: EngineBenchOptions }
  | { readonly kind: 'stop'; readonly reason: string };

export type FromEngine =
  | { readonly kind: 'ready' }
  | { readonly kind: 'folder'; readonly runDir: string }
  /** Empty before there are ranks. */
  | { readonly kind: 'beat'; readonly ranks: readonly RankProgress[] }
  | { readonly kind: 'say'; readonly line: string }
  | { readonly kind: 'warn'; readonly line: string }
  | { readonly kind: 'progress'; readonly progress: TrainProgress }
  | { readonly kind: 'event'; readonly event: TrainEvent }
  | { readonly kind: 'done' }
  | { readonly kind: 'benched'; readonly result: StepBench }
  | { readonly kind: 'failed'; readonly error: SerializedError };
