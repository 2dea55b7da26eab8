/** Recording: unmodified tfjs code gives what it gives eagerly; what cannot be recorded is told; a recording is data that can be checked. */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { sizeOf } from '../src/core/shape.js';
import { startEngine } from '../src/graph/engine.js';
import { type RecordedOperation, recordingText } from '../src/graph/recording.js';
import { type Scalar, type Tensor, type Tensor1D, type Tensor2D, type Tensor4D, tf } from '../src/graph/tfjs.js';
import { makeModel } from '../src/model/catalogue.js';
import { liveHandles } from '../src/tensorflow/tensor-handle.js';
import { type RecordedProgram, recordProgram } from '../src/train/step-program.js';
import { assertClose } from './support/assert-close.js';
import { PLAIN_SGD } from './support/one-rank.js';
import {
  eager,
  floats,
  type HostTensor,
  integers,
  normals,
  record,
  recorded,
  run,
} from './support/recorded-function.js';
import { CPU_0, CPU_1, errorOf, testRuntime } from './support/test-runtime.js';

const engine = startEngine(testRuntime(), CPU_0);
after(() => assert.deepEqual([engine.liveTensors, liveHandles()], [0, 0], 'live tensors and handles'));

// Recorded = eager

/** Several kernels in a row may be fused in a function: another order of sums. */
const FUSED = 1e-6;

interface Case {
  readonly name: string;
  readonly inputs: readonly HostTensor[];
  readonly code: (...tensors: never[]) => Tensor;
  /** Of the relative L2 error; 0: the same bits. */
  readonly tolerance?: number;
  readonly withoutGradient?: boolean;
}

const x4 = normals([2, 9, 8, 3], 1);
const kernel = normals([3, 3, 3, 4], 2);
const rows = normals([4, 6], 3);
const perChannel = [4, 5, 6].map((stream) => normals([3], stream));
const positive = floats([0.5, 1.5, 2.5]);
const oneHot = floats(
  [0, 1, 2, 5].flatMap((label) => [0, 1, 2, 3, 4, 5].map((k) => Number(k === label))),
  [4, 6],
);

