/**
 * `dtrain find lr`: the learning rate range test.
 *
 * Idea: train with a rate that grows by a constant factor from step to step, and see at which rates the loss falls fastest and where it
 * begins to rise. Source: Smith, "Cyclical Learning Rates for Training Neural Networks", arXiv 1506.01186, section 3.3.
 * Nothing is saved; a loss that is no number ends the test and is no error.
 */
import type { RunConfig } from '../config/schema.js';
import { DtrainError } from '../core/errors.js';
import { assemble } from './assemble.js';
import { Coordinator } from './coordinator.js';
import type { DeviceRequest } from './devices.js';

export interface LearningRateOptions {
  readonly config: RunConfig;
  readonly configName: string;
  readonly devices: DeviceRequest | null;
  /** Of the first step, and of the last if the test comes so far. */
  readonly min: number;
  readonly max: number;
  readonly steps: number;
  readonly say?: (line: string) => void;
  readonly onProgress?: (point: RatePoint) => void;
}

export interface RatePoint {
  readonly step: number;
  readonly learningRate: number;
  /** Of the step's batch, before the update. */
  readonly loss: number;
}

export interface LearningRateSweep {
  readonly find: 'lr';
  readonly config: string;
  readonly globalBatch: number;
  readonly points: readonly RatePoint[];
  /** Up to where the smoothed loss falls: for the highest rate of a schedule. Null where it never falls. */
  readonly suggestion: number | null;
  /** Where it falls fastest. */
  readonly steepest: number | null;
  /** The test ended early, because the loss rose without bounds. */
  readonly diverged: boolean;
}

/** A recent loss this many times the least one ends the test. */
const DIVERGED_FACTOR = 2;
/** Weight of the past in the recent loss. */
const PAST_WEIGHT = 0.7;
/** Points on each side that a smoothed loss is the mean of, as a part of all points; the weight falls off to the sides. */
const SMOOTHING_PART = 0.08;
/** A smoothed loss this many times the least one before it ends the part of the curve that is looked at. */
const RISEN_FACTOR = 1.25;

/** @throws what assembling and training throw, but DTRAIN_DIVERGED. */
export async function findLearningRate(options: LearningRateOptions): Promise<LearningRateSweep> {
  const { config, configName, min, max, steps, say = () => undefined, onProgress } = options;
  const command = `dtrain find lr --config ${configName}`;
  const assembly = await assemble({ ...options, command, say, fallBackToSynthetic: true });
  try {
    const rateAt = (step: number) => min * (max / min) ** (step / (steps - 1));
    const coordinator = new Coordinator(assembly, rateAt);
    const points: RatePoint[] = [];
    let diverged = false;
    for (let step = 0; step < steps && !diverged; step++) {
      const loss = await lossOfStep(coordinator, step);
      diverged = loss === undefined || hasRisen([...points.map((point) => point.loss), loss]);
      if (loss === undefined) break;
      points.push({ step: step + 1, learningRate: rateAt(step), loss });
      onProgress?.(points.at(-1)!);
    }
    const { globalBatch } = config.train;
    return { find: 'lr', config: configName, globalBatch, points, ...suggestedRates(points), diverged };
  } finally {
    await assembly.close();
  }
}

/** Undefined where it is no number. */
async function lossOfStep(coordinator: Coordinator, step: number): Promise<number | undefined> {
  try {
    return (await coordinator.runSegment(step, step + 1)).losses[0]!;
  } catch (error) {
    if (error instanceof DtrainError && error.code === 'DTRAIN_DIVERGED') return undefined;
    throw error;
  }
}

function hasRisen(losses: readonly number[]): boolean {
  let recent = losses[0]!;
  let least = recent;
  for (const loss of losses) {
    recent = PAST_WEIGHT * recent + (1 - PAST_WEIGHT) * loss;
    least = Math.min(least, recent);
  }
  return recent > DIVERGED_FACTOR * least;
}

/** Exported for tests. */
export function suggestedRates(points: readonly RatePoint[]): Pick<LearningRateSweep, 'suggestion' | 'steepest'> {
  const reach = Math.max(1, Math.round(SMOOTHING_PART * points.length));
  const smooth = untilRisen(
    smoothed(
      points.map(({ loss }) => loss),
      reach,
    ),
  );
  const least = smooth.indexOf(Math.min(...smooth));
  let steepest = -1;
  let slope = 0;
  for (let i = reach; i + reach < smooth.length && i < least; i++) {
    const found = smooth[i + reach]! - smooth[i - reach]!; // across the same factor of rates everywhere
    if (found < slope) [steepest, slope] = [i, found];
  }
  if (steepest < 0) return { suggestion: null, steepest: null };
  return { suggestion: points[least]!.learningRate, steepest: points[steepest]!.learningRate };
}

function untilRisen(losses: readonly number[]): readonly number[] {
  let least = Number.POSITIVE_INFINITY;
  const end = losses.findIndex((loss) => {
    least = Math.min(least, loss);
    return loss > RISEN_FACTOR * least;
  });
  return end < 0 ? losses : losses.slice(0, end);
}

/** Of each place the mean over `reach` places to either side, so that a fall stays at its rate. */
function smoothed(losses: readonly number[], reach: number): number[] {
  return losses.map((_, i) => {
    let [sum, weights] = [0, 0];
    for (let j = Math.max(0, i - reach); j <= Math.min(losses.length - 1, i + reach); j++) {
      const weight = 1 + reach - Math.abs(i - j);
      sum += weight * losses[j]!;
      weights += weight;
    }
    return sum / weights;
  });
}
