/** Networks in modules of the user's own: their steps are tfjs's, their weights have names, what cannot be trained is told. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { LayersModel } from '@tensorflow/tfjs';
import type { DtrainError } from '../src/core/errors.js';
import { randomKey } from '../src/graph/compile.js';
import { startEngine } from '../src/graph/engine.js';
import { withRandomKey } from '../src/graph/random-ops.js';
import { withSeededRandom } from '../src/graph/random-source.js';
import { type Scalar, type Tensor1D, type Tensor2D, type Tensor4D, tf } from '../src/graph/tfjs.js';
import { type ModelModule, makeModuleModel, type PlainModel } from '../src/model/module-model.js';
import { liveHandles } from '../src/tensorflow/tensor-handle.js';
import { assertClose } from './support/assert-close.js';
import { OneRank, SEED } from './support/one-rank.js';
import { CPU_0, testRuntime } from './support/test-runtime.js';

const engine = startEngine(testRuntime(), CPU_0);
const SIZE = 16;
const CLASSES = 4;
const IMAGES = 8;
const OPTIONS = { file: 'own.mjs', name: 'own', classes: CLASSES, imageSize: [SIZE, SIZE], seed: 7 } as const;
const CONTEXT = { tf, classes: CLASSES, height: SIZE, width: SIZE, channels: 3 } as const;

const exampleFile = (name: string) => fileURLToPath(new URL(`../../examples/models/${name}.mjs`, import.meta.url));
const example = async (name: string) => ((await import(exampleFile(name))) as { model: ModelModule }).model;

/** Ten steps of momentum SGD as tfjs makes them, eagerly. */
async function tenEagerSteps(make: ModelModule, images: Tensor4D, labels: Tensor1D) {
  const before = new Set(Object.values(tf.engine().registeredVariables));
  const made = await withSeededRandom(OPTIONS.seed, async () => {
    const own = await make(CONTEXT);
    if (typeof own === 'function') tf.tidy(() => own(images, { training: false })); // layers make their weights now
    return own;
  });
  const isLayers = made instanceof tf.LayersModel;
  const call = (training: boolean) =>
    isLayers ? (made.apply(images, { training }) as Tensor2D) : (made(images, { training }) as Tensor2D);
  const variables = Object.values(tf.engine().registeredVariables).filter((variable) => !before.has(variable));
  const optimizer = tf.train.momentum(0.05, 0.9);
  const losses: number[] = [];
  for (let step = 1; step <= 10; step++) {
    tf.tidy(() => {
      const lossOf = () => {
        const crossEntropy = tf.losses.softmaxCrossEntropy(tf.oneHot(labels, CLASSES), call(true));
        return tf.addN([crossEntropy, ...(isLayers ? made.calculateLosses() : [])]) as Scalar;
      };
      const key = tf.tensor1d(randomKey(SEED, step), 'int32');
      const trained = variables.filter(({ trainable }) => trainable);
      losses.push(withRandomKey(key, () => optimizer.minimize(lossOf, true, trained)!.dataSync()[0]!));
    });
  }
  const floats = (trainable: boolean) =>
    variables
      .filter((variable) => variable.trainable === trainable)
      .map((variable) => variable.dataSync() as Float32Array);
  const result = { losses, parameters: floats(true), averages: floats(false) };
  optimizer.dispose();
  tf.dispose(variables);
  return result;
}

for (const name of ['convnet', 'mobilenet', 'transformer']) {
  test(`${name}: ten steps of dtrain are ten eager steps of tfjs, moving averages and dropout included`, async () => {
    const make = await example(name);
    const imagesNHWC = Uint8Array.from({ length: IMAGES * SIZE * SIZE * 3 }, (_, i) => (i * 7919) % 251);
    const labels = Int32Array.from({ length: IMAGES }, (_, i) => i % CLASSES);
    const normalization = { mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25] } as const;
    const model = await makeModuleModel(engine, make, OPTIONS);
    const { parameters, averages, losses } = await eagerOn(make, imagesNHWC, labels);
    const images = { imagesNHWC, labels, height: SIZE, width: SIZE, normalization };
    using one = new OneRank(engine, model, model.first!, images, { optimizer: { momentum: 0.9 } });
    for (const [i, loss] of losses.entries()) assertClose([one.step(0.05).loss], [loss], 1e-5, `loss of step ${i + 1}`);
    const state = one.state();
    for (const [i, { name: parameter }] of model.parameters.entries())
      assertClose(state.parameters[i]!, parameters[i]!, 1e-5, parameter);
    const own = model.statistics.flatMap((_, i) => [state.means[i]!, state.variances[i]!]);
    assert.equal(own.length, averages.length);
    for (const [i, values] of averages.entries()) assertClose(own[i]!, values, 1e-5, `moving average ${i}`);
  });
}

async function eagerOn(make: ModelModule, imagesNHWC: Uint8Array, labels: Int32Array) {
  const pixels = Float32Array.from(imagesNHWC, (pixel) => (pixel / 255 - 0.5) / 0.25);
  const images = tf.tensor4d(pixels, [IMAGES, SIZE, SIZE, 3]);
  const labelsN = tf.tensor1d(labels, 'int32');
  const result = await tenEagerSteps(make, images, labelsN);
  tf.dispose([images, labelsN]);
  return result;
}