const cases: readonly Case[] = [
  ...(['same', 'valid'] as const).flatMap((padding) =>
    [1, 2].flatMap((stride): Case[] => [
      {
        name: `conv2d, ${padding}, stride ${stride}`,
        inputs: [x4, kernel],
        code: (x: Tensor4D, k: Tensor4D) => tf.conv2d(x, k, stride, padding),
      },
      {
        name: `maxPool, ${padding}, stride ${stride}`,
        inputs: [x4],
        code: (x: Tensor4D) => tf.maxPool(x, 3, stride, padding),
      },
      {
        name: `avgPool, ${padding}, stride ${stride}`,
        inputs: [x4],
        code: (x: Tensor4D) => tf.avgPool(x, 3, stride, padding),
      },
    ]),
  ),
  {
    name: 'depthwiseConv2d',
    inputs: [x4, normals([3, 3, 3, 2], 7)],
    code: (x: Tensor4D, k: Tensor4D) => tf.depthwiseConv2d(x, k, 1, 'same'),
  },
  {
    name: 'batchNorm',
    inputs: [x4, perChannel[0]!, positive, perChannel[1]!, perChannel[2]!],
    code: (x: Tensor4D, mean: Tensor1D, variance: Tensor1D, offset: Tensor1D, scale: Tensor1D) =>
      tf.batchNorm(x, mean, variance, offset, scale, 1e-3),
    tolerance: FUSED,
  },
  {
    name: 'moments',
    inputs: [x4],
    code: (x: Tensor4D) => {
      const { mean, variance } = tf.moments(x, [0, 1, 2]);
      return tf.concat([mean as Tensor1D, variance as Tensor1D]);
    },
    tolerance: FUSED,
  },
  {
    name: 'dense layer',
    inputs: [rows, normals([6, 5], 8), normals([5], 9)],
    code: (x: Tensor2D, weight: Tensor2D, bias: Tensor1D) => tf.relu(tf.add(tf.matMul(x, weight), bias)),
    tolerance: FUSED,
  },
  {
    name: 'fused.conv2d',
    inputs: [x4, kernel, normals([4], 10)],
    code: (x: Tensor4D, filter: Tensor4D, bias: Tensor1D) =>
      tf.fused.conv2d({ x, filter, strides: 1, pad: 'same', bias, activation: 'relu' }),
    tolerance: FUSED,
  },
  ...(
    [
      'absoluteDifference',
      'hingeLoss',
      'huberLoss',
      'meanSquaredError',
      'sigmoidCrossEntropy',
      'softmaxCrossEntropy',
    ] as const
  ).map(
    (loss): Case => ({
      name: `losses.${loss}`,
      inputs: [rows],
      code: (x: Tensor2D) => (tf.losses[loss] as (labels: Tensor, predictions: Tensor) => Tensor)(tensorOf(oneHot), x),
      tolerance: FUSED,
    }),
  ),
  {
    name: 'losses.cosineDistance',
    inputs: [rows],
    code: (x: Tensor2D) => tf.losses.cosineDistance(tensorOf(oneHot), x, 1),
    tolerance: FUSED,
  },
  {
    name: 'losses.logLoss',
    inputs: [rows],
    code: (x: Tensor2D) => tf.losses.logLoss(tensorOf(oneHot), tf.sigmoid(x)),
    tolerance: FUSED,
  },
  ...(
    [
      'relu',
      'relu6',
      'elu',
      'sigmoid',
      'tanh',
      'softplus',
      'exp',
      'square',
      'abs',
      'erf',
      'softmax',
      'logSoftmax',
    ] as const
  ).map((op): Case => ({ name: op, inputs: [rows], code: (x: Tensor) => tf[op](x), tolerance: FUSED })),
  ...(['sum', 'mean', 'max', 'min', 'prod', 'logSumExp'] as const).flatMap((op): Case[] => [
    { name: op, inputs: [rows], code: (x: Tensor) => tf[op](x), tolerance: FUSED },
    { name: `${op} of axis 0`, inputs: [rows], code: (x: Tensor) => tf[op](x, 0, true), tolerance: FUSED },
  ]),
  ...(['add', 'sub', 'mul', 'div'] as const).map(
    (op): Case => ({
      name: `${op} of [4,6] and [4,1]`,
      inputs: [rows, normals([4, 1], 11)],
      code: (a: Tensor, b: Tensor) => tf[op](a, b),
      tolerance: FUSED,
    }),
  ),
  { name: 'stack', inputs: [rows], code: (x: Tensor) => tf.stack([x, x, tf.neg(x)], 1) },
  { name: 'concat and split', inputs: [rows], code: (x: Tensor) => tf.concat(tf.split(x, 3, 1).reverse(), 0) },
  { name: 'addN', inputs: [rows], code: (x: Tensor) => tf.addN([x, tf.square(x), x]) },
  {
    name: 'einsum',
    inputs: [rows],
    code: (x: Tensor) => tf.einsum('ij,kj->ik', x, x),
    tolerance: FUSED,
    withoutGradient: true,
  },
  { name: 'transpose, reshape, pad, slice', inputs: [rows], code: (x: Tensor) => moved(x) },
  {
    name: 'gather',
    inputs: [rows],
    code: (x: Tensor) => tf.gather(x, tf.tensor1d([5, 0, 5], 'int32'), 1),
  },
  { name: 'where', inputs: [rows], code: (x: Tensor) => tf.where(tf.greater(tensorOf(oneHot), 0), x, tf.mul(x, 0.1)) },
  {
    name: 'oneHot of argMax',
    inputs: [rows],
    code: (x: Tensor) => tf.cast(tf.oneHot(tf.argMax(x, 1) as Tensor1D, 6), 'float32'),
    withoutGradient: true,
  },
];

