/**
 * Gradients against finite differences: every layer and loss of the models, and each gradient that replaces one of tfjs's.
 *
 * Idea: PyTorch's gradcheck (eps 1e-6, atol 1e-5, rtol 1e-3) wants float64, which tfjs has not. In float32 a difference of fourth order with a
 * large step does as well: what rounding adds is divided by the step. The differences are summed in float64.
 */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { startEngine } from '../src/graph/engine.js';
import { softmaxCrossEntropy } from '../src/graph/fused-ops.js';
import { type Scalar, type Tensor, type Tensor1D, type Tensor2D, type Tensor4D, tf } from '../src/graph/tfjs.js';
import { subsample } from '../src/model/convolution.js';
import { batchNorm, conv2d, dense, globalAveragePool, maxPool3x3, padChannels } from '../src/model/layers.js';
import { type ModelFunction, TrainingNet } from '../src/model/net.js';
import { liveHandles } from '../src/tensorflow/tensor-handle.js';
import { assertClose } from './support/assert-close.js';
import { type ImageShape, modelOf } from './support/layer-model.js';
import { floats, type HostTensor, normals, record, run, spreadOut } from './support/recorded-function.js';
import { CPU_0, testRuntime } from './support/test-runtime.js';

const engine = startEngine(testRuntime(), CPU_0);
after(() => assert.deepEqual([engine.liveTensors, liveHandles()], [0, 0], 'live tensors and handles'));

/** Of the relative L2 error of a whole gradient. */
const LINEAR = 3e-6;
const CURVED = 5e-5;

interface Differentiable {
  readonly inputs: readonly HostTensor[];
  readonly code: (...tensors: Tensor[]) => Tensor;
  /** Of the differences; large where the function is linear. */
  readonly step: number;
  readonly tolerance: number;
}

/** Compares the gradients of sum(output · upstream) by every input with finite differences, element by element. */
function checkGradients({ inputs, code, step, tolerance }: Differentiable): void {
  const forward = record(engine, inputs, (values) => [code(...values.map((input) => input.value()))]);
  const outputOf = (changed: readonly HostTensor[]) => run(engine, forward, changed)[0]!;
  const output = outputOf(inputs);
  const upstream = normals([output.length], 99);
  const backward = record(engine, [...inputs, upstream], (values) => {
    const tensors = values.map((input) => input.value());
    const loss = (...args: Tensor[]) => {
      const y = code(...args);
      return tf.sum(tf.mul(y, tf.reshape(tensors.at(-1)!, y.shape))) as Scalar;
    };
    return tf.valueAndGrads(loss as never)(tensors.slice(0, -1) as never).grads;
  });
  const gradients = run(engine, backward, [...inputs, upstream]);
  assert.equal(gradients.length, inputs.length);
  for (const [i, gradient] of gradients.entries()) {
    const numeric = finiteDifferences(inputs, i, step, outputOf, upstream.values);
    assertClose(gradient, numeric, tolerance, `gradient by input ${i}`);
  }
}

/** (f(x − 2h) − 8 f(x − h) + 8 f(x + h) − f(x + 2h)) / 12 h for each element of input `i`: the error is of order h⁴. */
function finiteDifferences(
  inputs: readonly HostTensor[],
  i: number,
  step: number,
  outputOf: (inputs: readonly HostTensor[]) => ArrayLike<number>,
  upstream: ArrayLike<number>,
): Float64Array {
  const x = inputs[i]!;
  const weightedOutput = (element: number, offset: number) => {
    const values = Float32Array.from(x.values);
    values[element]! += offset;
    const y = outputOf(inputs.map((input, k) => (k === i ? { ...x, values } : input)));
    return Array.from(upstream).reduce((sum, u, k) => sum + u * y[k]!, 0);
  };
  return Float64Array.from(x.values, (_, e) => {
    const [a, b, c, d] = [-2, -1, 1, 2].map((times) => weightedOutput(e, times * step)) as [
      number,
      number,
      number,
      number,
    ];
    return (a - 8 * b + 8 * c - d) / (12 * step);
  });
}

