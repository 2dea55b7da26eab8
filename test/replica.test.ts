/**
 * The recorded step and the replica that runs it: what a step is made of, against arithmetic in plain JavaScript and against itself in parts.
 *
 * Idea: a model that is one dense layer over the pixels can be computed here in float64, from the random draws to the loss.
 */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { drawWords, Purpose } from '../src/core/philox.js';
import { drawAugmentation, drawMixture, makeDraws } from '../src/data/augmentation.js';
import { startEngine } from '../src/graph/engine.js';
import { type Tensor2D, tf } from '../src/graph/tfjs.js';
import type { Model } from '../src/model/catalogue.js';
import { subsample } from '../src/model/convolution.js';
import { initialWeights } from '../src/model/initial-weights.js';
import { batchNorm, conv2d, dense, globalAveragePool, padChannels } from '../src/model/layers.js';
import type { ModelFunction } from '../src/model/net.js';
import type { Weights } from '../src/model/torch-layout.js';
import { liveHandles } from '../src/tensorflow/tensor-handle.js';
import { assertClose, relativeL2 } from './support/assert-close.js';
import { modelOf } from './support/layer-model.js';
import { type Images, OneRank, type OneRankOptions, SEED } from './support/one-rank.js';
import { operationsByDevice } from './support/run-metadata.js';
import { CPU_0, CPU_1, errorOf, testRuntime } from './support/test-runtime.js';

const runtime = testRuntime({ explicitPlacement: true });
const engine = startEngine(runtime, CPU_0);
after(() => assert.deepEqual([engine.liveTensors, liveHandles()], [0, 0], 'live tensors and handles'));

const SIZE = 8;
const CLASSES = 5;
const normalization = { mean: [0.5, 0.4, 0.3], std: [0.25, 0.2, 0.3] };

function images(count: number, first = 0): Images {
  const draw = (i: number) => drawWords(9, Purpose.synthetic, 0, first * SIZE * SIZE * 3 + i)[0] >>> 24;
  const imagesNHWC = Uint8Array.from({ length: count * SIZE * SIZE * 3 }, (_, i) => draw(i));
  const labels = Int32Array.from({ length: count }, (_, i) => (3 * (first + i) + 1) % CLASSES);
  return { imagesNHWC, labels, height: SIZE, width: SIZE, normalization };
}

/** A small residual network with everything in it that the CIFAR family has. */
const residual: ModelFunction = (net, x) => {
  const stem = tf.relu(batchNorm(net, 'bn1', conv2d(net, 'conv1', x, { filters: 4, size: 3 })));
  const y = batchNorm(net, 'bn2', conv2d(net, 'conv2', stem, { filters: 8, size: 3, stride: 2 }));
  return dense(net, 'fc', globalAveragePool(tf.relu(tf.add(y, padChannels(subsample(stem, 2), 8)))), CLASSES);
};

/** One dense layer over the normalised pixels; no batch norm. */
const linear: ModelFunction = (net, x) =>
  dense(net, 'fc', tf.reshape(x, [x.shape[0], SIZE * SIZE * 3]) as Tensor2D, CLASSES);

const model = (forward: ModelFunction) => modelOf(engine, forward, [1, SIZE, SIZE, 3], CLASSES);
const residualModel = model(residual);
const linearModel = model(linear);

function weightsOf({ parameters, statistics }: Model): Weights {
  return {
    parameters: initialWeights(parameters, 4),
    means: statistics.map(({ channels }) => new Float32Array(channels)),
    variances: statistics.map(({ channels }) => new Float32Array(channels).fill(1)),
  };
}

function oneRank(of: Model, on: Images, options: OneRankOptions = {}): OneRank {
  return new OneRank(engine, of, weightsOf(of), on, options);
}

// The whole of a step in plain arithmetic

interface Expected {
  readonly lossN: number[];
  readonly predictedN: number[];
  /** Of the mean loss by the dense layer's weights, [inputs, classes]. */
  readonly gradient: Float64Array;
}

/** The linear model in float64: pixels → normalised → logits → cross-entropy with smoothing. */
function linearStep(
  pixelsN: readonly (readonly number[])[],
  labels: Int32Array,
  smoothing = 0,
  targetOf = (n: number, k: number) => (k === labels[n] ? 1 - smoothing : 0) + smoothing / CLASSES,
): Expected {
  const weight = weightsOf(linearModel).parameters[0]!;
  const gradient = new Float64Array(weight.length);
  const lossN: number[] = [];
  const predictedN: number[] = [];
  for (const [n, pixels] of pixelsN.entries()) {
    const logits = Array.from({ length: CLASSES }, (_, k) =>
      pixels.reduce((sum, pixel, i) => sum + pixel * weight[i * CLASSES + k]!, 0),
    );
    const total = logits.reduce((sum, logit) => sum + Math.exp(logit), 0);
    const probability = logits.map((logit) => Math.exp(logit) / total);
    const target = probability.map((_, k) => targetOf(n, k));
    lossN.push(target.reduce((sum, t, k) => sum - t * Math.log(probability[k]!), 0));
    predictedN.push(logits.indexOf(Math.max(...logits)));
    for (const [i, pixel] of pixels.entries()) {
      for (let k = 0; k < CLASSES; k++) {
        gradient[i * CLASSES + k]! += (pixel * (probability[k]! - target[k]!)) / pixelsN.length;
      }
    }
  }
  return { lossN, predictedN, gradient };
}

