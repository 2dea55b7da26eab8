/**
 * `dtrain bench scaling`: throughput at several numbers of workers, and the efficiency against the first.
 *
 * Idea: each point is a process of its own (bench-step-process.ts), so that no point inherits the threads and caches of another.
 * Threads per worker are the same at every point: those of the largest.
 */
import type { ClusterSpec } from '../cluster/cluster-spec.js';
import type { RunConfig } from '../config/schema.js';
import { DtrainError, ExitCode } from '../core/errors.js';
import type { PhaseSeconds } from '../core/events.js';
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
  /** On all hosts together. */
  readonly workers: number;
  /** Where several hosts were measured. */
  readonly hosts?: number;
  readonly imagesPerSecond: number;
  /** throughput(N) / (N / N₀ × throughput(N₀)), N₀ the first point. */
  readonly efficiency: number;
  /** Of a step, as `bench step` tells them. */
  readonly seconds: PhaseSeconds;
}

/**
 * With several hosts, to be called on each: host 0 measures the first number of workers alone, while the others already wait for it at the
 * meeting of the next point. Each host gives the same figures but for that first point, which the others do not have.
 * @throws DTRAIN_BENCH_FAILED (exit 10) with the message of a point that failed.
 */
export async function benchScaling(options: ScalingBenchOptions): Promise<ScalingBench> {
  const { config, configName, kind, counts, hosts, say = () => undefined } = options;
  const measured: Measured[] = [];
  const measure = async (count: number, name: string, all?: ClusterSpec) => {
    const { imagesPerSecond, seconds } = await measureInProcess(pointOptions(options, count, all), name);
    say(`${name}: ${imagesPerSecond.median} images/s`);
    const numHosts = all?.addresses.length ?? 1;
    const workers = count * numHosts;
    measured.push({
      workers,
      ...(hosts && { hosts: numHosts }),
      imagesPerSecond: imagesPerSecond.median,
      seconds,
    });
  };
  const workersText = (count: number) => `${count} ${count === 1 ? 'worker' : 'workers'}`;
  if (hosts?.rank === 0) await measure(counts[0]!, `${workersText(counts[0]!)} on host 0 alone`);
  const place = hosts ? ` on each of ${hosts.addresses.length} hosts` : '';
  for (const count of counts) await measure(count, `${workersText(count)}${place}`, hosts);
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
function efficiencies(measured: readonly Measured[]): ScalingPoint[] {
  const first = measured[0];
  return measured.map(({ seconds, ...point }) => {
    const expected = (first!.imagesPerSecond * point.workers) / first!.workers;
    return { ...point, efficiency: rounded(point.imagesPerSecond / expected, 4), seconds };
  });
}

/** Options of the point with `count` workers (a host), plain data. */
function pointOptions(
  { config, configName, kind, counts, steps, warmup }: ScalingBenchOptions,
  count: number,
  hosts: ClusterSpec | undefined,
): StepBenchOptions {
  const options = { config: withThreads(config, counts), configName, devices: { kind, count }, steps, warmup };
  return hosts ? { ...options, hosts } : options;
}

function withThreads(config: RunConfig, counts: readonly number[]): RunConfig {
  const threadsPerWorker =
    config.train.threadsPerWorker ?? Math.max(1, Math.floor(availableCores() / Math.max(...counts)));
  return { ...config, train: { ...config.train, threadsPerWorker } };
}

/** @throws DTRAIN_BENCH_FAILED (exit 10), naming `point`. */
async function measureInProcess(options: StepBenchOptions, point: string): Promise<StepBench> {
  const outcome = await benchStepApart(options);
  if ('result' in outcome) return outcome.result;
  throw new DtrainError('DTRAIN_BENCH_FAILED', ExitCode.workerFailed, `bench scaling, ${point}: ${outcome.message}`);
}