// Layers of the models

interface LayerCase {
  readonly name: string;
  readonly layer: ModelFunction;
  readonly images: HostTensor;
  readonly step?: number;
  readonly tolerance?: number;
}

const convolution =
  (size: number, stride: number): ModelFunction =>
  (net, x) =>
    conv2d(net, 'c', x, { filters: 3, size, stride });
/** 0.25 apart, so that twice this step changes no maximum and no ReLU. */
const SMALL_STEP = 1 / 32;
const apart = (shape: readonly number[]) => spreadOut(shape, 0.25);

const layers: readonly LayerCase[] = [
  { name: 'convolution 3×3', layer: convolution(3, 1), images: normals([2, 4, 5, 2]) },
  { name: 'convolution 3×3, stride 2, even size', layer: convolution(3, 2), images: normals([2, 4, 6, 2]) },
  { name: 'convolution 3×3, stride 2, odd size', layer: convolution(3, 2), images: normals([2, 5, 3, 2]) },
  { name: 'convolution 1×1', layer: convolution(1, 1), images: normals([2, 3, 3, 2]) },
  { name: 'convolution 1×1, stride 2', layer: convolution(1, 2), images: normals([2, 4, 5, 2]) },
  { name: 'convolution 7×7, stride 2', layer: convolution(7, 2), images: normals([1, 8, 7, 2]) },
  { name: 'maximum pooling, even size', layer: (_, x) => maxPool3x3(x), images: apart([1, 6, 4, 2]), step: SMALL_STEP },
  { name: 'maximum pooling, odd size', layer: (_, x) => maxPool3x3(x), images: apart([1, 5, 7, 2]), step: SMALL_STEP },
  { name: 'global average pooling', layer: (_, x) => globalAveragePool(x), images: normals([2, 3, 4, 3]) },
  { name: 'option-A shortcut', layer: (_, x) => padChannels(subsample(x, 2), 5), images: normals([2, 4, 5, 2]) },
  { name: 'ReLU', layer: (_, x) => tf.relu(x), images: apart([1, 3, 4, 3]), step: SMALL_STEP },
  {
    name: 'batch normalisation',
    layer: (net, x) => batchNorm(net, 'bn', x),
    images: normals([3, 3, 2, 2]),
    step: 0.05,
    tolerance: CURVED,
  },
  {
    name: 'dense',
    layer: (net, x) => dense(net, 'fc', tf.reshape(x, [4, 6]) as Tensor2D, 5),
    images: normals([4, 1, 2, 3]),
  },
  {
    name: 'a residual block with projection',
    layer: (net, x) => {
      const y = batchNorm(net, 'bn', conv2d(net, 'c', x, { filters: 3, size: 3, stride: 2 }));
      return tf.sigmoid(tf.add(y, conv2d(net, 'p', x, { filters: 3, size: 1, stride: 2 })));
    },
    images: normals([2, 4, 4, 2]),
    step: 0.05,
    tolerance: CURVED,
  },
];

for (const { name, layer, images, step = 0.5, tolerance = LINEAR } of layers) {
  test(`${name}: gradients by images and parameters are finite differences`, () => {
    const model = modelOf(engine, layer, images.shape as ImageShape);
    const parameters = model.parameters.map(({ shape }, i) => normals(shape, 10 + i));
    const code = (x: Tensor, ...values: Tensor[]) => {
      const net = new TrainingNet(model.parameters, values);
      const y = layer(net, x as Tensor4D);
      for (const { meanC, varianceC } of net.batchStatistics) tf.dispose([meanC, varianceC]);
      return y;
    };
    checkGradients({ inputs: [images, ...parameters], code, step, tolerance });
  });
}