function tensorOf({ values, shape }: HostTensor): Tensor {
  return tf.tensor(values, [...shape]);
}

function moved(x: Tensor): Tensor {
  const padded = tf.pad(tf.transpose(x), [
    [1, 0],
    [0, 2],
  ]);
  return tf.slice(tf.reshape(padded, [6, 7]), [1, 1], [3, 5]);
}

/** The value, the mean of its squares, and that mean's gradients by every input. */
function withGradients(code: (...tensors: Tensor[]) => Tensor) {
  return (...tensors: Tensor[]): Tensor[] => {
    const loss = (...args: Tensor[]) => tf.mean(tf.square(code(...args))) as Scalar;
    const { value, grads } = tf.valueAndGrads(loss as never)(tensors as never);
    return [code(...tensors), value, ...grads];
  };
}

for (const { name, inputs, code, tolerance = 0, withoutGradient } of cases) {
  test(`recorded = eager: ${name}`, () => {
    const plain = code as (...tensors: Tensor[]) => Tensor;
    const all = withoutGradient ? (...tensors: Tensor[]) => [plain(...tensors)] : withGradients(plain);
    const expected = eager(inputs, all);
    const got = recorded(engine, inputs, all);
    assert.equal(got.length, withoutGradient ? 1 : 2 + inputs.length);
    for (const [i, values] of expected.entries()) {
      assert(
        values.some((value) => value !== 0),
        'a value or gradient that is all zero tells nothing',
      );
      if (tolerance === 0) assert.deepEqual(got[i], values, `output ${i}`);
      else assertClose(got[i]!, values, tolerance, `output ${i}`);
    }
  });
}

function layersModel() {
  const kernelInitializer = () => tf.initializers.heNormal({ seed: 5 });
  const biasInitializer = () => tf.initializers.randomUniform({ minval: -1, maxval: 1, seed: 6 });
  const start = () => ({ kernelInitializer: kernelInitializer(), biasInitializer: biasInitializer() });
  return tf.sequential({
    layers: [
      tf.layers.conv2d({ ...start(), filters: 4, kernelSize: 3, padding: 'same', inputShape: [8, 8, 3] }),
      tf.layers.batchNormalization(),
      tf.layers.activation({ activation: 'relu' }),
      tf.layers.maxPooling2d({ poolSize: 2 }),
      tf.layers.conv2d({ ...start(), filters: 6, kernelSize: 3, strides: 2, activation: 'elu' }),
      tf.layers.dropout({ rate: 0.5 }),
      tf.layers.flatten(),
      tf.layers.dense({ ...start(), units: 5 }),
    ],
  });
}

test('recorded = eager: a tf.layers model by apply, by call, and its variables’ gradients', () => {
  const model = layersModel();
  const images = normals([2, 8, 8, 3], 12);
  const gradients = (x: Tensor) =>
    Object.values(tf.variableGrads(() => tf.mean(tf.square(model.apply(x) as Tensor))).grads);
  const code = (x: Tensor) => [
    model.apply(x) as Tensor,
    (model.call(x, {}) as Tensor[])[0]!,
    model.predict(x) as Tensor,
    ...gradients(x),
  ];
  const expected = eager([images], code);
  assert.equal(expected.length, 3 + 8);
  for (const [i, values] of recorded(engine, [images], code).entries()) {
    assertClose(values, expected[i]!, FUSED, `output ${i}`);
  }
  model.dispose();
});

test('a recorded function runs on the other device too, with the same bits', () => {
  const fn = record(engine, [x4, kernel], ([x, k]) => [
    tf.conv2d(x!.value() as Tensor4D, k!.value() as Tensor4D, 1, 'same'),
  ]);
  assert.deepEqual(run(engine, fn, [x4, kernel], CPU_1), run(engine, fn, [x4, kernel], CPU_0));
});

