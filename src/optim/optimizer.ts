/**
 * The optimizers, in place, inside a recorded function.
 *
 * Idea: one function turns the mean gradients into effects on the variables. What an optimizer keeps of each parameter is a _slot_: one
 * array of the parameter's shape, named here, laid out by train/replica-state.ts and saved by train/checkpoint.ts without knowing which.
 * Must stay true: what changes from step to step is an input (`rates`), so nothing is frozen; every formula is PyTorch's
 * (test/golden/optimizers.py), but LARS, which PyTorch has not.
 *
 *   decay     coupled: gradient ← gradient + weightDecay · parameter;  decoupled: parameter ← parameter − learningRate · weightDecay · parameter
 *   adamw     Loshchilov and Hutter, arXiv 1711.05101, algorithm 2; always decoupled; β₁ is `momentum`
 *   lars      You et al., arXiv 1708.03888: sgd with each matrix's gradient scaled by trust · |w| / (|g| + weightDecay · |w|)
 *   muon      Jordan: orthogonalised momentum for matrices, always decoupled; sgd for the first, the last and everything of one axis
 */
import type { Engine, RecordedInput } from '../graph/engine.js';
import { type Scalar, type Tensor, type Tensor2D, tf } from '../graph/tfjs.js';
import { attr } from '../tensorflow/attribute.js';
import { DType } from '../tensorflow/dtype.js';
import type { Operation } from '../tensorflow/graph-builder.js';
import type { OptimizerOptions } from './optimizer-options.js';
import { momentumUpdates } from './sgd.js';

export interface OptimizerState {
  readonly parameters: readonly RecordedInput[];
  /** Per slot, per parameter. */
  readonly slots: readonly (readonly RecordedInput[])[];
  /** Of the parameters' shapes, in order. */
  readonly gradients: readonly Tensor[];
  /** [NUM_RATES]; see ratesOf. */
  readonly rates: Tensor;
}

/** Effects of the recorded function, per parameter. */
export function optimizerUpdates(engine: Engine, state: OptimizerState, options: OptimizerOptions): Operation[][] {
  const [rate, correction1, correction2] = tf.unstack(state.rates) as [Scalar, Scalar, Scalar];
  const gradients = clipped(state.gradients, options.clipNorm);
  const { parameters, slots } = state;
  const momentum = tf.scalar(options.momentum);
  const matrices = parameters.flatMap((parameter, i) => (parameter.shape.length > 1 ? [i] : []));
  const isHidden = (i: number) => matrices.includes(i) && i !== matrices[0] && i !== matrices.at(-1);
  return parameters.map((parameter, i) => {
    const isVector = parameter.shape.length < 2;
    const decay = isVector && options.exempt === 'norms-and-biases' ? 0 : options.weightDecay;
    const one: OneParameter = {
      engine,
      parameter,
      slots: slots.map((slot) => slot[i]!),
      gradient: gradients[i]!,
      rate,
      decay,
      momentum,
      options,
    };
    if (options.name === 'adamw') return adamw(one, correction1, correction2);
    if (options.name === 'muon' && isHidden(i)) return muon(one);
    if (options.name === 'lars' && !isVector) {
      return sgd({ ...one, gradient: layerwise(one), decay: options.decoupled ? decay : 0 }); // coupled decay is in the gradient now
    }
    return sgd(one);
  });
}

interface OneParameter {
  readonly engine: Engine;
  readonly parameter: RecordedInput;
  readonly slots: readonly RecordedInput[];
  readonly gradient: Tensor;
  readonly rate: Scalar;
  readonly decay: number;
  /** options.momentum. */
  readonly momentum: Tensor;
  readonly options: OptimizerOptions;
}

/** All gradients times min(1, longest / |gradients|), as PyTorch's clip_grad_norm_. */
function clipped(gradients: readonly Tensor[], longest: number): readonly Tensor[] {
  if (longest === 0) return gradients;
  const squares = gradients.map((gradient) => tf.sum(tf.square(gradient)));
  const norm = tf.sqrt(tf.addN(squares));
  const factor = tf.minimum(tf.div(longest, tf.add(norm, 1e-6)), 1);
  return gradients.map((gradient) => tf.mul(gradient, factor));
}

function sgd({
  engine,
  parameter,
  slots,
  gradient,
  rate,
  decay,
  momentum: momentumScalar,
  options,
}: OneParameter): Operation[] {
  const { momentum, nesterov } = options;
  const decoupled = options.name === 'muon' || options.decoupled;
  if (decay === 0 || !decoupled) {
    const state = {
      parameters: [parameter],
      momenta: [slots[0]!],
      gradients: [gradient],
      learningRate: rate,
      momentum: momentumScalar,
    };
    return momentumUpdates(engine, state, { momentum, nesterov, weightDecay: decay });
  }
  const velocity = tf.add(tf.mul(slots[0]!.value(), momentum), gradient);
  const moved = nesterov ? tf.add(gradient, tf.mul(velocity, momentum)) : velocity;
  const change = tf.mul(rate, tf.add(moved, tf.mul(parameter.value(), decay)));
  return [assign(engine, slots[0]!, velocity), subtract(engine, parameter, change)];
}

