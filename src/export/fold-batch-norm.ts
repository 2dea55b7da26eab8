/**
 * Batch norms folded into the convolutions before them: y = scale (conv(x) − mean) / √(variance + ε) + offset is a convolution with bias.
 * Computed in float64, rounded once. A batch norm that does not directly follow a convolution stays.
 */
import { type Layer, type NamedTensor, type Network, readCounts } from './network.js';

export function foldBatchNorm(network: Network): Network {
  const { layers } = network;
  const counts = readCounts(layers);
  const folded: Layer[] = [];
  const movedTo: number[] = [];
  for (const [index, layer] of layers.entries()) {
    const before = layer.op === 'batchNorm' ? layers[layer.x] : undefined;
    if (layer.op === 'batchNorm' && before?.op === 'conv' && counts[layer.x] === 1) {
      const at = movedTo[layer.x]!;
      folded[at] = { ...(folded[at] as typeof before), ...foldedWeights(before.kernel, before.bias, layer) };
      movedTo[index] = at;
    } else {
      movedTo[index] = folded.length;
      folded.push(moved(layer, movedTo));
    }
  }
  return { ...network, layers: folded };
}

function moved(layer: Layer, movedTo: readonly number[]): Layer {
  if (layer.op === 'input') return layer;
  if (layer.op === 'add') return { ...layer, x: movedTo[layer.x]!, y: movedTo[layer.y]! };
  return { ...layer, x: movedTo[layer.x]! };
}

function foldedWeights(
  kernel: NamedTensor,
  bias: NamedTensor | null,
  { scale, offset, mean, variance, epsilon }: Extract<Layer, { op: 'batchNorm' }>,
): { kernel: NamedTensor; bias: NamedTensor } {
  const channels = scale.values.length;
  const factor = Float64Array.from(scale.values, (value, c) => value / Math.sqrt(variance.values[c]! + epsilon));
  const values = kernel.values.map((value, i) => value * factor[i % channels]!); // channels are the last axis of HWIO
  const shift = Float32Array.from(
    factor,
    (value, c) => ((bias?.values[c] ?? 0) - mean.values[c]!) * value + offset.values[c]!,
  );
  const biasName = kernel.name.replace(/\.weight$/, '.bias');
  return { kernel: { ...kernel, values }, bias: { name: biasName, shape: [channels], values: shift } };
}
