/**
 * `dtrain bench scaling`: throughput at several numbers of workers, and the efficiency against the first.
 *
 * Idea: each point is a process of its own (bench-step-process.ts), so that no point inherits the threads and caches of another.
 * Threads per worker are the same at every point: those of the largest.
 */
import type { RunConfig } from '../config/schema.js';
import { DtrainError, ExitCode } from '../core/errors.js';
import type { StepBench, StepBenchOptions } from './bench-step.js';
import { benchStepApart } from './bench-step-apart.js';
import { rounded } from './coordinator.js';
import { availableCores } from './devices.js';

export interface ScalingBenchOptions extends Omit<StepBenchOptions, 'devices'> {
  readonly kind: 'gpu' | 'cpu';
  /** Numbers of workers, increasing. */
  readonly counts: readonly number[];
}

export interface ScalingBench {
  readonly bench: 'scaling';
  readonly config: string;
  readonly devices: 'gpu' | 'cpu';
  readonly precision: string;
  readonly points: readonly ScalingPoint[];
}

export interface ScalingPoint {
  readonly workers: number;
  readonly imagesPerSecond: number;
  /** throughput(N) / (N / N₀ × throughput(N₀)), N₀ the first point. */
  readonly efficiency: number;
}

/** @throws DTRAIN_BENCH_FAILED (exit 10) with the message of a point that failed. */
export async function benchScaling(options: ScalingBenchOptions): Promise<ScalingBench> {
  const { config, configName, kind, counts, say = () => undefined } = options;
  const measured: { workers: number; imagesPerSecond: number }[] = [];
  for (const workers of counts) {
    const { imagesPerSecond } = await measure({ ...options, config: withThreads(config, counts) }, workers);
    say(`${workers} ${workers === 1 ? 'worker' : 'workers'}: ${imagesPerSecond.median} images/s`);
    measured.push({ workers, imagesPerSecond: imagesPerSecond.median });
  }
  return {
    bench: 'scaling',
    config: configName,
    devices: kind,
    precision: config.train.precision,
    points: efficiencies(measured),
  };
}

/** Exported for tests. */
export function efficiencies(measured: readonly { workers: number; imagesPerSecond: number }[]): ScalingPoint[] {
  const first = measured[0];
  return measured.map(({ workers, imagesPerSecond }) => {
    const expected = (first!.imagesPerSecond * workers) / first!.workers;
    return { workers, imagesPerSecond, efficiency: rounded(imagesPerSecond / expected, 4) };
  });
}

function withThreads(config: RunConfig, counts: readonly number[]): RunConfig {
  const threadsPerWorker =
    config.train.threadsPerWorker ?? Math.max(1, Math.floor(availableCores() / Math.max(...counts)));
  return { ...config, train: { ...config.train, threadsPerWorker } };
}

async function measure(
  { config, configName, kind, steps, warmup }: ScalingBenchOptions,
  count: number,
): Promise<StepBench> {
  const outcome = await benchStepApart({ config, configName, devices: { kind, count }, steps, warmup });
  if ('result' in outcome) return outcome.result;
  const text = `bench scaling, ${count} workers: ${outcome.message}`;
  throw new DtrainError('DTRAIN_BENCH_FAILED', ExitCode.workerFailed, text);
}