// Values that come from JavaScript

test('a host tensor serves eagerly and in two recordings', () => {
  const host = tf.tensor1d([1, 2, 3]);
  const x = floats([10, 20, 30]);
  const first = record(engine, [x], ([input]) => [tf.mul(input!.value(), host)]);
  assert.deepEqual(
    eager([], () => [tf.square(host)]),
    [Float32Array.of(1, 4, 9)],
  );
  const second = record(engine, [x], ([input]) => [tf.add(tf.add(input!.value(), host), tf.mul(host, host))]);
  assert.equal(second.operations.filter(({ type }) => type === 'Const').length, 1, 'one constant, used three times');
  assert.deepEqual(run(engine, first, [x]), [Float32Array.of(10, 40, 90)]);
  assert.deepEqual(run(engine, second, [x]), [Float32Array.of(12, 26, 42)]);
  assert.deepEqual(host.dataSync(), Float32Array.of(1, 2, 3));
  host.dispose();
});

test('an eagerly computed tensor becomes a constant of the recording', () => {
  const square = tf.tidy(() => tf.square(tf.tensor1d([1, 2, 3])));
  const fn = record(engine, [], () => [tf.neg(square)]);
  square.dispose();
  assert.deepEqual(run(engine, fn, []), [Float32Array.of(-1, -4, -9)]);
});

test('uniform constants of more than 64 elements are filled on the device, smaller ones and others are kept', () => {
  const texts = (code: () => Tensor) => recordingText(record(engine, [], () => [code()]).operations).split('\n');
  assert.deepEqual(
    texts(() => tf.ones([65])),
    ['Const → [1] int32', 'Const → [] float32', 'Fill [1] [] → [65] float32'],
  );
  assert.deepEqual(
    texts(() => tf.ones([64])),
    ['Const → [64] float32'],
  );
  const values = Float32Array.from({ length: 65 }, (_, i) => Number(i === 64));
  assert.deepEqual(
    texts(() => tf.tensor1d(values)),
    ['Const → [65] float32'],
  );
  const filled = record(engine, [], () => [tf.fill([9, 9], -2)]);
  assert.deepEqual(run(engine, filled, []), [new Float32Array(81).fill(-2)]);
});

test('an input may be an output, twice; so may a constant', () => {
  const x = floats([1, 2]);
  const fn = record(engine, [x], ([input]) => [input!.value(), input!.value(), tf.scalar(3)]);
  assert.deepEqual(run(engine, fn, [x]), [x.values, x.values, Float32Array.of(3)]);
});

test('int32 inputs and outputs', () => {
  const ids = integers([3, -1, 2]);
  const fn = record(engine, [ids], ([input]) => [tf.add(input!.value(), tf.scalar(1, 'int32'))]);
  assert.deepEqual(run(engine, fn, [ids]), [Int32Array.of(4, 0, 3)]);
});

// What cannot be recorded

const x1 = floats([1, -2, 3]);

/** `FILE:LINE` of the line below the one that calls this. */
function nextLine(): string {
  const [, url, line] = /(file:[^)]*):(\d+):\d+/.exec(new Error().stack!.split('\n')[2]!)!;
  return `${url}:${Number(line) + 1}`;
}

function readText(place: string): string {
  return (
    `recording step: a value is read with dataSync(), data(), array() or print() (${place}:C)); ` +
    'a recorded step has no values yet. Use tf.where, or move the read out of the step.'
  );
}

/** The message without the column, which depends on the compiler. */
function withoutColumn({ message }: Error): string {
  return message.replace(/:\d+\)\)/, ':C))').replace(/:\d+\);/, ':C));');
}

