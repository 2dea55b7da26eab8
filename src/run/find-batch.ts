/**
 * `dtrain find batch`: the largest global batch that fits into memory, and the fastest one on the way there.
 *
 * Idea: batches are doubled until one does not fit, then the gap is halved; each is tried by real steps in a process of its own
 * (bench-step-apart.ts), so that running out of memory costs a trial and not the search.
 * Must stay true: on a CPU a batch is not tried when the trials before it say that it would take the machine's memory: there running
 * out of memory ends processes that have nothing to do with it.
 */
import type { RunConfig } from '../config/schema.js';
import { DtrainError, ExitCode } from '../core/errors.js';
import type { StepBench } from './bench-step.js';
import { type ApartOutcome, benchStepApart } from './bench-step-apart.js';
import type { DeviceRequest } from './devices.js';

export interface BatchSearchOptions {
  readonly config: RunConfig;
  readonly configName: string;
  readonly devices: DeviceRequest | null;
  /** No larger one is tried. */
  readonly max: number;
  /** Timed steps of a trial, after one that is not. */
  readonly steps: number;
  readonly say?: (line: string) => void;
}

export interface BatchPoint {
  readonly globalBatch: number;
  readonly imagesPerSecond: number;
  readonly peakRssBytes: number;
}

export interface BatchSearch {
  readonly find: 'batch';
  readonly config: string;
  readonly devices: 'cpu' | 'gpu';
  readonly workers: number;
  readonly precision: string;
  /** In the order of their size. */
  readonly points: readonly BatchPoint[];
  /** The largest that fits. */
  readonly largest: number;
  /** What ended the search: memory, or --max. */
  readonly limit: 'memory' | 'max';
  /** The one with the most images a second. */
  readonly fastest: number;
}

export interface SearchLimits {
  /** Batches are multiples of it. */
  readonly unit: number;
  readonly first: number;
  readonly max: number;
}

/** The gap between the largest that fits and the smallest that does not, as a part of the former, at which a search ends. */
const PRECISION = 1 / 8;
/** Part of the free memory that a trial on a CPU may be expected to take. */
const MEMORY_PART = 0.8;

/**
 * @throws DTRAIN_OUT_OF_MEMORY (exit 9) when not even the configuration's own batch fits; DTRAIN_BENCH_FAILED (exit 10) when a trial fails for
 * another reason than memory.
 */
export async function findBatch(options: BatchSearchOptions): Promise<BatchSearch> {
  const { config, configName, max, say = () => undefined } = options;
  const results: StepBench[] = [];
  const freeBytes = process.availableMemory();
  const first = config.train.globalBatch;
  const fits = async (globalBatch: number) => {
    if (isTooMuch(results, globalBatch, freeBytes)) {
      say(`batch ${globalBatch}: not tried, it would not fit into memory`);
      return false;
    }
    const outcome = await trial(options, globalBatch);
    if (!('result' in outcome)) {
      if (!isOutOfMemory(outcome)) throw failed(globalBatch, outcome.message);
      say(`batch ${globalBatch}: does not fit into memory`);
      return false;
    }
    results.push(outcome.result);
    say(`batch ${globalBatch}: ${outcome.result.imagesPerSecond.median} images/s`);
    return true;
  };
  const { largest, limit } = await searchLargest({ unit: first, first, max }, fits);
  if (largest === null) throw doesNotFit(first);
  const points = results
    .map(({ globalBatch, imagesPerSecond: { median }, peakRssBytes }) => ({
      globalBatch,
      imagesPerSecond: median,
      peakRssBytes,
    }))
    .sort((a, b) => a.globalBatch - b.globalBatch);
  const fastest = points.reduce((best, point) => (point.imagesPerSecond > best.imagesPerSecond ? point : best));
  const { devices, workers } = results[0]!;
  const { precision } = config.train;
  const found = { points, largest, limit, fastest: fastest.globalBatch };
  return { find: 'batch', config: configName, devices, workers, precision, ...found };
}

/**
 * The largest multiple of `unit` from `first` to `max` for which `fits` holds, up to PRECISION; `fits` is taken to hold for all below it.
 * Exported for tests.
 */
export async function searchLargest(
  { unit, first, max }: SearchLimits,
  fits: (batch: number) => Promise<boolean>,
): Promise<{ largest: number | null; limit: 'memory' | 'max' }> {
  let fitting = 0;
  let tooLarge = first;
  while (tooLarge <= max && (await fits(tooLarge))) {
    fitting = tooLarge;
    tooLarge *= 2;
  }
  if (tooLarge > max || fitting === 0) return { largest: fitting || null, limit: fitting === 0 ? 'memory' : 'max' };
  while (tooLarge - fitting > PRECISION * fitting) {
    const middle = Math.round((fitting + tooLarge) / 2 / unit) * unit;
    if (middle <= fitting || middle >= tooLarge) break;
    if (await fits(middle)) fitting = middle;
    else tooLarge = middle;
  }
  return { largest: fitting, limit: 'memory' };
}

/** Memory grows by so much an image, as the trials so far have shown. Exported for tests. */
export function isTooMuch(
  results: readonly Pick<StepBench, 'devices' | 'globalBatch' | 'peakRssBytes'>[],
  globalBatch: number,
  freeBytes: number,
): boolean {
  const bySize = [...results].sort((a, b) => a.globalBatch - b.globalBatch);
  const [before, last] = bySize.slice(-2);
  if (before === undefined || last === undefined || last.devices === 'gpu') return false;
  const bytesAnImage = (last.peakRssBytes - before.peakRssBytes) / (last.globalBatch - before.globalBatch);
  return last.peakRssBytes + bytesAnImage * (globalBatch - last.globalBatch) > MEMORY_PART * freeBytes;
}

function trial({ config, configName, devices, steps }: BatchSearchOptions, globalBatch: number): Promise<ApartOutcome> {
  const own = { ...config, train: { ...config.train, globalBatch } };
  return benchStepApart({ config: own, configName, devices, steps, warmup: 0 });
}

/** By its own word, or ended by the kernel, which says nothing. */
function isOutOfMemory(outcome: Exclude<ApartOutcome, { result: StepBench }>): boolean {
  return outcome.exitCode === ExitCode.outOfMemory || outcome.signal === 'SIGKILL';
}

function failed(globalBatch: number, message: string): DtrainError {
  return new DtrainError('DTRAIN_BENCH_FAILED', ExitCode.workerFailed, `find batch, batch ${globalBatch}: ${message}`);
}

function doesNotFit(globalBatch: number): DtrainError {
  const text = `find batch: train.globalBatch=${globalBatch}, the first to be tried, does not fit into memory. Begin with a smaller one, or set train.precision=bfloat16.`;
  return new DtrainError('DTRAIN_OUT_OF_MEMORY', ExitCode.outOfMemory, text);
}
