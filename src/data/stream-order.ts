/**
 * Which images a position of the stream holds: pure functions of the position, so that decoders need nobody to tell them, and a resumed run
 * begins anywhere.
 *
 * Must stay true: the same images in the same order as `Coordinator.segment` and `Replica.evaluate` name them to a set in memory.
 */
import { type AugmentationOptions, drawMixture } from './augmentation.js';
import { type SampleOrder, sampleIds } from './sampler.js';

/** Position p is step `firstStep` + p (from 0); part i is logical shard `firstShard` + i. */
export interface TrainOrder {
  readonly samples: SampleOrder;
  readonly globalBatch: number;
  /** Images of one logical shard. */
  readonly shardBatch: number;
  readonly firstShard: number;
  /** Steps that are finished where the stream begins. */
  readonly firstStep: number;
  /** With mixtures, the partners of a shard's samples follow them. */
  readonly mixture: AugmentationOptions | null;
}

/** Position p is round p mod `rounds` of an evaluation; part i is batch `firstBatch` + round · `stride` + i. */
export interface TestOrder {
  readonly count: number;
  readonly batch: number;
  readonly firstBatch: number;
  readonly stride: number;
  readonly rounds: number;
}

/** Images of one part. */
export function trainPartImages({ shardBatch, mixture }: TrainOrder): number {
  return mixture ? 2 * shardBatch : shardBatch;
}

/** Ids of images `first` to `first + count` of a part. */
export function trainIds(
  order: TrainOrder,
  position: number,
  part: number,
  { first, count }: { readonly first: number; readonly count: number },
): number[] {
  const { samples, globalBatch, shardBatch, firstShard, firstStep, mixture } = order;
  const start = (firstStep + position) * globalBatch + (firstShard + part) * shardBatch;
  const end = first + count;
  const sampled = (from: number, to: number) => sampleIds(samples, start + from, Math.max(0, to - from));
  const own = sampled(first, Math.min(end, shardBatch)).ids;
  if (!mixture || end <= shardBatch) return [...own];
  const { ids, epochs } = sampled(Math.max(first, shardBatch) - shardBatch, end - shardBatch);
  return [...own, ...drawMixture(mixture, ids, epochs).partners];
}

/** The same of an evaluation; fewer, or none, where the test images end. */
export function testIds(
  { count: images, batch, firstBatch, stride, rounds }: TestOrder,
  position: number,
  part: number,
  { first, count }: { readonly first: number; readonly count: number },
): number[] {
  const start = (firstBatch + (position % rounds) * stride + part) * batch;
  const end = Math.min(start + batch, images, start + first + count);
  return Array.from({ length: Math.max(0, end - start - first) }, (_, i) => start + first + i);
}
