/**
 * All that training changes, as one float32 array in shared memory: how state passes between the main thread and the ranks.
 *
 *   ┌ parameters (flat) ┬ each slot of the optimizer (flat) ┬ running means ┬ running variances ┐
 *   with train.ema then: ┌ averaged parameters (flat) ┬ averaged means ┬ averaged variances ┐
 *
 * The main thread writes the initial or loaded state before the ranks start; a rank writes its state there when asked.
 */

import { sizeOf } from '../core/shape.js';
import { allocateSharedMemory } from '../core/shared-memory.js';
import type { RowLayout } from './row-layout.js';

/** Floats of the whole state. */
export function stateLength({ numGradients, numChannels, slots, averages }: RowLayout): number {
  const copies = averages ? 2 : 1;
  return (copies + slots.length) * numGradients + copies * 2 * numChannels;
}

/** Zeroed state in shared memory. */
export function allocateState(layout: RowLayout): Float32Array {
  const length = stateLength(layout);
  return new Float32Array(allocateSharedMemory(length * Float32Array.BYTES_PER_ELEMENT).buffer, 0, length);
}

/** Views of the parts of a state; writing to them writes to it. */
export interface StateViews {
  readonly parameters: readonly Float32Array[];
  /** Of each slot of the optimizer, of each parameter. */
  readonly slots: readonly (readonly Float32Array[])[];
  /** The first slot, which every optimizer has. */
  readonly momenta: readonly Float32Array[];
  /** Means of all layers, then variances of all layers. */
  readonly statistics: Float32Array;
  /** Per batch norm. */
  readonly means: readonly Float32Array[];
  readonly variances: readonly Float32Array[];
  /** Undefined without train.ema. */
  readonly averages: AverageViews | undefined;
}

export interface AverageViews {
  readonly parameters: readonly Float32Array[];
  readonly statistics: Float32Array;
  readonly means: readonly Float32Array[];
  readonly variances: readonly Float32Array[];
}

export function stateViews(state: Float32Array, layout: RowLayout): StateViews {
  const { parameterShapes, numGradients, channels, numChannels } = layout;
  const sizes = parameterShapes.map(sizeOf);
  const statisticsOf = (at: number) => ({
    statistics: state.subarray(at, at + 2 * numChannels),
    means: slices(state, at, channels),
    variances: slices(state, at + numChannels, channels),
  });
  const slots = layout.slots.map((_, i) => slices(state, (i + 1) * numGradients, sizes));
  const statisticsAt = (1 + slots.length) * numGradients;
  const averagesAt = statisticsAt + 2 * numChannels;
  return {
    parameters: slices(state, 0, sizes),
    slots,
    momenta: slots[0]!,
    ...statisticsOf(statisticsAt),
    averages: layout.averages
      ? { parameters: slices(state, averagesAt, sizes), ...statisticsOf(averagesAt + numGradients) }
      : undefined,
  };
}

function slices(state: Float32Array, start: number, sizes: readonly number[]): Float32Array[] {
  let at = start;
  return sizes.map((size) => {
    at += size;
    return state.subarray(at - size, at);
  });
}
