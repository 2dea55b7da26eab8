/**
 * `dtrain bench scaling --hosts`: throughput on all hosts, against that of the first host alone. Run it on every host.
 *
 * Idea: host 0 measures the first number of workers alone, while the others already wait for it at the meeting of the next point; every further
 * point is one process a host. Each host gives the same figures but for the first point, which the others do not have.
 */
import { fileURLToPath } from 'node:url';
import {
  efficiencies,
  measureInProcess,
  pointOptions,
  type ScalingBench,
  type ScalingBenchOptions,
  type ScalingPoint,
} from '../run/bench-scaling.js';
import type { StepBenchOptions } from '../run/bench-step.js';
import type { ClusterSpec } from './cluster-spec.js';

export interface HostsBenchOptions extends ScalingBenchOptions {
  readonly spec: ClusterSpec;
}

/** What bench-hosts-process.ts is given. Plain data; without a spec, one host. */
export interface HostsBenchTask {
  readonly options: StepBenchOptions;
  readonly spec: ClusterSpec | null;
}

/** @throws DTRAIN_BENCH_FAILED (exit 10) with the message of a point that failed. */
export async function benchScalingOnHosts(options: HostsBenchOptions): Promise<ScalingBench> {
  const { spec, config, configName, kind, counts, say = () => undefined } = options;
  const measured: Omit<ScalingPoint, 'efficiency'>[] = [];
  const measure = async (count: number, hosts: ClusterSpec | null) => {
    const numHosts = hosts?.addresses.length ?? 1;
    const name = `${count} ${count === 1 ? 'worker' : 'workers'} on ${numHosts === 1 ? 'host 0 alone' : `each of ${numHosts} hosts`}`;
    const entry = fileURLToPath(new URL('./bench-hosts-process.js', import.meta.url));
    const task: HostsBenchTask = { options: pointOptions(options, count), spec: hosts };
    const { imagesPerSecond } = await measureInProcess(entry, task, name);
    say(`${name}: ${imagesPerSecond.median} images/s`);
    measured.push({ workers: count * numHosts, hosts: numHosts, imagesPerSecond: imagesPerSecond.median });
  };
  if (spec.rank === 0) await measure(counts[0]!, null);
  for (const count of counts) await measure(count, spec);
  const { precision } = config.train;
  return { bench: 'scaling', config: configName, devices: kind, precision, points: efficiencies(measured) };
}
