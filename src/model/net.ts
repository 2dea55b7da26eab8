/**
 * Net: where a model's layers get their weights.
 *
 * Idea: a model is one function, (net, images) → logits, in plain tfjs. The same function is read twice: once by `describeModel`, with
 * a net that only notes which parameters are asked for (names, shapes, initial values), and once for every recording, with a net that
 * hands out the variables' values. So a model is written once and there is no list of parameters to keep in step with it.
 * Must stay true: a model asks for the same parameters in the same order whenever it is read; names are torchvision's.
 */
import { internalError } from '../core/errors.js';
import { type Shape, sameShape, shapeText } from '../core/shape.js';
import { batchNormInference, batchNormTraining } from '../graph/fused-ops.js';
import { type Scalar, type Tensor, type Tensor1D, type Tensor4D, tf } from '../graph/tfjs.js';
import { convolve, convolveInTraining } from './convolution.js';

/** How a parameter starts: normal with this standard deviation, or all the same. */
export type Initial =
  | {
      readonly deviation: number;
      /** Of a kernel (HWIO): filter i, of as many as there are channels, hands on channel i of the pixel in the middle, and nothing else. */
      readonly identity?: boolean;
    }
  | { readonly value: number };

export interface ParameterSpec {
  /** torchvision's name, for instance `layer1.0.conv1.weight`. */
  readonly name: string;
  /** In tfjs's layout: HWIO for convolutions, [inputs, units] for dense layers. */
  readonly shape: Shape;
  readonly initial: Initial;
  /** Stored in tfjs's layout and not in torchvision's: of networks that torchvision has not. */
  readonly ownLayout?: boolean;
}

/** A batch normalisation's running statistics. */
export interface StatisticsSpec {
  /** The layer's name, for instance `layer1.0.bn1`. */
  readonly name: string;
  readonly channels: number;
  /** Part of the running statistics that a step replaces by the batch's; STATISTICS_RATE where it is left out. */
  readonly rate?: number;
}

/** PyTorch's momentum of running averages: new = 0.9 old + 0.1 batch. The paper does not state one. */
export const STATISTICS_RATE = 0.1;

/** How a batch normalisation differs from PyTorch's. */
export interface NormalizationOptions {
  readonly epsilon: number;
  readonly rate: number;
  /** Whether the running variance is that of the batch, or the estimate of the data's, n / (n - 1) of it. */
  readonly variance: 'biased' | 'unbiased';
}

/** Mean and unbiased variance per channel. */
export interface Statistics {
  readonly meanC: Tensor1D;
  readonly varianceC: Tensor1D;
}

export interface Net {
  /** The parameter `name`, of that shape. */
  parameter(name: string, shape: Shape, initial: Initial, options?: Pick<ParameterSpec, 'ownLayout'>): Tensor;
  /** In training sets a `rate` of the elements to 0 and divides the others by 1 - rate (Srivastava et al. 2014); else `x` itself. */
  dropout<T extends Tensor>(x: T, rate: number): T;
  /** Convolution padded by (size − 1) / 2 on each side; the form of it that is fast in this use. */
  convolve(xNHWC: Tensor4D, kernelHWIO: Tensor4D, stride: number): Tensor4D;
  /** Batch normalisation of layer `name`: with the batch's statistics in training, with the running ones in evaluation. */
  normalize(
    name: string,
    xNHWC: Tensor4D,
    scaleC: Tensor1D,
    offsetC: Tensor1D,
    options?: NormalizationOptions,
  ): Tensor4D;
  /** Whether this is a step of training. */
  readonly training: boolean;
  /** Adds a scalar to the loss of a step: regularisers. */
  penalize(loss: Scalar): void;
}

/** A model as code. Images are normalised, float32, NHWC; logits are [images, classes]. */
export type ModelFunction = (net: Net, imagesNHWC: Tensor4D) => Tensor;

/** PyTorch's epsilon; the paper does not state one. */
export const BATCH_NORM_EPSILON = 1e-5;

const TORCH_NORMALIZATION: NormalizationOptions = {
  epsilon: BATCH_NORM_EPSILON,
  rate: STATISTICS_RATE,
  variance: 'unbiased',
};

/** Notes what a model asks for; values are placeholders. */
export class DescribingNet implements Net {
  readonly parameters: ParameterSpec[] = [];
  readonly statistics: StatisticsSpec[] = [];
  readonly #placeholder: (shape: Shape) => Tensor;

  constructor(placeholder: (shape: Shape) => Tensor) {
    this.#placeholder = placeholder;
  }

  parameter(name: string, shape: Shape, initial: Initial, options: Pick<ParameterSpec, 'ownLayout'> = {}): Tensor {
    if (this.parameters.some((known) => known.name === name)) throw internalError(`two parameters are called ${name}`);
    this.parameters.push({ name, shape, initial, ...options });
    return this.#placeholder(shape);
  }