test('a value that is read while recording is told, with the line that reads it', () => {
  let place = '';
  function gate(x: Tensor): Tensor {
    place = nextLine();
    return x.dataSync()[0]! > 0 ? x : tf.neg(x);
  }
  const error = errorOf(() => record(engine, [x1], ([x]) => [gate(x!.value())]));
  assert.deepEqual([error.code, error.exitCode], ['DTRAIN_READ_WHILE_RECORDING', 3]);
  assert.equal(withoutColumn(error), readText(`gate (${place}`));
});

for (const read of ['arraySync', 'print'] as const) {
  test(`${read} while recording is told the same way`, () => {
    let place = '';
    function show(x: Tensor): Tensor {
      place = nextLine();
      x[read]();
      return x;
    }
    const error = errorOf(() => record(engine, [x1], ([x]) => [show(x!.value())]));
    assert.equal(withoutColumn(error), readText(`show (${place}`));
  });
}

test('data() while recording rejects with the same text', async () => {
  let place = '';
  let reading: Promise<unknown> = Promise.resolve();
  function show(x: Tensor): Tensor {
    place = nextLine();
    reading = x.data();
    return x;
  }
  record(engine, [x1], ([x]) => [show(x!.value())]);
  await assert.rejects(reading, (error: Error) => withoutColumn(error) === readText(`show (${place}`));
});

test('after a recording that failed inside of a gradient, recording and eager code go on', () => {
  const before = engine.liveTensors;
  const failing = () =>
    record(engine, [x1], ([x]) => {
      const loss = (a: Tensor) => {
        a.dataSync();
        return tf.sum(a) as Scalar;
      };
      return [tf.grad(loss as never)(x!.value())];
    });
  assert.equal(errorOf(failing).code, 'DTRAIN_READ_WHILE_RECORDING');
  assert.equal(engine.liveTensors, before);
  const gradient = (x: Tensor) => [tf.grad((a) => tf.sum(tf.square(a)))(x)];
  assert.deepEqual(recorded(engine, [x1], gradient), [Float32Array.of(2, -4, 6)]);
  assert.deepEqual(eager([x1], gradient), [Float32Array.of(2, -4, 6)]);
});

test('a tensor of one recording is refused in another, and eagerly', () => {
  let foreign: Tensor | undefined;
  record(engine, [x1], ([x]) => {
    foreign = tf.keep(tf.neg(x!.value()));
    return [foreign];
  });
  const text =
    'recording step: a tensor of another recording is used. Make it inside the step, or read it before with dataSync().';
  for (const use of [() => record(engine, [x1], ([x]) => [tf.add(x!.value(), foreign!)]), () => tf.neg(foreign!)]) {
    const { code, exitCode, message } = errorOf(use);
    assert.deepEqual([code, exitCode, message], ['DTRAIN_FOREIGN_TENSOR', 3, text]);
  }
  foreign!.dispose();
});

test('a shape that depends on values is told', () => {
  const { exitCode, message } = errorOf(() => record(engine, [x1], ([x]) => [tf.unique(x!.value()).values]));
  assert.equal(exitCode, 3);
  assert.equal(
    message.replace(/ \(file:[^)]*graph\.test\.js:\d+:\d+\)/, ' (HERE)'),
    'recording UniqueV2 (HERE): its output has a shape that is known only when it runs; a recorded step has fixed shapes. ' +
      'Use tf.where, or move it out of the step.',
  );
});

test('a recording inside a recording, and an operation outside of one, are our own mistakes', () => {
  const inner = () => record(engine, [x1], ([x]) => [x!.value()]);
  const nested = errorOf(() => record(engine, [x1], () => (inner().numOutputs === 1 ? [] : [])));
  assert.equal(nested.message, 'internal: a recording began inside another');
  const outside = errorOf(() => engine.placeholder([1]));
  assert.equal(outside.message, 'internal: an operation was to be recorded outside of a recording');
});

// The recorded step of a ResNet

