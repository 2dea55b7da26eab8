/** First values of a model's parameters, from the seed alone. */
import { fillNormal, Purpose } from '../core/philox.js';
import { type Shape, sizeOf } from '../core/shape.js';
import type { ParameterSpec } from './net.js';

/** In the order of `parameters`. The stream of a parameter is keyed by (seed, its index). */
export function initialWeights(parameters: readonly ParameterSpec[], seed: number): Float32Array[] {
  return parameters.map(({ shape, initial }, index) => {
    const values = new Float32Array(sizeOf(shape));
    if ('value' in initial) return values.fill(initial.value);
    fillNormal(values, seed, Purpose.initialization, index);
    const scaled = values.map((value) => value * initial.deviation);
    if (initial.identity) fillIdentity(scaled, shape);
    return scaled;
  });
}

/** The first filters of a kernel HWIO of odd size: 1 where filter i reads channel i of the middle, else 0. */
function fillIdentity(kernelHWIO: Float32Array, shape: Shape): void {
  const [height, width, channels, filters] = shape as [number, number, number, number];
  const copied = Math.min(channels, filters);
  const middle = (height * width - 1) / 2;
  for (let tap = 0; tap < height * width; tap++) {
    for (let channel = 0; channel < channels; channel++) {
      const start = (tap * channels + channel) * filters;
      kernelHWIO.fill(0, start, start + copied);
      if (tap === middle && channel < copied) kernelHWIO[start + channel] = 1;
    }
  }
}