test('the first weights come from the seed; names are the same whenever a model is made', async () => {
  const make = await example('convnet');
  const [first, again, other] = await Promise.all(
    [OPTIONS, OPTIONS, { ...OPTIONS, seed: 8 }].map((options) => makeOne(make, options)),
  );
  assert.deepEqual(again, first);
  assert.deepEqual(other!.names, first!.names);
  assert.notDeepEqual(other!.first, first!.first);
  assert.deepEqual(first!.names, [
    'conv2d_1.kernel',
    'conv2d_1.bias',
    'conv2d_2.kernel',
    'batch_normalization_1.gamma',
    'batch_normalization_1.beta',
    'dense_1.kernel',
    'dense_1.bias',
    'batch_normalization_1',
  ]);
});

async function makeOne(make: ModelModule, options: typeof OPTIONS | { seed: number }) {
  const model = await makeModuleModel(engine, make, { ...OPTIONS, ...options });
  return { names: [...model.parameters, ...model.statistics].map(({ name }) => name), first: model.first };
}

test('batch normalisation of rows, of channels first, without scale and offset', async () => {
  const layer = (options: object, shape: number[]): ModelModule => {
    const own = ({ tf, classes }: { tf: typeof import('@tensorflow/tfjs'); classes: number }): LayersModel =>
      tf.sequential({
        layers: [
          tf.layers.reshape({ inputShape: [SIZE, SIZE, 3], targetShape: shape }),
          tf.layers.batchNormalization({ ...options, betaInitializer: 'randomNormal' }),
          tf.layers.reshape({ targetShape: [SIZE * SIZE * 3] }),
          tf.layers.dense({ units: classes }),
        ],
      });
    return own as ModelModule;
  };
  const imagesNHWC = Uint8Array.from({ length: IMAGES * SIZE * SIZE * 3 }, (_, i) => (i * 7919) % 251);
  const labels = Int32Array.from({ length: IMAGES }, (_, i) => i % CLASSES);
  const normalization = { mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25] } as const;
  for (const [options, shape] of [
    [{}, [SIZE * SIZE * 3]],
    [{ axis: 2, momentum: 0.8, epsilon: 0.01 }, [SIZE, SIZE * 3]],
  ] as const) {
    const make = layer(options, [...shape]);
    const { parameters, averages } = await eagerOn(make, imagesNHWC, labels);
    const model = await makeModuleModel(engine, make, OPTIONS);
    using one = new OneRank(
      engine,
      model,
      model.first!,
      { imagesNHWC, labels, height: SIZE, width: SIZE, normalization },
      { optimizer: { momentum: 0.9 } },
    );
    for (let step = 0; step < 10; step++) one.step(0.05);
    const state = one.state();
    for (const [i, values] of parameters.entries())
      assertClose(state.parameters[i]!, values, 1e-4, `${shape}: parameter ${i}`);
    assertClose(state.means[0]!, averages[0]!, 1e-5, `${shape}: mean`);
    assertClose(state.variances[0]!, averages[1]!, 1e-5, `${shape}: variance`);
  }
  // tfjs's own operation has channels last alone, so the judge of channels first is the same network with its axes exchanged.
  const exchanged: ModelModule = ({ tf, classes }) =>
    tf.sequential({
      layers: [
        tf.layers.reshape({ inputShape: [SIZE, SIZE, 3], targetShape: [3, SIZE, SIZE] }),
        tf.layers.permute({ dims: [2, 3, 1] }),
        tf.layers.batchNormalization({ betaInitializer: 'randomNormal' }),
        tf.layers.permute({ dims: [3, 1, 2] }),
        tf.layers.flatten(),
        tf.layers.dense({ units: classes }),
      ],
    });
  const [first, last] = await Promise.all(
    [layer({ axis: 1 }, [3, SIZE, SIZE]), exchanged].map(async (make) => {
      const model = await makeModuleModel(engine, make, OPTIONS);
      using one = new OneRank(engine, model, model.first!, {
        imagesNHWC,
        labels,
        height: SIZE,
        width: SIZE,
        normalization,
      });
      one.step(0.05);
      const { parameters, statistics } = one.state();
      return [...parameters, statistics].map((values) => [...values]);
    }),
  );
  for (const [i, values] of last!.entries()) assertClose(first![i]!, values, 1e-5, `channels first: ${i}`);
  const bare = await makeModuleModel(engine, layer({ scale: false, center: false }, [SIZE * SIZE * 3]), OPTIONS);
  assert.deepEqual(
    bare.parameters.map(({ name }) => name),
    ['dense_1.kernel', 'dense_1.bias'],
  );
});

