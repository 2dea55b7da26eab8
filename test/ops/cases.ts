/**
 * One case or more for every kernel of the backend: tfjs code that is run eagerly and recorded, forward and, where tfjs has one, its gradient.
 */
import type { Rank } from '@tensorflow/tfjs';
import {
  type Tensor,
  type Tensor1D,
  type Tensor2D,
  type Tensor3D,
  type Tensor4D,
  type Tensor5D,
  tf,
} from '../../src/graph/tfjs.js';
import { floats, type HostTensor, integers, normals, spreadOut } from '../support/recorded-function.js';

export interface OpCase {
  /** The function of tfjs, and what is special about this case. */
  readonly name: string;
  readonly inputs: readonly HostTensor[];
  /** Of tensors like `inputs`; several results are compared one by one. */
  readonly code: (...tensors: never[]) => Tensor | readonly Tensor[];
  /** Inputs to differentiate by; by default all that are float32. */
  readonly by?: readonly number[];
  /** Of the relative error; several operations in a row may be fused. */
  readonly tolerance?: number;
  /** Why it cannot be recorded: what the error must say. */
  readonly refused?: RegExp;
}

const x23 = normals([2, 3], 1);
const x46 = spreadOut([4, 6], 0.11);
const positive = floats([0.5, 1.5, 2.5, 0.25, 3, 1], [2, 3]);
const small = floats([0.5, -0.25, 0.75, 0.1, -0.6, 0.3], [2, 3]);
const image = spreadOut([2, 6, 6, 3], 0.013);
const volume = spreadOut([1, 4, 4, 4, 2], 0.02);
const kernel = normals([3, 3, 3, 4], 2);
const ids = integers([2, 0, 1]);

type Unary = (x: Tensor) => Tensor;
const unary = (
  name: string,
  input: HostTensor,
  code: Unary = (x) => (tf as unknown as Record<string, Unary>)[name]!(x),
): OpCase => ({
  name,
  inputs: [input],
  code,
});
type Binary = (a: Tensor, b: Tensor) => Tensor;
const binary = (name: string, a: HostTensor = x46, b: HostTensor = normals([6], 5)): OpCase => ({
  name,
  inputs: [a, b],
  code: (x: Tensor, y: Tensor) => (tf as unknown as Record<string, Binary>)[name]!(x, y),
});
const logical = (x: Tensor) => tf.greater(x, 0);
/** Comparisons have the gradient 0, so they are seen as masks of something that has another. */
const masked = (name: 'equal' | 'notEqual' | 'greater' | 'greaterEqual' | 'less' | 'lessEqual'): OpCase => ({
  name,
  inputs: [floats([1, 2, -3, 4, -5, 6], [2, 3]), floats([1, -2, -3])],
  code: (x: Tensor, y: Tensor) => tf.where(tf[name](x, y), tf.mul(x, y), x),
});
const volumeKernel = normals([2, 2, 2, 2, 3], 4);