  readonly training = false;
  penalize(): void {}

  dropout<T extends Tensor>(x: T): T {
    return x;
  }

  convolve(xNHWC: Tensor4D, kernelHWIO: Tensor4D, stride: number): Tensor4D {
    return convolve(xNHWC, kernelHWIO, stride);
  }

  normalize(
    name: string,
    xNHWC: Tensor4D,
    scaleC: Tensor1D,
    offsetC: Tensor1D,
    { epsilon, rate } = TORCH_NORMALIZATION,
  ): Tensor4D {
    this.statistics.push({ name, channels: scaleC.shape[0], ...(rate !== STATISTICS_RATE && { rate }) });
    const { y, meanC, varianceC } = batchNormTraining(xNHWC, scaleC, offsetC, epsilon);
    tf.dispose([meanC, varianceC]);
    return y;
  }
}

/** Hands out values in the order of the description; subclasses normalise. */
abstract class BoundNet implements Net {
  readonly #specs: readonly ParameterSpec[];
  readonly #values: readonly Tensor[];
  #next = 0;

  constructor(specs: readonly ParameterSpec[], values: readonly Tensor[]) {
    this.#specs = specs;
    this.#values = values;
  }

  parameter(name: string, shape: Shape): Tensor {
    const index = this.#next++;
    const spec = this.#specs[index];
    if (spec?.name !== name || !sameShape(spec.shape, shape)) {
      const expected = spec ? `${spec.name} ${shapeText(spec.shape)}` : 'no more parameters';
      throw internalError(`the model asked for ${name} ${shapeText(shape)}, its description has ${expected}`);
    }
    return this.#values[index]!;
  }

  abstract readonly training: boolean;
  abstract penalize(loss: Scalar): void;
  abstract dropout<T extends Tensor>(x: T, rate: number): T;
  abstract convolve(xNHWC: Tensor4D, kernelHWIO: Tensor4D, stride: number): Tensor4D;
  abstract normalize(
    name: string,
    xNHWC: Tensor4D,
    scaleC: Tensor1D,
    offsetC: Tensor1D,
    options?: NormalizationOptions,
  ): Tensor4D;
}

/** Training: batch statistics, which are collected in order. The collected tensors are kept; the caller disposes them. */
export class TrainingNet extends BoundNet {
  readonly training = true;
  readonly batchStatistics: Statistics[] = [];
  /** Scalars that belong to the loss. */
  readonly penalties: Scalar[] = [];

  /** The numbers come from the step's key (graph/random-ops.ts). */
  dropout<T extends Tensor>(x: T, rate: number): T {
    return rate === 0 ? x : (tf.dropout(x, rate) as T);
  }

  convolve(xNHWC: Tensor4D, kernelHWIO: Tensor4D, stride: number): Tensor4D {
    return convolveInTraining(xNHWC, kernelHWIO, stride);
  }

  penalize(loss: Scalar): void {
    this.penalties.push(loss);
  }

  normalize(
    _name: string,
    xNHWC: Tensor4D,
    scaleC: Tensor1D,
    offsetC: Tensor1D,
    { epsilon, variance } = TORCH_NORMALIZATION,
  ): Tensor4D {
    const { y, meanC, varianceC } = batchNormTraining(xNHWC, scaleC, offsetC, epsilon);
    const count = xNHWC.size / scaleC.size;
    this.batchStatistics.push({
      meanC,
      varianceC: variance === 'unbiased' ? varianceC : tf.keep(tf.mul(varianceC, (count - 1) / count)),
    });
    return y;
  }
}

/** Evaluation: running statistics, in the order of the description. */
export class EvaluationNet extends BoundNet {
  readonly training = false;
  readonly #statistics: readonly Statistics[];
  #nextStatistics = 0;

  constructor(specs: readonly ParameterSpec[], values: readonly Tensor[], statistics: readonly Statistics[]) {
    super(specs, values);
    this.#statistics = statistics;
  }

  penalize(): void {}

  dropout<T extends Tensor>(x: T): T {
    return x;
  }

  convolve(xNHWC: Tensor4D, kernelHWIO: Tensor4D, stride: number): Tensor4D {
    return convolve(xNHWC, kernelHWIO, stride);
  }

  normalize(
    _name: string,
    xNHWC: Tensor4D,
    scaleC: Tensor1D,
    offsetC: Tensor1D,
    { epsilon } = TORCH_NORMALIZATION,
  ): Tensor4D {
    const statistics = this.#statistics[this.#nextStatistics++];
    if (!statistics) throw internalError('the model has more batch normalisations than its description');
    return batchNormInference(xNHWC, scaleC, offsetC, statistics, epsilon);
  }
}
