/**
 * What a row of the all-reduce holds: all that the shards of a step have to agree on.
 *
 *   ┌ gradients ────────────┬ batch means ┬ batch variances ┬ loss ┬ correct ┐
 *   │ parameter after       │ batch norm after batch norm   │ 1    │ 1       │
 *
 * Idea: the mean over shards of the gradient, of the batch statistics (which move the running averages), of the loss and of the
 * fraction of right answers all come from the one all-reduce, so every rank knows them and decides alike.
 */
import { LOW_PER_LINE } from '../collective/gradient-arena.js';
import { type Shape, sizeOf } from '../core/shape.js';

export interface RowLayout {
  /** Of each parameter, in the order of the row. */
  readonly parameterShapes: readonly Shape[];
  readonly numGradients: number;
  /** Channels of each batch norm, in order. */
  readonly channels: readonly number[];
  /** Sum of `channels`. */
  readonly numChannels: number;
  /** Indices into the row. */
  readonly loss: number;
  readonly correct: number;
  /** What the optimizer keeps of each parameter (optim/optimizer.ts). */
  readonly slots: readonly string[];
  /** Whether running averages of weights and statistics are kept. */
  readonly averages: boolean;
  /** Elements. */
  readonly length: number;
  /** How many of them, gradients all, leave `compute` in bfloat16 and travel so (allReduce.dtype); they are the first. */
  readonly lowLength: number;
}

export interface RowLayoutOptions extends Pick<RowLayout, 'slots' | 'averages'> {
  /** Gradients in bfloat16: all but the last few, so that what follows them begins at a cache line. */
  readonly lowGradients?: boolean;
}

export function rowLayout(
  parameterShapes: readonly Shape[],
  channels: readonly number[],
  { slots, averages, lowGradients = false }: RowLayoutOptions = { slots: ['momentum'], averages: false },
): RowLayout {
  const numGradients = parameterShapes.reduce((sum, shape) => sum + sizeOf(shape), 0);
  const numChannels = channels.reduce((sum, count) => sum + count, 0);
  const loss = numGradients + 2 * numChannels;
  const lowLength = lowGradients ? numGradients - (numGradients % LOW_PER_LINE) : 0;
  const row = { numGradients, channels, numChannels, loss, correct: loss + 1, length: loss + 2, lowLength };
  return { parameterShapes, ...row, slots, averages };
}