/** Normalised pixel (y, x, channel) of image n. */
function pixelAt({ imagesNHWC }: Images, n: number, y: number, x: number, channel: number): number {
  const pixel = imagesNHWC[((n * SIZE + y) * SIZE + x) * 3 + channel]!;
  return (pixel / 255 - normalization.mean[channel]!) / normalization.std[channel]!;
}

/** All pixels of image n, each at the place that `source` names; undefined: the mean colour. */
function pixelsFrom(
  of: Images,
  n: number,
  source: (y: number, x: number) => readonly [number, number] | undefined,
): number[] {
  return Array.from({ length: SIZE * SIZE * 3 }, (_, i) => {
    const place = source(Math.floor(i / (SIZE * 3)), Math.floor(i / 3) % SIZE);
    return place ? pixelAt(of, n, place[0], place[1], i % 3) : 0;
  });
}

const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
const fractionRight = (predicted: readonly number[], labels: Int32Array) =>
  mean(predicted.map((k, n) => Number(k === labels[n])));

for (const smoothing of [0, 0.1]) {
  test(`loss, accuracy and gradient of a linear model, label smoothing ${smoothing}`, () => {
    const data = images(6);
    const expected = linearStep(
      Array.from(data.labels, (_, n) => pixelsFrom(data, n, (y, x) => [y, x])),
      data.labels,
      smoothing,
    );
    using rank = oneRank(linearModel, data, { labelSmoothing: smoothing });
    const { loss, correct, stopRequested } = rank.step(0);
    assertClose([loss], [mean(expected.lossN)], 1e-6, 'loss');
    assert.equal(correct, Math.fround(fractionRight(expected.predictedN, data.labels)));
    assert.equal(stopRequested, false);
    assertClose(rank.gradients()[0]!, expected.gradient, 1e-6, 'gradient');
  });
}

test('evaluation of a linear model: loss without smoothing, class, and as many images as are asked for', () => {
  const data = images(6);
  const expected = linearStep(
    Array.from(data.labels, (_, n) => pixelsFrom(data, n, (y, x) => [y, x])),
    data.labels,
  );
  using rank = oneRank(linearModel, data, { labelSmoothing: 0.1 });
  const all = rank.evaluate();
  assertClose(all.lossN, expected.lossN, 1e-6, 'loss');
  assert.deepEqual(Array.from(all.predictedN), expected.predictedN);
  const part = rank.replica.evaluate(4, 2);
  assert.deepEqual(part.lossN, all.lossN.subarray(4));
  assert.deepEqual(part.predictedN, all.predictedN.subarray(4));
});

test('each sample is cropped, flipped and cut by its own draws, in its shard, anew in each epoch', () => {
  const data = images(6);
  const augment = { crop: 2, flip: true, cutout: 3 };
  const count = data.labels.length;
  const losses = [0, 1].map((epoch) => {
    const ids = Int32Array.from({ length: count }, (_, n) => n);
    const draws = makeDraws(count);
    const where = { ...augment, seed: SEED, height: SIZE, width: SIZE };
    drawAugmentation(where, ids, new Int32Array(count).fill(epoch), draws);
    const pixelsN = Array.from(ids, (n) =>
      pixelsFrom(data, n, (y, x) => {
        const [cutY, cutX] = [y - draws.cutoutYX[2 * n]! + 1, x - draws.cutoutYX[2 * n + 1]! + 1]; // a square of 3 around its centre
        if (cutY >= 0 && cutY < 3 && cutX >= 0 && cutX < 3) return undefined;
        const sourceY = y + draws.cropYX[2 * n]! - 2;
        const sourceX = (draws.flip[n] === 1 ? SIZE - 1 - x : x) + draws.cropYX[2 * n + 1]! - 2;
        const isInside = sourceY >= 0 && sourceY < SIZE && sourceX >= 0 && sourceX < SIZE;
        return isInside ? [sourceY, sourceX] : undefined;
      }),
    );
    const expected = linearStep(pixelsN, data.labels);
    for (const shardBatch of [6, 2]) {
      using rank = oneRank(linearModel, data, { augment, shardBatch });
      assertClose([rank.step(0, epoch).loss], [mean(expected.lossN)], 1e-6, `loss in epoch ${epoch}`);
      assertClose(rank.gradients()[0]!, expected.gradient, 1e-6, `gradient in epoch ${epoch}`);
    }
    return mean(expected.lossN);
  });
  assert(Math.abs(losses[0]! - losses[1]!) > 1e-3, 'another epoch, other draws');
});

