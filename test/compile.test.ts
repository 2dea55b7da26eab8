/** compile(fn): a recorded step of tfjs code does what the eager step does; what cannot be recorded is told. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { LayersModel, Optimizer } from '@tensorflow/tfjs';
import { compileOn, randomKey } from '../src/graph/compile.js';
import { startEngine } from '../src/graph/engine.js';
import { withRandomKey } from '../src/graph/random-ops.js';
import { withSeededRandom } from '../src/graph/random-source.js';
import {
  type Scalar,
  type Tensor,
  type Tensor1D,
  type Tensor2D,
  type Tensor4D,
  tf,
  type Variable,
} from '../src/graph/tfjs.js';
import { liveHandles } from '../src/tensorflow/tensor-handle.js';
import { assertClose } from './support/assert-close.js';
import { normals } from './support/recorded-function.js';
import { CPU_0, errorOf, testRuntime } from './support/test-runtime.js';

const engine = startEngine(testRuntime(), CPU_0);

type Images = Tensor4D;
type Forward = (images: Images, mode: { training: boolean }) => Tensor2D;
type Made = LayersModel | Forward;
type Maker = (context: object) => Made;

const SIZE = 16;
const CLASSES = 5;
const SEED = 3;

/** A model of examples/models, its forward pass with what its regularisers add, and its variables. */
async function makeExample(name: string) {
  const { model: maker } = (await import(new URL(`../../examples/models/${name}.mjs`, import.meta.url).href)) as {
    model: Maker;
  };
  const before = new Set(Object.keys(tf.engine().registeredVariables));
  const context = { tf, classes: CLASSES, height: SIZE, width: SIZE, channels: 3 };
  const made = await withSeededRandom(7, () => {
    const own = maker(context);
    if (typeof own === 'function') tf.tidy(() => own(tf.zeros([1, SIZE, SIZE, 3]), { training: false }));
    return own;
  });
  const variables = Object.entries(tf.engine().registeredVariables).flatMap(([key, variable]) =>
    before.has(key) ? [] : [variable],
  );
  const lossOf = (images: Images, labels: Tensor1D): Scalar => {
    const logits =
      typeof made === 'function'
        ? made(images, { training: true })
        : (made.apply(images, { training: true }) as Tensor2D);
    const crossEntropy = tf.losses.softmaxCrossEntropy(tf.oneHot(labels, CLASSES), logits) as Scalar;
    const penalties = typeof made === 'function' ? [] : made.calculateLosses();
    return tf.addN([crossEntropy, ...penalties]) as Scalar;
  };
  return { made, variables, lossOf };
}

function batch(step: number): { images: Images; labels: Tensor1D } {
  const { values } = normals([8, SIZE, SIZE, 3], 100 + step);
  return {
    images: tf.tensor4d(values as Float32Array, [8, SIZE, SIZE, 3]),
    labels: tf.tensor1d([0, 1, 2, 3, 4, 0, 1, 2], 'int32'),
  };
}

const valuesOf = (variables: readonly Variable[]) => variables.map((variable) => variable.dataSync() as Float32Array);

function restore(variables: readonly Variable[], values: readonly Float32Array[]): void {
  tf.tidy(() => {
    for (const [i, variable] of variables.entries()) variable.assign(tf.tensor(values[i]!.slice(), variable.shape));
  });
}

/** Losses and variables after ten steps, the learning rate another one from the sixth step on. */
function tenSteps(
  variables: readonly Variable[],
  optimizer: Optimizer,
  step: (images: Images, labels: Tensor1D, index: number) => Scalar,
): { losses: Float32Array; weights: Float32Array[] } {
  const losses = Float32Array.from(
    { length: 10 },
    (_, i) =>
      tf.tidy(() => {
        if (i === 5) setLearningRate(optimizer, RATE / 4);
        const { images, labels } = batch(i);
        return step(images, labels, i).dataSync()[0]!;
      }) as unknown as number,
  );
  return { losses, weights: valuesOf(variables) };
}

const RATE = 0.01;
/** sgd and momentum take it by a method, the others as a property. */
function setLearningRate(optimizer: Optimizer, rate: number): void {
  const own = optimizer as unknown as { learningRate: number; setLearningRate?(rate: number): void };
  if (own.setLearningRate) own.setLearningRate(rate);
  else own.learningRate = rate;
}

const OPTIMIZERS: Readonly<Record<string, () => Optimizer>> = {
  sgd: () => tf.train.sgd(RATE),
  momentum: () => tf.train.momentum(RATE, 0.9, true),
  adam: () => tf.train.adam(RATE),
  rmsprop: () => tf.train.rmsprop(RATE / 10, 0.9, 0.5, 1e-3),
  adamax: () => tf.train.adamax(RATE),
  adagrad: () => tf.train.adagrad(RATE),
  adadelta: () => tf.train.adadelta(RATE),
};

