/**
 * A trained network as a short list of layers with their weights: what every export is written from.
 *
 * Idea: the list is read off the recording of the model's own code in evaluation mode, so there is no second description of a model to
 * keep in step; an operation that is not in the closed set below is refused by name. Layouts are tfjs's: images NHWC, kernels HWIO.
 * Must stay true: weights and nothing else decide what is in it, so equal weights give equal exports.
 */
import type { Shape } from '../core/shape.js';

/** Values with the name that torchvision gives them, or one made of the layer's where they were computed. */
export interface NamedTensor {
  readonly name: string;
  readonly shape: Shape;
  readonly values: Float32Array;
}

/** Zeros, or another value, before and after along height and width and channels. */
export type Padding = readonly [before: number, after: number];

interface Base {
  /** Unique in the network, of letters, digits, `_` and `/`. */
  readonly name: string;
  /** Of the result for one image, without the axis of images: [H, W, C] or [C]. */
  readonly shape: Shape;
}
interface Unary extends Base {
  /** Index of the layer whose result it reads. */
  readonly x: number;
}
interface Window extends Unary {
  readonly size: readonly [height: number, width: number];
  readonly stride: readonly [height: number, width: number];
  /** Rows above and below, columns left and right. */
  readonly padding: readonly [rows: Padding, columns: Padding];
}

export type Layer =
  /** The images, float32, pixels from 0 to 255. */
  | (Base & { readonly op: 'input' })
  /** x · factor + shift, a number a channel. */
  | (Unary & { readonly op: 'affine'; readonly factor: NamedTensor; readonly shift: NamedTensor })
  | (Window & { readonly op: 'conv'; readonly kernel: NamedTensor; readonly bias: NamedTensor | null })
  | (Unary & {
      readonly op: 'batchNorm';
      readonly scale: NamedTensor;
      readonly offset: NamedTensor;
      readonly mean: NamedTensor;
      readonly variance: NamedTensor;
      readonly epsilon: number;
    })
  | (Window & { readonly op: 'maxPool' | 'averagePool' })
  | (Unary & { readonly op: 'relu' })
  | (Unary & { readonly op: 'add'; readonly y: number })
  /** x + bias, a number a channel. */
  | (Unary & { readonly op: 'bias'; readonly bias: NamedTensor })
  /** Along height, width and channels. */
  | (Unary & { readonly op: 'pad'; readonly paddings: readonly [Padding, Padding, Padding]; readonly value: number })
  /** Mean over height and width. */
  | (Unary & { readonly op: 'globalAverage' })
  /** [H, W, C] to [H · W · C]. */
  | (Unary & { readonly op: 'flatten' })
  | (Unary & { readonly op: 'dense'; readonly weight: NamedTensor });

export interface Network {
  /** Each reads only earlier ones; the last one gives the logits. */
  readonly layers: readonly Layer[];
  readonly imageSize: readonly [height: number, width: number];
  readonly classes: readonly string[];
}

/** How often each layer's result is read. */
export function readCounts(layers: readonly Layer[]): number[] {
  const counts = layers.map(() => 0);
  for (const layer of layers) {
    if (layer.op === 'input') continue;
    counts[layer.x]! += 1;
    if (layer.op === 'add') counts[layer.y]! += 1;
  }
  return counts;
}