/** The gradient of a matrix with coupled decay, scaled to the length of the weights. */
function layerwise({ parameter, gradient, decay, options }: OneParameter): Tensor {
  const weights = parameter.value();
  const weightNorm = tf.norm(weights);
  const scale = tf.div(
    tf.mul(weightNorm, options.trust),
    tf.add(tf.norm(gradient), tf.add(tf.mul(weightNorm, decay), options.epsilon)),
  );
  const decayed = options.decoupled ? gradient : tf.add(gradient, tf.mul(weights, decay));
  return tf.mul(decayed, scale);
}

function adamw(
  { engine, parameter, slots, gradient, rate, decay, options }: OneParameter,
  correction1: Scalar,
  correction2: Scalar,
): Operation[] {
  const { momentum, beta2, epsilon } = options;
  const mean = tf.add(tf.mul(slots[0]!.value(), momentum), tf.mul(gradient, 1 - momentum));
  const square = tf.add(tf.mul(slots[1]!.value(), beta2), tf.mul(tf.square(gradient), 1 - beta2));
  const root = tf.add(tf.sqrt(tf.div(square, correction2)), epsilon);
  const direction = tf.div(tf.div(mean, correction1), root);
  const change = tf.mul(rate, tf.add(direction, tf.mul(parameter.value(), decay)));
  return [assign(engine, slots[0]!, mean), assign(engine, slots[1]!, square), subtract(engine, parameter, change)];
}

function muon({ engine, parameter, slots, gradient, rate, decay, options }: OneParameter): Operation[] {
  const { momentum, nesterov } = options;
  const { shape } = parameter;
  const outputs = shape.at(-1)!;
  const mean = tf.add(tf.mul(slots[0]!.value(), momentum), tf.mul(gradient, 1 - momentum));
  const update = nesterov ? tf.add(tf.mul(gradient, 1 - momentum), tf.mul(mean, momentum)) : mean;
  const matrix = tf.reshape(update, [-1, outputs]) as Tensor2D;
  const direction = tf.reshape(orthogonalized(matrix), [...shape]);
  const scale = Math.sqrt(Math.max(1, outputs / matrix.shape[0]));
  const change = tf.mul(rate, tf.add(tf.mul(direction, scale), tf.mul(parameter.value(), decay)));
  return [assign(engine, slots[0]!, mean), subtract(engine, parameter, change)];
}

const NEWTON_SCHULZ_STEPS = 5;
const NEWTON_SCHULZ = [3.4445, -4.775, 2.0315] as const;

/** Newton-Schulz towards the nearest matrix of orthonormal rows or columns (Jordan, "Muon", 2024). [inputs, outputs]; any orientation gives the same. */
function orthogonalized(matrix: Tensor2D): Tensor2D {
  const isTall = matrix.shape[0] > matrix.shape[1];
  const [a, b, c] = NEWTON_SCHULZ;
  let x = tf.div(matrix, tf.maximum(tf.norm(matrix), 1e-7)) as Tensor2D;
  if (isTall) x = tf.transpose(x) as Tensor2D;
  for (let i = 0; i < NEWTON_SCHULZ_STEPS; i++) {
    const gram = tf.matMul(x, x, false, true);
    const polynomial = tf.add(tf.mul(gram, b), tf.mul(tf.matMul(gram, gram), c)) as Tensor2D;
    x = tf.add(tf.mul(x, a), tf.matMul(polynomial, x));
  }
  return isTall ? (tf.transpose(x) as Tensor2D) : x;
}

const FLOAT = [attr.type('dtype', DType.float32)];

function assign(engine: Engine, variable: RecordedInput, value: Tensor): Operation {
  return engine.operation('AssignVariableOp', [variable.raw, value], FLOAT, 0).operation;
}

function subtract(engine: Engine, variable: RecordedInput, value: Tensor): Operation {
  return engine.operation('AssignSubVariableOp', [variable.raw, value], FLOAT, 0).operation;
}

/** average ← average + rate · (value − average): the running average of weights; PyTorch's AveragedModel with get_ema_avg_fn. */
export function moveAverage(engine: Engine, average: RecordedInput, value: Tensor, rate: Tensor): Operation {
  return subtract(engine, average, tf.mul(tf.sub(average.value(), value), rate));
}
