/**
 * `dtrain bench step`: how long a training step takes, by phases, on this machine.
 * Warm-up is not timed; every step ends with the update, which on CPUs is complete when the call returns; the last one of a segment is on GPUs too.
 */
import type { ClusterSpec } from '../cluster/cluster-spec.js';
import type { RunConfig } from '../config/schema.js';
import { nowSeconds, processStartedAt } from '../core/clock.js';
import { PHASES, type PhaseSeconds } from '../core/events.js';
import { median, type Spread, spread } from '../core/statistics.js';
import { assemble } from './assemble.js';
import { Coordinator, medians, rounded } from './coordinator.js';
import type { DeviceRequest } from './devices.js';
import { peakRssBytes } from './peak-memory.js';

export interface StepBenchOptions {
  readonly config: RunConfig;
  readonly configName: string;
  readonly devices: DeviceRequest | null;
  /** Timed steps, and steps before them that are not. */
  readonly steps: number;
  readonly warmup: number;
  readonly say?: (line: string) => void;
  /** Where this host is one of several. */
  readonly hosts?: ClusterSpec;
  /** When the command began, on the monotonic clock; absent: when this process did. */
  readonly startedAt?: number;
}

export interface StepBench {
  readonly bench: 'step';
  readonly config: string;
  readonly devices: 'cpu' | 'gpu';
  readonly workers: number;
  readonly globalBatch: number;
  readonly precision: string;
  readonly steps: number;
  readonly imagesPerSecond: Spread;
  readonly secondsPerStep: { readonly median: number };
  readonly seconds: PhaseSeconds;
  readonly flopsPerImage: number;
  /** From the start of the command to the end of the first step. */
  readonly startSeconds: number;
  /** The sum of the peaks of the command's processes. */
  readonly peakRssBytes: number;
}

/** Forward and backward: three times the forward pass, two operations a multiply-add. */
const FLOPS_PER_MULTIPLY_ADD = 6;

/** @throws what assembling and training throw. */
export async function benchStep(options: StepBenchOptions): Promise<StepBench> {
  const { config, configName, steps, warmup, say = () => undefined } = options;
  const command = `dtrain bench step --config ${configName}`;
  const assembly = await assemble({ ...options, command, say, fallBackToSynthetic: true });
  try {
    const coordinator = new Coordinator(assembly);
    await coordinator.runSegment(0, 1);
    const startSeconds = nowSeconds() - (options.startedAt ?? processStartedAt());
    if (warmup > 0) await coordinator.runSegment(1, 1 + warmup);
    const begun = nowSeconds();
    const { phaseSeconds } = await coordinator.runSegment(1 + warmup, 1 + warmup + steps);
    const wallSeconds = nowSeconds() - begun;
    await assembly.hosts?.leave();
    const stepSeconds = secondsOfSteps(phaseSeconds, wallSeconds);
    const { globalBatch, precision } = config.train;
    const rates = spread(stepSeconds.map((seconds) => globalBatch / seconds));
    return {
      bench: 'step',
      config: configName,
      devices: assembly.devices.kind,
      workers: assembly.batch.world,
      globalBatch,
      precision,
      steps,
      imagesPerSecond: { median: rounded(rates.median, 1), min: rounded(rates.min, 1), max: rounded(rates.max, 1) },
      secondsPerStep: { median: rounded(median(stepSeconds), 6) },
      seconds: medians(phaseSeconds),
      flopsPerImage: FLOPS_PER_MULTIPLY_ADD * assembly.model.multiplyAdds,
      startSeconds: rounded(startSeconds, 3),
      peakRssBytes: peakRssBytes(),
    };
  } catch (error) {
    const named = (await assembly.hosts?.named(error)) ?? error;
    await assembly.hosts?.abort(named);
    throw named;
  } finally {
    await assembly.close();
  }
}

/**
 * Seconds of each step: its phases of the slowest ranks, scaled so that all steps together last as long as they really did.
 * Slower phases of different ranks may overlap, so their sum alone would overstate a step.
 */
function secondsOfSteps(phaseSeconds: Float64Array, wallSeconds: number): number[] {
  const numSteps = phaseSeconds.length / PHASES.length;
  const sums = Array.from({ length: numSteps }, (_, step) =>
    phaseSeconds.subarray(step * PHASES.length, (step + 1) * PHASES.length).reduce((a, b) => a + b, 0),
  );
  const total = sums.reduce((a, b) => a + b, 0);
  return sums.map((seconds) => (seconds * wallSeconds) / total);
}
