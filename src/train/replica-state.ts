/**
 * All that training changes, as one float32 array in shared memory: how state passes between the main thread and the ranks.
 *
 *   ┌ parameters (flat) ┬ momenta (flat) ┬ running means ┬ running variances ┐
 *
 * The main thread writes the initial or loaded state before the ranks start; a rank writes its state there when asked.
 */

import { sizeOf } from '../core/shape.js';
import { allocateSharedMemory } from '../core/shared-memory.js';
import type { RowLayout } from './row-layout.js';

/** Floats of the whole state. */
export function stateLength({ numGradients, numChannels }: RowLayout): number {
  return 2 * numGradients + 2 * numChannels;
}

/** Zeroed state in shared memory. */
export function allocateState(layout: RowLayout): Float32Array {
  const length = stateLength(layout);
  return new Float32Array(allocateSharedMemory(length * Float32Array.BYTES_PER_ELEMENT).buffer, 0, length);
}

/** Views of the parts of a state; writing to them writes to it. */
export interface StateViews {
  readonly parameters: readonly Float32Array[];
  readonly momenta: readonly Float32Array[];
  /** Means of all layers, then variances of all layers. */
  readonly statistics: Float32Array;
  /** Per batch norm. */
  readonly means: readonly Float32Array[];
  readonly variances: readonly Float32Array[];
}

export function stateViews(state: Float32Array, layout: RowLayout): StateViews {
  const { parameterShapes, numGradients, channels, numChannels } = layout;
  const sizes = parameterShapes.map(sizeOf);
  const statisticsAt = 2 * numGradients;
  return {
    parameters: slices(state, 0, sizes),
    momenta: slices(state, numGradients, sizes),
    statistics: state.subarray(statisticsAt, statisticsAt + 2 * numChannels),
    means: slices(state, statisticsAt, channels),
    variances: slices(state, statisticsAt + numChannels, channels),
  };
}

function slices(state: Float32Array, start: number, sizes: readonly number[]): Float32Array[] {
  let at = start;
  return sizes.map((size) => {
    at += size;
    return state.subarray(at - size, at);
  });
}