export const OP_CASES: readonly OpCase[] = [
  ...['abs', 'atan', 'asinh', 'cos', 'cosh', 'elu', 'erf', 'exp', 'expm1', 'sin', 'sinh'].map((name) =>
    unary(name, x23),
  ),
  ...['leakyRelu', 'neg', 'relu', 'relu6', 'selu', 'sigmoid'].map((name) => unary(name, x46)),
  ...['softplus', 'square', 'tan', 'tanh', 'logSoftmax'].map((name) => unary(name, small)),
  ...['acos', 'asin', 'atanh', 'log1p'].map((name) => unary(name, small)),
  ...['acosh'].map((name) => unary(name, floats([1.5, 2, 3.25], [3]))),
  ...['log', 'rsqrt', 'sqrt', 'reciprocal'].map((name) => unary(name, positive)),
  // Beside the input itself, for they have the gradient 0.
  ...['ceil', 'floor', 'isFinite', 'isInf', 'isNaN', 'onesLike', 'round', 'sign', 'step', 'zerosLike'].map((name) =>
    unary(name, x46, (x) => tf.add(x, tf.cast((tf as unknown as Record<string, Unary>)[name]!(x), 'float32'))),
  ),
  { ...unary('softmax', x46), tolerance: 1e-5 },
  unary('clipByValue', x46, (x) => tf.clipByValue(x, -0.5, 0.7)),
  unary('clone', x23, (x) => tf.mul(tf.clone(x), 2)),
  unary('cast', x46, (x) => tf.cast(tf.cast(tf.mul(x, 5), 'int32'), 'float32')),
  ...['add', 'sub', 'mul', 'maximum', 'minimum', 'squaredDifference', 'atan2', 'mod', 'prelu'].map((name) =>
    binary(name),
  ),
  binary('div', x46, floats([0.5, 2, -1, 3, 4, -2])),
  binary('floorDiv', x46, floats([0.5, 2, -1, 3, 4, -2])),
  binary('pow', positive, floats([2, 0.5, -1])),
  ...(['equal', 'notEqual', 'greater', 'greaterEqual', 'less', 'lessEqual'] as const).map(masked),
  { name: 'where', inputs: [x46], code: (x: Tensor) => tf.where(tf.greater(x, 0.3), tf.square(x), tf.neg(x)) },
  ...(['logicalAnd', 'logicalOr', 'logicalXor'] as const).map(
    (name): OpCase => ({
      name,
      inputs: [x46, normals([4, 6], 23)],
      code: (x: Tensor, y: Tensor) => tf.where(tf[name](logical(x), tf.less(y, 0.2)), x, y),
    }),
  ),
  { name: 'logicalNot', inputs: [x46], code: (x: Tensor) => tf.where(tf.logicalNot(logical(x)), x, tf.square(x)) },
  {
    name: 'all',
    inputs: [x46],
    code: (x: Tensor) => tf.mul(x, tf.cast(tf.all(tf.greater(x, -1), 1, true), 'float32')),
  },
  { name: 'any', inputs: [x46], code: (x: Tensor) => tf.mul(x, tf.cast(tf.any(tf.greater(x, 1), 1, true), 'float32')) },
  ...(['sum', 'mean', 'max', 'min', 'prod'] as const).flatMap((name): OpCase[] => [
    { name, inputs: [small], code: (x: Tensor) => tf[name](x) },
    { name: `${name} over axis 0`, inputs: [small], code: (x: Tensor) => tf[name](x, 0, true) },
  ]),
  ...(['argMax', 'argMin'] as const).map(
    (name): OpCase => ({
      name,
      inputs: [x46],
      code: (x: Tensor) => tf.mul(x, tf.cast(tf.expandDims(tf[name](x, 1), 1), 'float32')),
    }),
  ),
  { name: 'addN', inputs: [x23, small], code: (a: Tensor, b: Tensor) => tf.addN([a, b, a]) },
  { name: 'cumsum', inputs: [x46], code: (x: Tensor) => tf.cumsum(x, 1, true, true) },
  { name: 'cumprod', inputs: [small], code: (x: Tensor) => tf.cumprod(x, 1), by: [] },
  { name: 'matMul', inputs: [x46, normals([6, 5], 6)], code: (a: Tensor2D, b: Tensor2D) => tf.matMul(a, b) },
  {
    name: 'matMul of batches',
    inputs: [normals([2, 3, 4], 7), normals([2, 5, 4], 8)],
    code: (a: Tensor3D, b: Tensor3D) => tf.matMul(a, b, false, true),
  },
  {
    name: 'fused.matMul',
    inputs: [x46, normals([6, 5], 6), normals([5], 9)],
    code: (a: Tensor2D, b: Tensor2D, bias: Tensor1D) =>
      tf.fused.matMul({ a, b, transposeA: false, transposeB: false, bias, activation: 'relu' }),
  },
  { name: 'einsum', inputs: [x46], code: (x: Tensor) => tf.einsum('ij,kj->ik', x, x), by: [] },
  ...(['same', 'valid'] as const).map(
    (pad): OpCase => ({
      name: `conv2d, ${pad}`,
      inputs: [image, kernel],
      code: (x: Tensor4D, k: Tensor4D) => tf.conv2d(x, k, 2, pad),
    }),
  ),
  {
    name: 'conv2dTranspose',
    inputs: [image, normals([3, 3, 4, 3], 3)],
    code: (x: Tensor4D, k: Tensor4D) => tf.conv2dTranspose(x, k, [2, 12, 12, 4], 2, 'same'),
  },
  {
    name: 'fused.conv2d',
    inputs: [image, kernel, normals([4], 10)],
    code: (x: Tensor4D, filter: Tensor4D, bias: Tensor1D) =>
      tf.fused.conv2d({ x, filter, strides: 1, pad: 'same', bias, activation: 'relu' }),
  },
  {
    name: 'depthwiseConv2d',
    inputs: [image, normals([3, 3, 3, 2], 11)],
    code: (x: Tensor4D, k: Tensor4D) => tf.depthwiseConv2d(x, k, 1, 'same'),
  },
  {
    name: 'fused.depthwiseConv2d',
    inputs: [image, normals([3, 3, 3, 2], 11), normals([6], 12)],
    code: (x: Tensor4D, filter: Tensor4D, bias: Tensor1D) =>
      tf.fused.depthwiseConv2d({ x, filter, strides: 1, pad: 'same', bias, activation: 'relu' }),
  },
  { name: 'conv3d', inputs: [volume, volumeKernel], code: (x: Tensor5D, k: Tensor5D) => tf.conv3d(x, k, 1, 'same') },
  { name: 'maxPool', inputs: [image], code: (x: Tensor4D) => tf.maxPool(x, 3, 2, 'same') },
  { name: 'avgPool', inputs: [image], code: (x: Tensor4D) => tf.avgPool(x, 3, 2, 'valid') },
  { name: 'maxPool3d', inputs: [volume], code: (x: Tensor5D) => tf.maxPool3d(x, 2, 2, 'valid') },
  { name: 'avgPool3d', inputs: [volume], code: (x: Tensor5D) => tf.avgPool3d(x, 2, 2, 'valid') },
  {
    name: 'dilation2d',
    inputs: [image, normals([2, 2, 3], 13)],
    code: (x: Tensor4D, k: Tensor3D) => tf.dilation2d(x, k, 1, 'same'),
  },
  { name: 'localResponseNormalization', inputs: [image], code: (x: Tensor4D) => tf.localResponseNormalization(x, 2) },
  {
    name: 'batchNorm',
    inputs: [image, normals([3], 14), floats([0.5, 1, 2]), normals([3], 15), normals([3], 16)],
    code: (x: Tensor4D, mean: Tensor1D, variance: Tensor1D, offset: Tensor1D, scale: Tensor1D) =>
      tf.batchNorm(x, mean, variance, offset, scale, 1e-3),
  },
  { name: 'reshape', inputs: [x46], code: (x: Tensor) => tf.square(tf.reshape(x, [3, 8])) },
  { name: 'expandDims', inputs: [x46], code: (x: Tensor) => tf.expandDims(x, 1) },
  { name: 'transpose', inputs: [normals([2, 3, 4], 7)], code: (x: Tensor) => tf.transpose(x, [2, 0, 1]) },
  { name: 'concat', inputs: [x23, small], code: (a: Tensor, b: Tensor) => tf.concat([a, b], 1) },
  {
    name: 'split',
    inputs: [x46],
    code: (x: Tensor) => tf.addN(tf.split(x, 3, 1).map((part, i) => tf.mul(part, i + 1))),
  },
  { name: 'stack', inputs: [x23, small], code: (a: Tensor, b: Tensor) => tf.stack([a, b], 1) },
  {
    name: 'unstack',
    inputs: [x46],
    code: (x: Tensor) => tf.addN(tf.unstack(x, 1).map((part, i) => tf.mul(part, i + 1))),
  },
  { name: 'slice', inputs: [x46], code: (x: Tensor) => tf.slice(x, [1, 2], [2, 3]) },
  { name: 'stridedSlice', inputs: [x46], code: (x: Tensor) => tf.stridedSlice(x, [0, 1], [4, 6], [2, 2]), by: [] },
  { name: 'reverse', inputs: [x46], code: (x: Tensor) => tf.reverse(x, 1) },
  { name: 'tile', inputs: [x23], code: (x: Tensor) => tf.tile(x, [2, 3]) },
  { name: 'broadcastTo', inputs: [floats([1, -2, 3], [1, 3])], code: (x: Tensor) => tf.broadcastTo(x, [4, 3]) },
  {
    name: 'broadcastArgs',
    inputs: [integers([3, 1]), integers([1, 4])],
    code: (a: Tensor, b: Tensor) => tf.broadcastArgs(a as Tensor<Rank>, b),
  },
  {
    name: 'pad',
    inputs: [x46],
    code: (x: Tensor) =>
      tf.pad(
        x,
        [
          [1, 2],
          [0, 1],
        ],
        0.5,
      ),
  },
  {
    name: 'mirrorPad',
    inputs: [x46],
    code: (x: Tensor) =>
      tf.mirrorPad(
        x,
        [
          [1, 2],
          [2, 1],
        ],
        'reflect',
      ),
  },
  { name: 'gather', inputs: [x46, ids], code: (x: Tensor, i: Tensor) => tf.gather(x, i as Tensor1D, 1) },
  {
    name: 'gatherND',
    inputs: [x46, integers([0, 1, 3, 2], [2, 2])],
    code: (x: Tensor, i: Tensor) => tf.gatherND(x, i),
    by: [],
  },
  {
    name: 'scatterND',
    inputs: [integers([1, 3], [2, 1]), x23],
    code: (i: Tensor, x: Tensor) => tf.scatterND(i, x, [5, 3]),
    by: [],
  },
  {
    name: 'tensorScatterUpdate',
    inputs: [x46, integers([1, 3], [2, 1]), normals([2, 6], 17)],
    code: (x: Tensor, i: Tensor, u: Tensor) => tf.tensorScatterUpdate(x, i, u),
    by: [],
  },
  {
    name: 'sparseToDense',
    inputs: [integers([1, 3]), floats([5, 6])],
    code: (i: Tensor, x: Tensor) => tf.sparseToDense(i, x, [5], 0),
    by: [],
  },
  {
    name: 'unsortedSegmentSum',
    inputs: [x46, integers([0, 2, 0, 1])],
    code: (x: Tensor, i: Tensor1D) => tf.unsortedSegmentSum(x, i, 3),
  },
  {
    name: 'oneHot',
    inputs: [ids, normals([3, 4], 18)],
    code: (i: Tensor1D, x: Tensor) => tf.mul(tf.cast(tf.oneHot(i, 4), 'float32'), x),
  },
  {
    name: 'topk',
    inputs: [x46],
    code: (x: Tensor) => {
      const { values, indices } = tf.topk(x, 3);
      return [values, indices];
    },
    by: [],
  },
  {
    name: 'bincount',
    inputs: [integers([0, 2, 2, 1]), floats([1, 2, 3, 4])],
    code: (i: Tensor1D, w: Tensor1D) => tf.bincount(i, w, 4),
    by: [],
  },
  { name: 'diag', inputs: [floats([1, -2, 3])], code: (x: Tensor) => tf.diag(x), by: [] },
  { name: 'fill', inputs: [x23], code: (x: Tensor) => tf.mul(x, tf.fill([2, 3], 4)) },
  { name: 'range', inputs: [normals([5], 19)], code: (x: Tensor) => tf.mul(x, tf.range(1, 6)) },
  { name: 'linspace', inputs: [normals([5], 19)], code: (x: Tensor) => tf.mul(x, tf.linspace(1, 2, 5)) },
  {
    name: 'batchToSpaceND',
    inputs: [normals([4, 2, 2, 3], 20)],
    code: (x: Tensor4D) =>
      tf.batchToSpaceND(
        x,
        [2, 2],
        [
          [0, 1],
          [0, 0],
        ],
      ),
  },
  {
    name: 'spaceToBatchND',
    inputs: [image],
    code: (x: Tensor4D) =>
      tf.spaceToBatchND(
        x,
        [2, 2],
        [
          [0, 0],
          [0, 0],
        ],
      ),
  },
  { name: 'depthToSpace', inputs: [normals([1, 2, 2, 4], 21)], code: (x: Tensor4D) => tf.depthToSpace(x, 2), by: [] },
  { name: 'image.resizeBilinear', inputs: [image], code: (x: Tensor4D) => tf.image.resizeBilinear(x, [4, 9]) },
  {
    name: 'image.resizeNearestNeighbor',
    inputs: [image],
    code: (x: Tensor4D) => tf.image.resizeNearestNeighbor(x, [4, 9]),
  },
  { name: 'image.flipLeftRight', inputs: [image], code: (x: Tensor4D) => tf.image.flipLeftRight(x), by: [] },
  {
    name: 'image.cropAndResize',
    inputs: [image, floats([0, 0, 0.5, 0.5, 0.2, 0.1, 1, 0.9], [2, 4]), integers([0, 1])],
    code: (x: Tensor4D, boxes: Tensor2D, i: Tensor1D) => tf.image.cropAndResize(x, boxes, i, [3, 3]),
    by: [],
  },
  ...(['nonMaxSuppression', 'nonMaxSuppressionWithScore', 'nonMaxSuppressionPadded'] as const).map(
    (name): OpCase => ({
      name: `image.${name}`,
      inputs: [floats([0, 0, 1, 1, 0, 0.1, 1, 1.1, 0, 2, 1, 3], [3, 4]), floats([0.9, 0.8, 0.7])],
      code: (boxes: Tensor2D, scores: Tensor1D) => {
        if (name === 'nonMaxSuppression') return tf.image.nonMaxSuppression(boxes, scores, 3, 0.5);
        if (name === 'nonMaxSuppressionWithScore')
          return tf.image.nonMaxSuppressionWithScore(boxes, scores, 3, 0.5)['selectedIndices']!;
        return tf.image.nonMaxSuppressionPadded(boxes, scores, 3, 0.5)['selectedIndices']!;
      },
      by: [],
      refused: /recording NonMaxSuppressionV\d.*known only when it runs/,
    }),
  ),
  {
    name: 'unique',
    inputs: [floats([1, 2, 1])],
    code: (x: Tensor) => tf.unique(x).values,
    by: [],
    refused: /recording UniqueV2.*known only when it runs/,
  },
  {
    name: 'complex, real and imag',
    inputs: [x23, small],
    code: (a: Tensor, b: Tensor) => {
      const c = tf.complex(a, b);
      return [tf.real(c), tf.imag(c)];
    },
    by: [],
  },
  { name: 'abs of complex', inputs: [x23, small], code: (a: Tensor, b: Tensor) => tf.abs(tf.complex(a, b)), by: [] },
  {
    name: 'spectral.fft and ifft',
    inputs: [x46, normals([4, 6], 22)],
    code: (a: Tensor, b: Tensor) => {
      const c = tf.spectral.fft(tf.complex(a, b));
      return [tf.real(c), tf.real(tf.spectral.ifft(tf.mul(c, c)))];
    },
    by: [],
  },
  {
    name: 'string.staticRegexReplace',
    inputs: [],
    code: () =>
      tf.cast(
        tf.equal(tf.string.staticRegexReplace(tf.tensor1d(['abc', 'xyz']), 'b', '-'), tf.tensor1d(['a-c', 'b'])),
        'float32',
      ),
    by: [],
  },
];