test('what is no model, or one that dtrain cannot train, is refused', async () => {
  const dense = (options: object = {}) => tf.layers.dense({ inputShape: [SIZE, SIZE, 3], units: CLASSES, ...options });
  const flat = (
    ...own: Parameters<typeof tf.sequential>[0] extends { layers?: infer L } | undefined ? NonNullable<L> : never
  ) => tf.sequential({ layers: [tf.layers.flatten({ inputShape: [SIZE, SIZE, 3] }), ...own] });
  const cases: readonly (readonly [name: string, ModelModule | (() => unknown), string])[] = [
    ['a number', () => 5, 'expected its function to return a tf.LayersModel or a function, got number.'],
    ['nothing', () => undefined, 'expected its function to return a tf.LayersModel or a function, got undefined.'],
    [
      'one that fails',
      () => {
        throw new Error('no such layer');
      },
      'it failed: no such layer',
    ],
    [
      'logits of another shape',
      () => tf.sequential({ layers: [dense()] }),
      'expected logits [images, 4] of one tensor of images, got [1,16,16,4].',
    ],
    [
      'nothing to train',
      () => (images: Tensor4D) => tf.zeros([images.shape[0], CLASSES]),
      'expected trainable variables, got none.',
    ],
    [
      'a softmax',
      () => flat(tf.layers.dense({ units: CLASSES, activation: 'softmax', name: 'last' })),
      'layer last: expected logits, got a softmax: the loss has one already. Leave it out.',
    ],
    [
      'a constraint',
      () => flat(tf.layers.dense({ units: CLASSES, kernelConstraint: 'nonNeg', name: 'held' })),
      'held/kernel: expected no constraint, got one. Use a regularizer or optimizer.weightDecay.',
    ],
    [
      'a frozen layer',
      () => flat(tf.layers.dense({ units: 3, trainable: false, name: 'frozen' }), tf.layers.dense({ units: CLASSES })),
      'frozen.kernel: expected all variables to be trained, got trainable: false. dtrain trains whole networks.',
    ],
    [
      'one that assigns',
      () => {
        const weights = tf.variable(tf.zeros([SIZE * SIZE * 3, CLASSES]), true, 'moving');
        const own: PlainModel = (images, { training }) => {
          if (!training) return tf.matMul(tf.reshape(images, [-1, SIZE * SIZE * 3]), weights);
          weights.assign(tf.ones(weights.shape));
          return tf.matMul(tf.reshape(images, [-1, SIZE * SIZE * 3]), weights);
        };
        return own;
      },
      '',
    ],
  ];
  for (const [name, make, expected] of cases) {
    const attempt = makeModuleModel(engine, make as ModelModule, OPTIONS);
    if (expected === '') {
      const model = await attempt;
      assert.throws(
        () => oneStep(model),
        /model\.module: own\.mjs: moving: expected only the optimizer to change it, the model assigns it\.$/,
      );
      continue;
    }
    const error = (await attempt.then(
      () => assert.fail(name),
      (reason: unknown) => reason,
    )) as DtrainError;
    assert.deepEqual(
      [error.code, error.exitCode, error.message],
      ['DTRAIN_MODEL_MODULE', 3, `model.module: own.mjs: ${expected}`],
      name,
    );
  }
  tf.disposeVariables();
});

test('a variable that the loss does not depend on is named', async () => {
  const model = await makeModuleModel(
    engine,
    () => {
      const weights = tf.variable(tf.zeros([SIZE * SIZE * 3, CLASSES]), true, 'used');
      tf.variable(tf.zeros([3]), true, 'left');
      return (images) => tf.matMul(tf.reshape(images, [-1, SIZE * SIZE * 3]), weights);
    },
    OPTIONS,
  );
  assert.throws(() => oneStep(model), {
    message: 'model own: left: expected the loss to depend on it, it does not. Use it in the model, or do not make it.',
  });
});

function oneStep(model: Awaited<ReturnType<typeof makeModuleModel>>): void {
  const imagesNHWC = new Uint8Array(IMAGES * SIZE * SIZE * 3);
  const normalization = { mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25] } as const;
  const images = { imagesNHWC, labels: new Int32Array(IMAGES), height: SIZE, width: SIZE, normalization };
  using one = new OneRank(engine, model, model.first!, images);
  one.step();
}

test('values that its code reads are told with the layer and the line', async () => {
  const read = makeModuleModel(
    engine,
    ({ tf }) => {
      const weights = tf.variable(tf.zeros([SIZE * SIZE * 3, CLASSES]));
      return (images) => {
        const logits = tf.matMul(tf.reshape(images, [-1, SIZE * SIZE * 3]), weights);
        return logits.dataSync()[0]! > 0 ? logits : tf.neg(logits);
      };
    },
    OPTIONS,
  );
  await assert.rejects(read, (error: DtrainError) => {
    assert.match(
      error.message,
      /^recording step: a value is read with dataSync\(\), .* \(.*module-model\.test\.js:\d+:\d+\)/,
    );
    return error.code === 'DTRAIN_READ_WHILE_RECORDING';
  });
  tf.disposeVariables();
});

test('a model that is made leaves no tensors behind', async () => {
  const before = [engine.liveTensors, liveHandles()];
  await makeModuleModel(engine, await example('mobilenet'), OPTIONS);
  await makeModuleModel(engine, await example('convnet'), OPTIONS);
  assert.deepEqual([engine.liveTensors, liveHandles()], before);
});
