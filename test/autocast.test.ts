/** bfloat16 recordings: the same operations as in float32 and casts between them, where autocast.ts says, and nowhere else. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startEngine } from '../src/graph/engine.js';
import { batchNormTraining } from '../src/graph/fused-ops.js';
import { type Precision, type RecordedOperation, recordingText } from '../src/graph/recording.js';
import { type Scalar, type Tensor, type Tensor1D, type Tensor2D, type Tensor4D, tf } from '../src/graph/tfjs.js';
import { makeModel } from '../src/model/catalogue.js';
import { type RecordedProgram, recordProgram } from '../src/train/step-program.js';
import { relativeL2 } from './support/assert-close.js';
import { PLAIN_SGD } from './support/one-rank.js';
import { type HostTensor, normals, record, recorded, type TensorCode } from './support/recorded-function.js';
import { CPU_0, testRuntime } from './support/test-runtime.js';

const engine = startEngine(testRuntime(), CPU_0);

function program(name: string, stem: 'cifar' | 'imagenet', precision: Precision): RecordedProgram['functions'] {
  const model = makeModel(engine, { name, classes: 10, shortcut: 'A', stem }, [32, 32]);
  const split = { numImages: 100, height: 32, width: 32 };
  return recordProgram(engine, model, {
    precision,
    xla: false,
    shardBatch: 8,
    evaluationBatch: 16,
    train: split,
    test: split,
    normalization: { mean: [0.5, 0.5, 0.5], std: [0.2, 0.2, 0.2] },
    augment: { crop: 4, flip: true, cutout: 8 },
    labelSmoothing: 0.1,
    optimizer: { ...PLAIN_SGD, momentum: 0.9, nesterov: true, weightDecay: 1e-4 },
    ema: 0,
    evaluationFlip: false,
  }).functions;
}

const FUNCTIONS = ['compute', 'update', 'evaluate'] as const;
const resnet20 = program('resnet20', 'cifar', 'bfloat16');
const resnet18 = program('resnet18', 'imagenet', 'bfloat16');
const pairs = [
  { name: 'resnet20', low: resnet20, full: program('resnet20', 'cifar', 'float32') },
  { name: 'resnet18', low: resnet18, full: program('resnet18', 'imagenet', 'float32') },
];

/** Types and shapes without the casts. */
function withoutCasts(operations: readonly RecordedOperation[]): string {
  const others = operations.filter(({ type }) => type !== 'Cast');
  return recordingText(others.map((operation) => ({ ...operation, dtype: '' })));
}

function countsText(operations: readonly RecordedOperation[]): string {
  const counts = new Map<string, number>();
  for (const { type } of operations) counts.set(type, (counts.get(type) ?? 0) + 1);
  return [...counts]
    .map(([type, count]) => `${type} ${count}`)
    .sort()
    .join(', ');
}

for (const { name, low, full } of pairs) {
  test(`${name}: without its casts the bfloat16 step is the float32 step, and the update is that with them`, () => {
    for (const fn of FUNCTIONS) assert.equal(withoutCasts(low[fn].operations), withoutCasts(full[fn].operations), fn);
    assert.deepEqual(low.update.operations, full.update.operations);
  });
}

/** What is computed in bfloat16; Cast: to bfloat16. ResNet-20: 19 kernels, 19 + 1 inputs and gradients where float32 ends, dense layer. */
const LOW_PRECISION = {
  resnet20: {
    compute:
      'Add 19, AvgPool 2, AvgPoolGrad 2, BatchMatMulV2 3, Cast 29, Conv2D 19, Conv2DBackpropFilter 19, Conv2DBackpropInput 18, ' +
      'FusedBatchNormGradV3 19, FusedBatchNormV3 19, PadV2 4, Relu 19, ReluGrad 19, Reshape 20, Slice 4',
    update: '',
    evaluate: 'Add 10, AvgPool 2, BatchMatMulV2 1, Cast 27, Conv2D 19, FusedBatchNormV3 19, PadV2 4, Relu 19',
  },
  resnet18: {
    compute:
      'Add 17, AvgPool 11, AvgPoolGrad 2, BatchMatMulV2 36, Cast 40, ConcatV2 1, Conv2D 9, Conv2DBackpropFilter 9, ' +
      'Conv2DBackpropInput 8, FusedBatchNormGradV3 20, FusedBatchNormV3 20, MaxPool 1, MaxPoolGrad 1, PadV2 13, Relu 17, ' +
      'ReluGrad 17, Reshape 74, Slice 16',
    update: '',
    evaluate: 'Add 9, BatchMatMulV2 1, Cast 28, Conv2D 20, FusedBatchNormV3 20, MaxPool 1, PadV2 4, Relu 17',
  },
} as const;