test('brightness, contrast and mixtures are those of each sample’s own draws, whatever its shard', () => {
  const data = images(6);
  const augment = { crop: 1, flip: 'alternating', cutout: 0, brightness: 0.6, contrast: 0.7, mixup: 0.4 } as const;
  const count = data.labels.length;
  const where = { ...augment, seed: SEED, count, height: SIZE, width: SIZE };
  const epochs = new Int32Array(count).fill(3);
  const ids = Int32Array.from({ length: count }, (_, n) => n);
  const { partners, shares } = drawMixture(where, ids, epochs);
  /** Normalised pixels of the images, changed by their draws. */
  const changed = (of: Int32Array): number[][] => {
    const draws = makeDraws(count);
    drawAugmentation(where, of, epochs, draws);
    return Array.from(of, (id, n) => {
      const [brightness, contrast] = [draws.colour[2 * n]!, draws.colour[2 * n + 1]!];
      return Array.from({ length: SIZE * SIZE * 3 }, (_, i) => {
        const [y, x, channel] = [Math.floor(i / (SIZE * 3)), Math.floor(i / 3) % SIZE, i % 3];
        const sourceY = y + draws.cropYX[2 * n]! - 1;
        const sourceX = (draws.flip[n] === 1 ? SIZE - 1 - x : x) + draws.cropYX[2 * n + 1]! - 1;
        if (sourceY < 0 || sourceY >= SIZE || sourceX < 0 || sourceX >= SIZE) return 0;
        const centre = 255 * normalization.mean[channel]!;
        const within = (value: number) => Math.min(255, Math.max(0, value));
        const bright = within(data.imagesNHWC[((id * SIZE + sourceY) * SIZE + sourceX) * 3 + channel]! * brightness);
        return (within((bright - centre) * contrast + centre) - centre) / (255 * normalization.std[channel]!);
      });
    });
  };
  const [own, others] = [changed(ids), changed(partners)];
  const pixelsN = own.map((pixels, n) =>
    pixels.map((pixel, i) => pixel * shares[n]! + others[n]![i]! * (1 - shares[n]!)),
  );
  const isOf = (n: number, k: number) => Number(data.labels[n] === k);
  const targetOf = (n: number, k: number) => isOf(n, k) * shares[n]! + isOf(partners[n]!, k) * (1 - shares[n]!);
  const expected = linearStep(pixelsN, data.labels, 0, targetOf);
  const correct = mean(expected.predictedN.map((k, n) => targetOf(n, k)));
  for (const shardBatch of [6, 3]) {
    using rank = oneRank(linearModel, data, { augment, shardBatch });
    const report = rank.step(0, 3);
    assertClose([report.loss], [mean(expected.lossN)], 1e-5, 'loss');
    assertClose([report.correct], [correct], 1e-6, 'right answers');
    assertClose(rank.gradients()[0]!, expected.gradient, 1e-5, 'gradient');
  }
});

// A step in its parts

test('a step of two shards is the mean of two steps, bit for bit: gradients, statistics, loss', () => {
  using whole = oneRank(residualModel, images(8), { shardBatch: 4 });
  using first = oneRank(residualModel, images(4));
  using second = oneRank(residualModel, images(4, 4));
  const [loss, ...halves] = [whole, first, second].map((rank) => rank.step(0).loss);
  const meanOf = (a: ArrayLike<number>, b: ArrayLike<number>) =>
    Float32Array.from(a, (value, i) => Math.fround(value + b[i]!) / 2);
  assert.deepEqual(meanOf([halves[0]!], [halves[1]!]), Float32Array.of(loss!));
  const gradients = [whole, first, second].map((rank) => rank.gradients());
  for (const [i, gradient] of gradients[0]!.entries()) {
    assert.deepEqual(gradient, meanOf(gradients[1]![i]!, gradients[2]![i]!), residualModel.parameters[i]!.name);
  }
  assert.notDeepEqual(gradients[1], gradients[2]);
});