test('softmax cross-entropy: the gradient by the logits is finite differences', () => {
  const logits = normals([4, 5], 20);
  const targets = floats(
    [0, 1, 2, 4].flatMap((label) => [0, 1, 2, 3, 4].map((k) => 0.02 + 0.9 * Number(k === label))),
    [4, 5],
  );
  const targetsNK = () => tf.tensor2d(targets.values, [4, 5]);
  checkGradients({
    inputs: [logits],
    code: (x) => softmaxCrossEntropy(targetsNK(), x as Tensor2D),
    step: 0.1,
    tolerance: CURVED,
  });
});

// Gradients that replace tfjs's

const x = normals([3, 4], 30);
const replaced: Readonly<Record<string, Omit<Differentiable, 'step' | 'tolerance'>>> = {
  'sum over all': { inputs: [x], code: (a) => tf.sum(a) },
  'sum over the first axis': { inputs: [x], code: (a) => tf.sum(a, 0) },
  'sum over the last axis, kept': { inputs: [x], code: (a) => tf.sum(a, -1, true) },
  'mean over all': { inputs: [x], code: (a) => tf.mean(a) },
  'mean over two of four axes': { inputs: [normals([2, 3, 2, 2], 31)], code: (a) => tf.mean(a, [1, 2]) },
  'mean over an axis in the middle, kept': { inputs: [normals([2, 3, 2], 32)], code: (a) => tf.mean(a, 1, true) },
  'addition of equal shapes': { inputs: [x, normals([3, 4], 33)], code: (a, b) => tf.add(a!, b!) },
  'addition with a scalar': { inputs: [x, normals([], 34)], code: (a, b) => tf.add(a!, b!) },
  'addition with a row': { inputs: [normals([4], 35), x], code: (a, b) => tf.add(a!, b!) },
  'addition of a column and a row': {
    inputs: [normals([3, 1], 36), normals([1, 4], 37)],
    code: (a, b) => tf.add(a!, b!),
  },
  'a tensor added to itself': { inputs: [x], code: (a) => tf.add(a!, a!) },
  gather: { inputs: [x], code: (a) => tf.gather(a!, tf.tensor1d([2, 0, 2], 'int32') as Tensor1D) },
  'a cast that changes nothing': { inputs: [x], code: (a) => tf.cast(a!, 'float32') },
};

for (const [name, { inputs, code }] of Object.entries(replaced)) {
  test(`${name}: gradients are finite differences`, () => {
    checkGradients({ inputs, code, step: 0.5, tolerance: LINEAR });
  });
}

test('the gradient of ReLU at 0 is 0, as in tfjs and PyTorch', () => {
  const at = floats([-1, -0, 0, 1e-30, 1]);
  const fn = record(engine, [at], ([a]) => [tf.grad((v) => tf.sum(tf.relu(v)))(a!.value())]);
  assert.deepEqual(run(engine, fn, [at]), [Float32Array.of(0, 0, 0, 1, 1)]);
});

test('a cast that changes nothing is the tensor itself, and outlives it', () => {
  const before = engine.liveTensors;
  const a = tf.tidy(() => tf.neg(tf.tensor1d([1, 2])));
  const b = tf.cast(a, 'float32');
  assert.equal(engine.liveTensors, before + 1, 'one tensor in TensorFlow');
  a.dispose();
  assert.deepEqual(b.dataSync(), Float32Array.of(-1, -2));
  b.dispose();
  assert.equal(engine.liveTensors, before);
  assert.deepEqual(
    tf.tidy(() => tf.cast(tf.tensor1d([1.9, -1.9]), 'int32').dataSync()),
    Int32Array.of(1, -1),
  );
});

test('gather takes any axis, repeated indices and integers', () => {
  const table = tf.tidy(() => {
    const ids = tf.tensor2d(
      [
        [1, 2, 3],
        [4, 5, 6],
      ],
      [2, 3],
      'int32',
    );
    return tf.gather(ids, tf.tensor1d([2, 0, 2], 'int32'), 1).dataSync();
  });
  assert.deepEqual(table, Int32Array.of(3, 1, 3, 6, 4, 6));
});
