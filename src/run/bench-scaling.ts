/**
 * `dtrain bench scaling`: throughput at several numbers of workers, and the efficiency against the first.
 *
 * Idea: each point is a process of its own (bench-step-process.ts), so that no point inherits the threads and caches of another.
 * Threads per worker are the same at every point: those of the largest.
 */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { RunConfig } from '../config/schema.js';
import { DtrainError, ExitCode } from '../core/errors.js';
import type { StepBench, StepBenchOptions } from './bench-step.js';
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
  /** On all hosts together. */
  readonly workers: number;
  /** Where several hosts were measured. */
  readonly hosts?: number;
  readonly imagesPerSecond: number;
  /** throughput(N) / (N / N₀ × throughput(N₀)), N₀ the first point. */
  readonly efficiency: number;
}

/** @throws DTRAIN_BENCH_FAILED (exit 10) with the message of a point that failed. */
export async function benchScaling(options: ScalingBenchOptions): Promise<ScalingBench> {
  const { config, configName, kind, counts, say = () => undefined } = options;
  const entry = fileURLToPath(new URL('./bench-step-process.js', import.meta.url));
  const measured: Measured[] = [];
  for (const workers of counts) {
    const { imagesPerSecond } = await measureInProcess(entry, pointOptions(options, workers), `${workers} workers`);
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

type Measured = Omit<ScalingPoint, 'efficiency'>;

/** Each point against the first. */
export function efficiencies(measured: readonly Measured[]): ScalingPoint[] {
  const first = measured[0];
  return measured.map((point) => {
    const expected = (first!.imagesPerSecond * point.workers) / first!.workers;
    return { ...point, efficiency: rounded(point.imagesPerSecond / expected, 4) };
  });
}

/** Options of the point with `count` workers (a host), plain data. */
export function pointOptions(
  { config, configName, kind, counts, steps, warmup }: ScalingBenchOptions,
  count: number,
): StepBenchOptions {
  return { config: withThreads(config, counts), configName, devices: { kind, count }, steps, warmup };
}

function withThreads(config: RunConfig, counts: readonly number[]): RunConfig {
  const threadsPerWorker =
    config.train.threadsPerWorker ?? Math.max(1, Math.floor(availableCores() / Math.max(...counts)));
  return { ...config, train: { ...config.train, threadsPerWorker } };
}

const run = promisify(execFile);

/** Runs `entry` with the options as JSON in its first argument. @throws DTRAIN_BENCH_FAILED (exit 10), naming `point`. */
export async function measureInProcess(entry: string, options: object, point: string): Promise<StepBench> {
  try {
    const { stdout } = await run(process.execPath, [entry, JSON.stringify(options)], { maxBuffer: 2 ** 24 });
    return JSON.parse(stdout) as StepBench;
  } catch (error) {
    const { stderr, message } = error as Error & { stderr?: string };
    const text = `bench scaling, ${point}: ${stderr?.trim() || message}`;
    throw new DtrainError('DTRAIN_BENCH_FAILED', ExitCode.workerFailed, text);
  }
}
