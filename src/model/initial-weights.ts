/** First values of a model's parameters, from the seed alone. */
import { fillNormal, Purpose } from '../core/philox.js';
import { sizeOf } from '../core/shape.js';
import type { ParameterSpec } from './net.js';

/** In the order of `parameters`. The stream of a parameter is keyed by (seed, its index). */
export function initialWeights(parameters: readonly ParameterSpec[], seed: number): Float32Array[] {
  return parameters.map(({ shape, initial }, index) => {
    const values = new Float32Array(sizeOf(shape));
    if ('value' in initial) return values.fill(initial.value);
    fillNormal(values, seed, Purpose.initialization, index);
    return values.map((value) => value * initial.deviation);
  });
}
