/** Generated images: the same for a seed, out of a linear model's reach, within that of a model that sees differences of neighbours. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fingerprintOf, type ImageSet } from '../src/data/data-set.js';
import { epochPermutation } from '../src/data/sampler.js';
import { generateSynthetic } from '../src/data/synthetic.js';

const set = generateSynthetic(0);

test('ten classes, equally often, in 32x32', () => {
  assert.deepEqual(set.classes, [
    'checkers',
    'diagonals',
    'dots',
    'grids',
    'horizontals',
    'rings',
    'spokes',
    'verticals',
    'waves',
    'zigzags',
  ]);
  for (const [{ count, height, width, labels }, expected] of [
    [set.train, 4000],
    [set.test, 1000],
  ] as const) {
    assert.deepEqual([count, height, width], [expected, 32, 32]);
    for (let label = 0; label < 10; label++) {
      assert.equal(labels.filter((other) => other === label).length, expected / 10);
    }
  }
});

test('pinned for a seed: a run can be repeated by a later version', () => {
  assert.equal(fingerprintOf(set), 'e809bb75f56994ef2c27dbaf16406183e3e8e3a7cd5d02c35c8a1f861c6cca51');
  assert.notEqual(fingerprintOf(generateSynthetic(1)), fingerprintOf(set));
});

test('no image comes twice, in the test set neither', () => {
  const images = [set.train, set.test].flatMap(({ imagesNHWC, count }) =>
    Array.from({ length: count }, (_, i) =>
      Buffer.from(imagesNHWC.subarray(i * 3072, i * 3072 + 3072)).toString('latin1'),
    ),
  );
  assert.equal(new Set(images).size, 5000);
});

test('a linear model of the pixels stays near chance', () => {
  // Chance is 0.1. Weights that overfit point along patterns they saw, so a class is met a little more often than that.
  const { train, test } = accuracies(pixels, { epochs: 3, learningRate: 0.004 });
  assert.ok(train > 0.35, `it did learn the images that it was shown: ${train}`);
  assert.ok(test < 0.25, `${test}`);
});

test('the same linear model learns from differences of neighbours: the classes are there', () => {
  const { test } = accuracies(differences, { epochs: 30, learningRate: 0.05 });
  assert.ok(test > 0.6, `${test}`);
});

type Features = (imageHWC: Uint8Array) => Float64Array;

function pixels(imageHWC: Uint8Array): Float64Array {
  return Float64Array.from(imageHWC);
}

/** Mean absolute differences of green between pixels so many rows and columns apart, relative to their mean. */
function differences(imageHWC: Uint8Array): Float64Array {
  const lags = [];
  for (let dy = 0; dy <= 6; dy++) for (let dx = -6; dx <= 6; dx++) if (dy > 0 || dx > 0) lags.push({ dy, dx });
  const values = Float64Array.from(lags, ({ dy, dx }) => {
    let sum = 0;
    for (let y = 0; y + dy < 32; y++) {
      for (let x = Math.max(0, -dx); x < 32 && x + dx < 32; x++) {
        sum += Math.abs(imageHWC[(y * 32 + x) * 3 + 1]! - imageHWC[((y + dy) * 32 + x + dx) * 3 + 1]!);
      }
    }
    return sum / ((32 - dy) * (32 - Math.abs(dx)));
  });
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  return values.map((value) => value / mean);
}

/** Softmax regression on standardised features by stochastic gradient descent; the shares of right answers. */
function accuracies(
  features: Features,
  options: { epochs: number; learningRate: number },
): { train: number; test: number } {
  const train = featuresOf(set.train, features);
  const test = featuresOf(set.test, features);
  standardise(train, test);
  const size = train[0]!.length;
  const weights = Array.from({ length: 10 }, () => new Float64Array(size + 1));
  for (let epoch = 0; epoch < options.epochs; epoch++) {
    for (const image of epochPermutation(0, epoch, train.length)) {
      const probabilities = softmax(weights.map((ofClass) => score(ofClass, train[image]!)));
      weights.forEach((ofClass, label) => {
        const step = options.learningRate * (probabilities[label]! - Number(set.train.labels[image] === label));
        for (let i = 0; i < size; i++) ofClass[i]! -= (step * train[image]![i]!) / Math.sqrt(size);
        ofClass[size]! -= step;
      });
    }
  }
  const right = (images: readonly Float64Array[], labels: Int32Array) =>
    images.filter((values, image) => {
      const scores = weights.map((ofClass) => score(ofClass, values));
      return scores.indexOf(Math.max(...scores)) === labels[image];
    }).length / images.length;
  return { train: right(train, set.train.labels), test: right(test, set.test.labels) };
}

function featuresOf({ imagesNHWC, count }: ImageSet, features: Features): Float64Array[] {
  return Array.from({ length: count }, (_, i) => features(imagesNHWC.subarray(i * 3072, (i + 1) * 3072)));
}

/** Mean 0 and standard deviation 1 of each feature over the training set. */
function standardise(train: Float64Array[], test: Float64Array[]): void {
  for (let i = 0; i < train[0]!.length; i++) {
    const mean = train.reduce((sum, values) => sum + values[i]!, 0) / train.length;
    const variance = train.reduce((sum, values) => sum + (values[i]! - mean) ** 2, 0) / train.length;
    for (const values of [...train, ...test]) values[i] = (values[i]! - mean) / Math.sqrt(variance);
  }
}

function score(weights: Float64Array, values: Float64Array): number {
  let sum = weights[values.length]!;
  for (let i = 0; i < values.length; i++) sum += weights[i]! * values[i]!;
  return sum;
}

function softmax(scores: readonly number[]): number[] {
  const largest = Math.max(...scores);
  const powers = scores.map((value) => Math.exp(value - largest));
  const total = powers.reduce((sum, value) => sum + value, 0);
  return powers.map((power) => power / total);
}
