/**
 * Stochastic gradient descent with momentum, in place, inside a recorded function.
 *
 *   gradient ← gradient + weightDecay · parameter
 *   momentum ← μ · momentum + gradient
 *   parameter ← parameter − learningRate · momentum          (Nesterov: − learningRate · (gradient + μ · momentum))
 *
 * This is PyTorch's SGD, also when the learning rate changes (Sutskever et al. 2013 fold the rate into the momentum; the paper's
 * Caffe does as well). Decay is coupled and applies to every parameter, as in the paper.
 */
import type { Engine, RecordedInput } from '../graph/engine.js';
import { type Tensor, tf } from '../graph/tfjs.js';
import { attr, FLOAT_T } from '../tensorflow/attribute.js';
import type { Operation } from '../tensorflow/graph-builder.js';

export interface SgdOptions {
  /** μ, in [0, 1). */
  readonly momentum: number;
  readonly nesterov: boolean;
  readonly weightDecay: number;
}

export interface SgdState {
  readonly parameters: readonly RecordedInput[];
  readonly momenta: readonly RecordedInput[];
  /** Of the parameters' shapes, in order. */
  readonly gradients: readonly Tensor[];
  readonly learningRate: Tensor;
  /** Options' momentum as a tensor, where there is one already. */
  readonly momentum?: Tensor;
}

/** One operation a parameter; they are effects of the recorded function. */
export function momentumUpdates(engine: Engine, state: SgdState, options: SgdOptions): Operation[] {
  const { parameters, momenta, gradients, learningRate } = state;
  const momentum = state.momentum ?? tf.scalar(options.momentum);
  const attributes = [FLOAT_T, attr.bool('use_nesterov', options.nesterov)];
  return parameters.map((parameter, i) => {
    const gradient = decayed(gradients[i]!, parameter, options.weightDecay);
    const inputs = [parameter.raw, momenta[i]!.raw, learningRate, gradient, momentum];
    return engine.operation('ResourceApplyMomentum', inputs, attributes, 0).operation;
  });
}

function decayed(gradient: Tensor, parameter: RecordedInput, weightDecay: number): Tensor {
  return weightDecay === 0 ? gradient : tf.add(gradient, tf.mul(parameter.value(), weightDecay));
}