for (const [name, functions] of [
  ['resnet20', resnet20],
  ['resnet18', resnet18],
] as const) {
  for (const fn of FUNCTIONS) {
    test(`${name}'s ${fn} in bfloat16: these operations and no others`, () => {
      const low = functions[fn].operations.filter(({ dtype }) => dtype === 'bfloat16');
      assert.equal(countsText(low), LOW_PRECISION[name][fn]);
    });
  }
}

test('the loss, the means, the statistics, the row and the weights stay float32', () => {
  const types = ['SoftmaxCrossEntropyWithLogits', 'Mean', 'Sum', 'ConcatV2', 'ReadVariableOp', 'Mul', 'BroadcastTo'];
  const found = resnet20.compute.operations.filter(({ type, dtype }) => types.includes(type) && dtype !== 'int32');
  assert.deepEqual([...new Set(found.map(({ type }) => type))].sort(), [...types].sort());
  for (const { type, dtype } of found) assert.equal(dtype, 'float32', type);
});

test('a value is cast once, however many operations take it', () => {
  const [x, k] = [normals([1, 4, 4, 2], 1), normals([3, 3, 2, 2], 2)];
  const twice = record(
    engine,
    [x, k],
    ([images, kernel]) => {
      const convolve = () => tf.conv2d(images!.value() as Tensor4D, kernel!.value() as Tensor4D, 1, 'same');
      return [tf.relu(convolve()), convolve()];
    },
    'bfloat16',
  );
  assert.equal(
    recordingText(twice.operations.filter(({ type }) => type !== 'Placeholder')),
    [
      'Cast [1,4,4,2] → [1,4,4,2] bfloat16',
      'Cast [3,3,2,2] → [3,3,2,2] bfloat16',
      'Conv2D [1,4,4,2] [3,3,2,2] → [1,4,4,2] bfloat16',
      'Relu [1,4,4,2] → [1,4,4,2] bfloat16',
      'Conv2D [1,4,4,2] [3,3,2,2] → [1,4,4,2] bfloat16',
      'Cast [1,4,4,2] → [1,4,4,2] float32',
      'Cast [1,4,4,2] → [1,4,4,2] float32',
    ].join('\n'),
  );
});

test('what has no bfloat16 input stays float32', () => {
  const fn = record(engine, [normals([2, 3])], ([x]) => [tf.relu(tf.add(x!.value(), x!.value()))], 'bfloat16');
  assert.deepEqual(
    fn.operations.map(({ type, dtype }) => `${type} ${dtype}`),
    ['Placeholder float32', 'Add float32', 'Relu float32'],
  );
});

/** Of the relative L2 error against float32; bfloat16 has eight bits, so that an error below the other bound would be none of its own. */
const AT_MOST = 1e-2;
const AT_LEAST = 1e-4;

function checkAgainstFloat32(inputs: readonly HostTensor[], code: TensorCode): void {
  const full = recorded(engine, inputs, code);
  for (const [i, low] of recorded(engine, inputs, code, 'bfloat16').entries()) {
    assert(low instanceof Float32Array, 'outputs leave as float32');
    const error = relativeL2(low, full[i]!);
    assert(error <= AT_MOST && error >= AT_LEAST, `output ${i}: error ${error}`);
  }
}