for (const [name, optimizers] of [
  ['convnet', ['sgd', 'momentum', 'adam', 'rmsprop', 'adamax', 'adagrad', 'adadelta']],
  ['mobilenet', ['momentum']],
  ['transformer', ['adam']],
] as const) {
  test(`${name}: ten recorded steps are ten eager steps (${optimizers.join(', ')})`, async () => {
    const { variables, lossOf } = await makeExample(name);
    const trained = variables.filter(({ trainable }) => trainable);
    const first = valuesOf(variables);
    for (const kind of optimizers) {
      const run = (isRecorded: boolean) => {
        restore(variables, first);
        const optimizer = OPTIMIZERS[kind]!();
        const step = (images: Images, labels: Tensor1D) =>
          optimizer.minimize(() => lossOf(images, labels), true, trained) as Scalar;
        const compiled = compileOn(engine, step, { seed: SEED });
        const eager = (images: Images, labels: Tensor1D, i: number) =>
          withRandomKey(tf.tensor1d(randomKey(SEED, i), 'int32'), () => step(images, labels));
        const result = tenSteps(variables, optimizer, isRecorded ? compiled : eager);
        const { iterations } = optimizer;
        optimizer.dispose();
        return { ...result, iterations };
      };
      const eager = run(false);
      const recorded = run(true);
      assertClose(recorded.losses, eager.losses, 1e-5, `${name}, ${kind}: losses`);
      assert.equal(recorded.iterations, eager.iterations, `${kind}: steps counted`);
      for (const [i, { name: variable }] of variables.entries())
        assertClose(recorded.weights[i]!, eager.weights[i]!, 1e-5, `${name}, ${kind}: ${variable}`);
      assert.ok(new Set(eager.losses).size === 10, 'the losses move');
    }
    tf.dispose([...variables]);
  });
}

test('arguments are tensors and numbers; shapes have recordings of their own; results keep their form', () => {
  let traced = 0;
  const fn = compileOn(engine, (x: Tensor, factor: number) => {
    traced++;
    const y = tf.mul(x, factor);
    return { y, sum: tf.sum(y) };
  });
  tf.tidy(() => {
    for (const [values, factor] of [
      [[1, 2], 3],
      [[4, 5], 6],
      [[1, 2, 3], 2],
    ] as const) {
      const { y, sum } = fn(tf.tensor1d([...values]), factor) as { y: Tensor; sum: Tensor };
      assert.deepEqual(
        [...y.dataSync()],
        values.map((value) => value * factor),
      );
      assert.equal(
        sum.dataSync()[0],
        values.reduce((a, b) => a + b * factor, 0),
      );
    }
    const pair = compileOn(engine, (x: Tensor) => [x, x] as const)(tf.scalar(7));
    assert.deepEqual(
      pair.map((tensor) => tensor.dataSync()[0]),
      [7, 7],
    );
  });
  assert.equal(traced, 2);
});

test('variables are inputs and outputs: read, assigned, made inside; they stay ordinary variables', () => {
  const count = tf.variable(tf.scalar(1), false);
  let made: Variable | undefined;
  const fn = compileOn(engine, (x: Tensor) => {
    count.assign(tf.add(count, x));
    made ??= tf.variable(tf.mul(x, 10), false);
    made.assign(tf.add(made, count));
    return tf.mul(count, 2);
  });
  const results = [1, 2, 3].map((value) => tf.tidy(() => (fn(tf.scalar(value)) as Tensor).dataSync()[0]));
  assert.deepEqual(results, [4, 8, 14]);
  assert.deepEqual([count.dataSync()[0], made!.dataSync()[0]], [7, 10 + 2 + 4 + 7]);
  tf.tidy(() => count.assign(tf.scalar(100)));
  assert.equal(
    tf.tidy(() => (fn(tf.scalar(1)) as Tensor).dataSync()[0]),
    202,
  );
  tf.dispose([count, made!]);
});

test('random operations draw other numbers at each call, the same for the same seed', () => {
  const draws = (seed: number) => {
    const x = tf.ones([64]);
    const fn = compileOn(
      engine,
      (x: Tensor) => [
        tf.dropout(x, 0.5),
        tf.randomUniform([64], 2, 4),
        tf.randomNormal([64], 1, 0.5),
        tf.truncatedNormal([64]),
        tf.randomUniformInt([64], 0, 5),
        tf.cast(tf.multinomial(tf.zeros([1, 4]) as Tensor2D, 64), 'float32'),
      ],
      { seed },
    );
    const values = [0, 1].map(() => tf.tidy(() => fn(x).map((tensor) => [...tensor.dataSync()])));
    x.dispose();
    return values;
  };
  const [first, second] = draws(1) as [number[][], number[][]];
  for (const i of first.keys()) assert.notDeepEqual(first[i], second[i]);
  assert.deepEqual(draws(1), [first, second]);
  assert.notDeepEqual(draws(2)[0], first);
  const [kept, uniform, normal, truncated, integers] = first as [number[], number[], number[], number[], number[]];
  assert.deepEqual([...new Set(kept)].sort(), [0, 2]);
  assert.ok(uniform.every((value) => value >= 2 && value < 4));
  const mean = normal.reduce((a, b) => a + b) / 64;
  assert.ok(Math.abs(mean - 1) < 0.25, `mean ${mean}`);
  assert.ok(truncated.every((value) => Math.abs(value) <= 2));
  assert.deepEqual([...new Set(integers)].sort(), [0, 1, 2, 3, 4]);
});

