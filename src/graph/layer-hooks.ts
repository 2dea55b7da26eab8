/**
 * Hooks into tfjs-layers: which layer is being called, for messages, and batch normalisation in other hands.
 *
 * Why: a layer's own batch normalisation is some fifty operations and moves its averages by assignment; in a step of dtrain the fused
 * operation takes its place and the averages move after the all-reduce (train/step-program.ts).
 */
import type { layers } from '@tensorflow/tfjs';
import { type Tensor, tf, type Variable } from './tfjs.js';
import { insideLayer } from './user-code.js';

/** A layer's weight, as tfjs-layers keeps it. */
export interface LayerWeight {
  readonly val: Variable;
  /** `conv2d_Conv2D1/kernel`, without the number that tells it from a weight of an earlier layer of that name. */
  readonly originalName: string;
  readonly constraint?: object | null;
}

/** What a batch normalisation layer is made of. */
export interface BatchNormLayer {
  readonly name: string;
  /** The axis of channels; may be negative. */
  readonly axis: number;
  readonly epsilon: number;
  /** Part of the moving average that is kept. */
  readonly momentum: number;
  readonly gamma?: LayerWeight;
  readonly beta?: LayerWeight;
  readonly movingMean: LayerWeight;
  readonly movingVariance: LayerWeight;
}

/** Batch normalisation of `x`, as in training or as in evaluation: the one who takes over knows which. */
export type Normalizer = (layer: BatchNormLayer, x: Tensor) => Tensor;

let normalizer: Normalizer | undefined;

/** Runs `run` with all batch normalisation layers in the hands of `own`. */
export function withNormalizer<T>(own: Normalizer, run: () => T): T {
  const outer = normalizer;
  normalizer = own;
  try {
    return run();
  } finally {
    normalizer = outer;
  }
}

const names = new WeakMap<Variable, string>();

/** The name that a layer gave to its weight (LayerWeight.originalName); undefined for a variable of no layer. */
export function weightName(variable: Variable): string | undefined {
  return names.get(variable);
}

type AddWeight = (this: layers.Layer, ...args: unknown[]) => LayerWeight;
type Call = (this: BatchNormLayer, inputs: Tensor | Tensor[], kwargs: object) => Tensor;
type Apply = (this: layers.Layer, ...args: unknown[]) => unknown;

/** Once a thread, by startEngine. */
export function installLayerHooks(): void {
  const layer = tf.layers.Layer.prototype as unknown as { apply: Apply; addWeight: AddWeight };
  const { apply, addWeight } = layer;
  layer.addWeight = function (...args) {
    const weight = addWeight.apply(this, args);
    names.set(weight.val, weight.originalName);
    return weight;
  };
  layer.apply = function (...args) {
    return insideLayer(this.name, () => apply.apply(this, args));
  };
  const batchNorm = Object.getPrototypeOf(tf.layers.batchNormalization()) as { call: Call };
  const { call } = batchNorm;
  batchNorm.call = function (inputs, kwargs) {
    if (!normalizer) return call.call(this, inputs, kwargs);
    return normalizer(this, Array.isArray(inputs) ? inputs[0]! : inputs);
  };
}