function program(name: string, stem: 'cifar' | 'imagenet', shardBatch: number): RecordedProgram['functions'] {
  const model = makeModel(engine, { name, classes: 10, shortcut: 'A', stem }, [32, 32]);
  const split = { numImages: 100, height: 32, width: 32 };
  return recordProgram(engine, model, {
    precision: 'float32',
    xla: false,
    shardBatch,
    evaluationBatch: 2 * shardBatch,
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

const resnet20 = program('resnet20', 'cifar', 8);

function constantShapes(operations: readonly RecordedOperation[]): string[] {
  const constants = operations.filter(({ type }) => type === 'Const' || type === 'Fill');
  return constants.map((operation) => recordingText([operation]));
}

test('a step holds no constant that grows with images or batch, and none above 64 elements', () => {
  const functions = ['compute', 'update', 'evaluate'] as const;
  for (const [small, large] of [
    [resnet20, program('resnet20', 'cifar', 24)],
    [program('resnet18', 'imagenet', 8), program('resnet18', 'imagenet', 24)],
  ] as const) {
    for (const fn of functions) {
      const { operations } = small[fn];
      assert.deepEqual(constantShapes(operations), constantShapes(large[fn].operations), fn);
      const constants = operations.filter(({ type }) => type === 'Const' || type === 'Fill');
      for (const { outputShapes } of constants) assert(sizeOf(outputShapes[0]!) <= 64, `${fn}: ${outputShapes}`);
    }
  }
});

const EXPECTED_COUNTS = {
  compute:
    'Add 28, ArgMax 1, AvgPool 2, AvgPoolGrad 2, BatchMatMulV2 3, BroadcastTo 2, Cast 4, ConcatV2 1, ' +
    'Const 204, Conv2D 19, Conv2DBackpropFilter 19, Conv2DBackpropInput 18, Equal 1, ExpandDims 12, ' +
    'FusedBatchNormGradV3 19, FusedBatchNormV3 19, GatherV2 2, GreaterEqual 4, Less 4, LogicalAnd 7, ' +
    'LogicalNot 1, Maximum 2, Mean 3, Minimum 2, Mul 9, OneHot 1, PadV2 4, Placeholder 66, Range 4, ' +
    'ReadVariableOp 59, Relu 19, ReluGrad 19, Reshape 66, Slice 4, SoftmaxCrossEntropyWithLogits 1, ' +
    'SplitV 2, Sub 6, Sum 1',
  update:
    'Add 59, AssignSubVariableOp 1, Const 241, Mul 60, Placeholder 122, ReadVariableOp 60, Reshape 60, ' +
    'ResourceApplyMomentum 59, Slice 60, Sub 1, Unpack 1',
  evaluate:
    'Add 11, ArgMax 1, AvgPool 2, BatchMatMulV2 1, Cast 4, Const 31, Conv2D 19, FusedBatchNormV3 19, ' +
    'GatherV2 2, Greater 1, Max 1, Mean 1, Mul 2, OneHot 2, PadV2 4, Placeholder 63, ReadVariableOp 60, Relu 19, ' +
    'Reshape 2, Softmax 1, SoftmaxCrossEntropyWithLogits 1, SplitV 3, Sum 2',
};

for (const fn of ['compute', 'update', 'evaluate'] as const) {
  test(`the operations of ResNet-20’s ${fn}: a change of any number is a change to look at`, () => {
    const counts = new Map<string, number>();
    for (const { type } of resnet20[fn].operations) counts.set(type, (counts.get(type) ?? 0) + 1);
    const text = [...counts]
      .map(([type, count]) => `${type} ${count}`)
      .sort()
      .join(', ');
    assert.equal(text, EXPECTED_COUNTS[fn]);
  });
}

test('recording a program leaves no tensor behind', () => {
  const before = [engine.liveTensors, liveHandles(), tf.memory().numTensors];
  program('resnet20', 'cifar', 4);
  assert.deepEqual([engine.liveTensors, liveHandles(), tf.memory().numTensors], before);
});
