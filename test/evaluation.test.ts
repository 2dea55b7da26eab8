/** The figures of an evaluation, from what the ranks say of each image. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { merged } from '../src/run/evaluation.js';
import type { EvaluationShare } from '../src/run/protocol.js';

/** image: label, predicted, confidence, classes above the label. */
const IMAGES = [
  [0, 0, 0.9, 0],
  [0, 1, 0.95, 1],
  [1, 1, 0.91, 0],
  [1, 2, 0.5, 5],
  [2, 2, 1, 0],
  [2, 0, 0.92, 4],
] as const;
const LABELS = Int32Array.from(IMAGES, ([label]) => label);

function share(ids: readonly number[]): EvaluationShare {
  const rows = ids.map((id) => IMAGES[id]!);
  return {
    ids: Int32Array.from(ids),
    losses: Float32Array.from(ids, (id) => id),
    predicted: Int32Array.from(rows, ([, predicted]) => predicted),
    confidences: Float32Array.from(rows, ([, , confidence]) => confidence),
    above: Float32Array.from(rows, ([, , , above]) => above),
  };
}

test('accuracy, top-5, confusion and the most confident mistakes, whichever rank has which image', () => {
  const result = merged([share([4, 0, 1]), share([5, 2, 3])], LABELS, 3);
  assert.equal(result.testAccuracy, 3 / 6);
  assert.equal(result.top5Accuracy, 5 / 6);
  assert.equal(result.testLoss, 15 / 6);
  assert.equal(result.images, 6);
  assert.deepEqual(result.perClass, [0.5, 0.5, 0.5]);
  assert.deepEqual(result.confusion, [
    [1, 1, 0],
    [0, 1, 1],
    [1, 0, 1],
  ]);
  assert.deepEqual(
    result.mostWrong.map(({ image, label, predicted }) => [image, label, predicted]),
    [
      [1, 0, 1],
      [5, 2, 0],
      [3, 1, 2],
    ],
  );
  assert.deepEqual(merged([share([0, 1, 2, 3, 4, 5])], LABELS, 3), result, 'one rank');
});

test('calibration: the gap between confidence and accuracy, weighed by the images of each of 15 bins', () => {
  const { error, bins } = merged([share([0, 1, 2, 3, 4, 5])], LABELS, 3).calibration;
  // Bin 13, [13/15, 14/15): 0.9, 0.91, 0.92, of which two are right. Bin 14: 0.95 wrong, 1 right. Bin 7: 0.5 wrong.
  const expected = (Math.abs(2.73 - 2) + Math.abs(1.95 - 1) + 0.5) / 6;
  assert(Math.abs(error - expected) < 1e-6, `${error}`);
  assert.equal(bins.length, 15);
  assert.deepEqual(
    bins.flatMap(({ images }, i) => (images > 0 ? [[i, images]] : [])),
    [
      [7, 1],
      [13, 3],
      [14, 2],
    ],
  );
  assert.deepEqual(bins[0], { images: 0, confidence: null, accuracy: null });
  assert.equal(bins[13]!.accuracy, 2 / 3);
});

test('a class without images has accuracy 0, and a set without mistakes no mistakes', () => {
  const result = merged(
    [share([0, 4])].map(({ ids, ...rest }) => ({ ...rest, ids: ids.map((_, i) => i) })),
    Int32Array.of(0, 2),
    3,
  );
  assert.deepEqual(result.perClass, [1, 0, 1]);
  assert.deepEqual(result.mostWrong, []);
});