test('weight decay reaches every parameter, norms and biases too', () => {
  const decay = 0.25;
  using plain = oneRank(residualModel, images(4));
  using decayed = oneRank(residualModel, images(4), { optimizer: { weightDecay: decay } });
  for (const rank of [plain, decayed]) rank.step(0.5);
  const before = weightsOf(residualModel).parameters;
  for (const [i, { name }] of residualModel.parameters.entries()) {
    const expected = plain.state().parameters[i]!.map((value, k) => value - 0.5 * decay * before[i]![k]!);
    assertClose(decayed.state().parameters[i]!, expected, 1e-6, name);
  }
  const norm = residualModel.parameters.findIndex(({ name }) => name === 'bn1.weight');
  assert(relativeL2(decayed.state().parameters[norm]!, plain.state().parameters[norm]!) > 0.1, 'a norm is decayed');
});

test('momentum is kept from step to step: after two steps with no rate it is 1.5 gradients', () => {
  using rank = oneRank(residualModel, images(4), { optimizer: { momentum: 0.5 } });
  for (let step = 0; step < 2; step++) rank.step(0);
  const gradients = rank.gradients();
  for (const [i, momentum] of rank.state().momenta.entries()) {
    assertClose(
      momentum,
      gradients[i]!.map((value) => 1.5 * value),
      1e-6,
      residualModel.parameters[i]!.name,
    );
  }
});

test('running statistics move by a tenth of the way to the mean over the shards', () => {
  using rank = oneRank(residualModel, images(8), { shardBatch: 2 });
  rank.step(0);
  const once = rank.state();
  const [means, variances] = [once.means, once.variances].map((of) => of.map((values) => values.slice()));
  rank.step(0); // the same batch again: x₁ = 0.9 x₀ + 0.1 b, x₂ = 0.9 x₁ + 0.1 b
  const twice = rank.state();
  for (const i of residualModel.statistics.keys()) {
    assertClose(
      twice.means[i]!,
      means![i]!.map((x1) => 1.9 * x1),
      1e-6,
      'means, from 0',
    );
    assertClose(
      twice.variances[i]!,
      variances![i]!.map((x1) => 0.9 * x1 + (x1 - 0.9)),
      1e-6,
      'variances, from 1',
    );
  }
});

test('the same step gives the same bits, on either device; a step changes the hash of the state', () => {
  using a = oneRank(residualModel, images(6));
  using b = oneRank(residualModel, images(6), { device: CPU_1 });
  const hash = a.replica.stateHash();
  assert.match(hash, /^[0-9a-f]{64}$/);
  assert.equal(b.replica.stateHash(), hash);
  for (let step = 0; step < 3; step++) assert.deepEqual(a.step(0.1), b.step(0.1));
  assert.notEqual(a.replica.stateHash(), hash);
  assert.equal(a.replica.stateHash(), b.replica.stateHash());
});

test('a loss that is no number ends the run with exit code 8, naming the step', () => {
  using rank = oneRank(residualModel, images(4));
  rank.step(1e30);
  const error = errorOf(() => rank.step());
  const { code, exitCode, step } = error;
  assert.deepEqual({ code, exitCode, step }, { code: 'DTRAIN_DIVERGED', exitCode: 8, step: 2 });
  assert.equal(
    error.message,
    'step 2: the loss is NaN: training has diverged. Lower schedule.learningRate, or add schedule.warmupEpochs.',
  );
});

test('every phase of a step is timed', () => {
  using rank = oneRank(linearModel, images(2));
  for (let step = 0; step < 3; step++) rank.step(0);
  const { starts, seconds } = rank.replica.clock.take();
  assert.equal(seconds.length, 3 * 5);
  assert(seconds.every((value) => value >= 0));
  for (let i = 1; i < starts.length; i++) assert(starts[i]! >= starts[i - 1]! + seconds[i - 1]!, 'one after the other');
  assert.equal(rank.replica.clock.take().seconds.length, 0);
});

// Pinning

for (const [device, other] of [
  [CPU_0, CPU_1],
  [CPU_1, CPU_0],
] as const) {
  test(`a replica on ${device} computes there and nowhere else`, () => {
    using rank = oneRank(residualModel, images(4), { device });
    const byDevice = operationsByDevice(runtime, () => {
      rank.step();
      rank.evaluate();
    });
    const own = byDevice.get(device)!;
    for (const type of ['Conv2DBackpropFilter', 'ResourceApplyMomentum', 'AssignSubVariableOp', 'ArgMax']) {
      assert(
        [...own].some((name) => name.endsWith(type)),
        `${type} ran`,
      ); // oneDNN's have a longer name
    }
    // int32 inputs of a function begin in host memory, which is CPU:0, on every device
    const handedOver = device === CPU_0 ? [] : ['_Arg', '_Send'];
    assert.deepEqual([...(byDevice.get(other) ?? [])].sort(), handedOver);
    assert.deepEqual([...byDevice.keys()].sort(), handedOver.length > 0 ? [CPU_0, CPU_1] : [CPU_0]);
  });
}