/** The output of a layer of (x, weights) and its gradients by both, from an upstream gradient that is the third input. */
function withGradients(layer: (x: Tensor, weights: Tensor) => Tensor): TensorCode {
  return (x, weights, upstream) => {
    const loss = (...args: Tensor[]) => tf.sum(tf.mul(layer(args[0]!, args[1]!), upstream!)) as Scalar;
    return [layer(x!, weights!), ...tf.valueAndGrads(loss as never)([x, weights] as never).grads];
  };
}

for (const [stride, size] of [
  [1, 16],
  [2, 8],
] as const) {
  test(`a convolution of stride ${stride} and its two gradients are within 1e-2 of float32`, () => {
    const inputs = [normals([8, 16, 16, 32], 1), normals([3, 3, 32, 32], 2), normals([8, size, size, 32], 3)];
    checkAgainstFloat32(
      inputs,
      withGradients((x, kernel) => tf.conv2d(x as Tensor4D, kernel as Tensor4D, stride, 'same')),
    );
  });
}

test('the kernel of a wide convolution on a small map has its gradient from nine products, within 1e-2 of float32', () => {
  const inputs = [normals([2, 5, 7, 256], 1), normals([3, 3, 256, 257], 2), normals([2, 5, 7, 257], 3)];
  const code = withGradients((x, kernel) => tf.conv2d(x as Tensor4D, kernel as Tensor4D, 1, 'same'));
  checkAgainstFloat32(inputs, code);
});

for (const [what, products, precision, [channels, filters, size, kernel, stride]] of [
  ['256 channels on 8 × 8 pixels', 9, 'bfloat16', [256, 256, 8, 3, 1]],
  ['the same in float32', 0, 'float32', [256, 256, 8, 3, 1]],
  ['9 × 9 pixels', 0, 'bfloat16', [256, 256, 9, 3, 1]],
  ['255 channels', 0, 'bfloat16', [255, 256, 8, 3, 1]],
  ['255 filters', 0, 'bfloat16', [256, 255, 8, 3, 1]],
  ['a 1 × 1 kernel', 0, 'bfloat16', [256, 256, 8, 1, 1]],
  ['a stride of 2', 0, 'bfloat16', [256, 256, 8, 3, 2]],
] as const) {
  test(`products for the gradient of a kernel: ${what}, ${products}`, () => {
    const output = Math.ceil(size / stride);
    const shapes = [
      [1, size, size, channels],
      [kernel, kernel, channels, filters],
      [1, output, output, filters],
    ];
    const code = withGradients((x, weights) => tf.conv2d(x as Tensor4D, weights as Tensor4D, stride, 'same'));
    const fn = record(
      engine,
      shapes.map((shape, i) => normals(shape, i)),
      (inputs) => code(...inputs.map((input) => input.value())),
      precision,
    );
    const count = (wanted: string) => fn.operations.filter(({ type }) => type === wanted).length;
    assert.deepEqual([count('BatchMatMulV2'), count('Conv2DBackpropFilter')], [products, products === 0 ? 1 : 0]);
  });
}

test('a dense layer and its two gradients are within 1e-2 of float32', () => {
  const inputs = [normals([32, 256], 1), normals([256, 64], 2), normals([32, 64], 3)];
  checkAgainstFloat32(
    inputs,
    withGradients((x, weights) => tf.matMul(x as Tensor2D, weights as Tensor2D)),
  );
});

test('batch norm after a convolution: output and batch statistics are within 1e-2 of float32', () => {
  const inputs = [normals([8, 8, 8, 16], 1), normals([3, 3, 16, 16], 2), normals([16], 3), normals([16], 4)];
  checkAgainstFloat32(inputs, (x, kernel, scale, offset) => {
    const y = tf.add(tf.conv2d(x as Tensor4D, kernel as Tensor4D, 1, 'same'), 5) as Tensor4D; // a mean that is not near 0
    const batch = batchNormTraining(y, scale as Tensor1D, offset as Tensor1D, 1e-5);
    return [batch.y, batch.meanC, batch.varianceC];
  });
});
