/**
 * Operations that TensorFlow has and tfjs has not, as tfjs kernels with gradients: they work eagerly and in recordings.
 *
 * Shapes: N images, H height, W width, C channels, K classes.
 */
import { attr, FLOAT_T } from '../tensorflow/attribute.js';
import { DType } from '../tensorflow/dtype.js';
import {
  defineKernel,
  runKernel,
  type Tensor,
  type Tensor1D,
  type Tensor2D,
  type Tensor4D,
  type TensorInfo,
  tf,
} from './tfjs.js';

export interface NormalizedBatch {
  readonly y: Tensor4D;
  /** Of this batch, per channel. Kept: the caller disposes it. */
  readonly meanC: Tensor1D;
  /** Unbiased (n / (n - 1)), as PyTorch's running variance wants it; y itself is normalised by the biased one. Kept. */
  readonly varianceC: Tensor1D;
}

/** Batch normalisation over N, H and W with the batch's own statistics (Ioffe and Szegedy 2015, algorithm 1). Fused, forward and backward. */
export function batchNormTraining(
  xNHWC: Tensor4D,
  scaleC: Tensor1D,
  offsetC: Tensor1D,
  epsilon: number,
): NormalizedBatch {
  let meanC: Tensor1D | undefined;
  let varianceC: Tensor1D | undefined;
  const normalize = tf.customGrad((...args: unknown[]) => {
    const [x, scale, offset] = args as [Tensor4D, Tensor1D, Tensor1D];
    const save = args[3] as (saved: Tensor[]) => void;
    const empty = tf.tensor1d([]);
    const outputs = runKernel<Tensor[]>('BatchNormTraining', { x, scale, offset, empty }, { epsilon });
    const [y, mean, variance, reserve1, reserve2, reserve3] = outputs as [Tensor4D, ...Tensor[]];
    meanC = tf.keep(mean as Tensor1D);
    varianceC = tf.keep(variance as Tensor1D);
    save([x, scale, reserve1!, reserve2!, reserve3!]);
    const gradFunc = (dy: Tensor, saved: Tensor[]) => {
      const [x, scale, r1, r2, r3] = saved;
      return runKernel<Tensor[]>('BatchNormTrainingGradient', { dy, x, scale, r1, r2, r3 }, { epsilon }).slice(0, 3);
    };
    return { value: y, gradFunc };
  });
  const y = normalize(xNHWC, scaleC, offsetC) as Tensor4D;
  return { y, meanC: meanC!, varianceC: varianceC! };
}

/** Batch normalisation with given statistics, for evaluation. No gradient. */
export function batchNormInference(
  x: Tensor4D,
  scale: Tensor1D,
  offset: Tensor1D,
  statistics: { readonly meanC: Tensor1D; readonly varianceC: Tensor1D },
  epsilon: number,
): Tensor4D {
  const { meanC: mean, varianceC: variance } = statistics;
  return runKernel('BatchNormInference', { x, scale, offset, mean, variance }, { epsilon });
}

/**
 * Cross-entropy of softmax(logits) against target distributions, per image, in nats; loss and gradient in one operation.
 * The targets are constants: no gradient flows to them.
 */
export function softmaxCrossEntropy(targetsNK: Tensor2D, logitsNK: Tensor2D): Tensor1D {
  const loss = tf.customGrad((...args: unknown[]) => {
    const [logits, save] = args as [Tensor2D, (saved: Tensor[]) => void];
    const [lossN, gradientNK] = runKernel<[Tensor1D, Tensor2D]>('SoftmaxCrossEntropy', { logits, targets: targetsNK });
    save([gradientNK]);
    return { value: lossN, gradFunc: (dyN: Tensor, [gradient]: Tensor[]) => tf.mul(gradient!, tf.expandDims(dyN, 1)) };
  });
  return loss(logitsNK) as Tensor1D;
}

/** Registers the kernels behind the functions above. Once a thread, by startEngine. */
export function installFusedOps(): void {
  const batchNormAttributes = (epsilon: number, training: boolean) => [
    FLOAT_T,
    attr.type('U', DType.float32),
    attr.float('epsilon', epsilon),
    attr.bool('is_training', training),
  ];
  type Inputs = Record<string, TensorInfo>;
  type Epsilon = { epsilon: number };
  defineKernel<Inputs, Epsilon>('BatchNormTraining', ({ inputs: { x, scale, offset, empty }, attrs, backend }) =>
    backend.executeMultipleOutputs(
      'FusedBatchNormV3',
      batchNormAttributes(attrs.epsilon, true),
      [x!, scale!, offset!, empty!, empty!],
      6,
    ),
  );
  defineKernel<Inputs, Epsilon>(
    'BatchNormTrainingGradient',
    ({ inputs: { dy, x, scale, r1, r2, r3 }, attrs, backend }) =>
      backend.executeMultipleOutputs(
        'FusedBatchNormGradV3',
        batchNormAttributes(attrs.epsilon, true),
        [dy!, x!, scale!, r1!, r2!, r3!],
        5,
      ),
  );
  defineKernel<Inputs, Epsilon>(
    'BatchNormInference',
    ({ inputs: { x, scale, offset, mean, variance }, attrs, backend }) => {
      const attributes = batchNormAttributes(attrs.epsilon, false);
      const [y] = backend.executeMultipleOutputs(
        'FusedBatchNormV3',
        attributes,
        [x!, scale!, offset!, mean!, variance!],
        6,
      );
      return y;
    },
  );
  defineKernel<Inputs, object>('SoftmaxCrossEntropy', ({ inputs: { logits, targets }, backend }) =>
    backend.executeMultipleOutputs('SoftmaxCrossEntropyWithLogits', [FLOAT_T], [logits!, targets!], 2),
  );
}