/** A layer whose code cannot be recorded. */
class Peeking extends tf.layers.Layer {
  static className = 'Peeking';
  override call(inputs: Tensor | Tensor[]): Tensor {
    const x = Array.isArray(inputs) ? inputs[0]! : inputs;
    return x.dataSync()[0]! > 0 ? tf.neg(x) : x;
  }
}

test('what cannot be recorded names the layer and the line', () => {
  const x = tf.ones([2, 3]);
  const messageOf = (fn: (x: Tensor) => Tensor, place: RegExp) => {
    const { code, message } = errorOf(() => compileOn(engine, fn)(x));
    assert.match(message, place);
    return [
      code,
      message
        .replace(/ \([^()]*compile\.test\.js:\d+:\d+\)/, ' (HERE)')
        .replace(/ \([^()]*\([^()]*compile\.test\.js:\d+:\d+\)\)/, ' (HERE)'),
    ];
  };
  const layer = new Peeking({ name: 'peek' });
  assert.deepEqual(
    messageOf(
      (input) => layer.apply(input) as Tensor,
      /in layer peek \(Peeking\.call .*compile\.test\.js:\d+:\d+\)/,
    )[0],
    'DTRAIN_READ_WHILE_RECORDING',
  );
  const here = /compile\.test\.js:\d+:\d+/;
  assert.equal(messageOf((input) => tf.rand([2], () => 1).add(input), here)[0], 'DTRAIN_RANDOM_WHILE_RECORDING');
  assert.equal(messageOf((input) => tf.mul(input, Math.random()), here)[0], 'DTRAIN_RANDOM_WHILE_RECORDING');
  assert.equal(messageOf((input) => tf.unique(tf.reshape(input, [6])).values, here)[0], 'DTRAIN_UNSUPPORTED');
  x.dispose();
});

test('arguments and results that are no tensors are refused', () => {
  const messageOf = (act: () => unknown) => {
    const { code, message } = errorOf(act);
    return [code, message];
  };
  assert.deepEqual(
    messageOf(() => compileOn(engine, (x: Tensor) => x)('a' as never)),
    [
      'DTRAIN_COMPILE_ARGUMENT',
      'compiled function: argument 1: expected a tensor of float32, int32 or bool, or a number, got string. Close over what is always the same.',
    ],
  );
  const step = (x: Tensor) => ({ x, name: 'y' as never as Tensor });
  assert.deepEqual(
    messageOf(() => tf.tidy(() => compileOn(engine, step)(tf.scalar(1)) as never)),
    [
      'DTRAIN_COMPILE_RESULT',
      'compiled step: result: expected a tensor, an array or a record of tensors, or nothing, got name: string.',
    ],
  );
  const later = async (x: Tensor) => x.data();
  assert.deepEqual(
    messageOf(() => tf.tidy(() => compileOn(engine, later as never as (x: Tensor) => Tensor)(tf.scalar(1)))),
    [
      'DTRAIN_COMPILE_RESULT',
      'compiled later: result: expected tensors, got a promise. Values cannot be awaited inside of a recording: read them from the result.',
    ],
  );
  const again = (x: Tensor) => tf.variable(x, false).add(1);
  assert.deepEqual(
    messageOf(() => tf.tidy(() => compileOn(engine, again)(tf.scalar(1)))).map((text) =>
      text.replace(/variable \d+/, 'variable N'),
    ),
    [
      'DTRAIN_COMPILE_VARIABLE',
      'compiled again: variable N: expected variables to be made once, got a new one at every call. Make it before the call.',
    ],
  );
});

test('calls leave no tensors behind, nor do recordings that fail', () => {
  const weights = tf.variable(tf.ones([3]));
  const optimizer = tf.train.adam(0.1);
  const step = compileOn(engine, () => optimizer.minimize(() => tf.sum(tf.square(weights)) as Scalar, true) as Scalar);
  tf.dispose(step());
  const before = [engine.liveTensors, liveHandles()];
  for (let i = 0; i < 3; i++) tf.dispose(step());
  errorOf(() => compileOn(engine, () => tf.variable(tf.neg(weights)).dataSync() as never)());
  assert.deepEqual([engine.liveTensors, liveHandles()], before);
  optimizer.dispose();
  weights.dispose();
});
