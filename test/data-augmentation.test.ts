/** The random choices of augmentation: pure, in range, uniform. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type AugmentationOptions, drawAugmentation, drawMixture, makeDraws } from '../src/data/augmentation.js';

const OPTIONS: AugmentationOptions = { seed: 1, crop: 4, flip: true, cutout: 8, height: 32, width: 24 };

function draws(options: AugmentationOptions, ids: readonly number[], epochs: readonly number[]) {
  const into = {
    cropYX: new Int32Array(2 * ids.length).fill(-1),
    flip: new Int32Array(ids.length).fill(-1),
    cutoutYX: new Int32Array(2 * ids.length).fill(-1),
  };
  drawAugmentation(options, Int32Array.from(ids), Int32Array.from(epochs), into);
  return ids.map((_, i) => [
    ...into.cropYX.subarray(2 * i, 2 * i + 2),
    into.flip[i],
    ...into.cutoutYX.subarray(2 * i, 2 * i + 2),
  ]);
}

test('a sample gets the same choices in any batch', () => {
  const sample = fc.tuple(fc.nat(50_000), fc.nat(300));
  fc.assert(
    fc.property(fc.nat(), fc.array(sample, { minLength: 1, maxLength: 20 }), (seed, samples) => {
      const options = { ...OPTIONS, seed };
      const together = draws(
        options,
        samples.map(([id]) => id),
        samples.map(([, epoch]) => epoch),
      );
      const alone = samples.map(([id, epoch]) => draws(options, [id], [epoch])[0]);
      assert.deepEqual(together, alone);
    }),
  );
});

test('choices are pinned: a run can be resumed by a later version', () => {
  assert.deepEqual(draws(OPTIONS, [0, 49_999], [0, 163]), [
    [0, 5, 0, 29, 8],
    [6, 8, 1, 18, 6],
  ]);
});

test('switching one choice off leaves the others', () => {
  const ids = Array.from({ length: 50 }, (_, i) => i);
  const epochs = ids.map(() => 2);
  const all = draws(OPTIONS, ids, epochs);
  assert.deepEqual(
    draws({ ...OPTIONS, crop: 0 }, ids, epochs),
    all.map(([, , flip, ...cutout]) => [0, 0, flip, ...cutout]),
  );
  assert.deepEqual(
    draws({ ...OPTIONS, flip: false }, ids, epochs),
    all.map(([y, x, , ...cutout]) => [y, x, 0, ...cutout]),
  );
  assert.deepEqual(
    draws({ ...OPTIONS, cutout: 0 }, ids, epochs),
    all.map((choice) => [...choice.slice(0, 3), 0, 0]),
  );
});

test('every choice is in range and about equally likely', () => {
  const count = 18_000;
  const ids = Array.from({ length: count }, (_, i) => i);
  const chosen = draws(
    OPTIONS,
    ids,
    ids.map((id) => id % 3),
  );
  const bounds = [9, 9, 2, 32, 24];
  bounds.forEach((bound, choice) => {
    const times = new Array<number>(bound).fill(0);
    for (const values of chosen) times[values[choice]!]!++;
    assert.equal(times.length, bound, `choice ${choice} stays below ${bound}`);
    const expected = count / bound;
    for (const time of times) assert.ok(Math.abs(time - expected) < 5.5 * Math.sqrt(expected), `${choice}: ${times}`);
  });
});

test('choices of a sample are independent of each other and of the epoch', () => {
  const count = 16_000;
  const ids = Array.from({ length: count }, (_, i) => i);
  const first = draws(
    OPTIONS,
    ids,
    ids.map(() => 0),
  );
  const second = draws(
    OPTIONS,
    ids,
    ids.map(() => 1),
  );
  const pairs: [string, (i: number) => boolean][] = [
    ['flip with crop', (i) => first[i]![2] === Number(first[i]![0]! >= 5)],
    ['flip with the next epoch', (i) => first[i]![2] === second[i]![2]],
    ['flip with the next sample', (i) => first[i]![2] === first[(i + 1) % count]![2]],
  ];
  for (const [name, agree] of pairs) {
    const share = ids.filter(agree).length / count;
    assert.ok(Math.abs(share - 0.5) < 0.02, `${name}: ${share}`);
  }
});

test('an alternating flip mirrors half of the images first, and each image in every second epoch', () => {
  const ids = Array.from({ length: 1000 }, (_, i) => i);
  const flips = (epoch: number, flip: boolean | 'alternating') =>
    draws(
      { ...OPTIONS, flip },
      ids,
      ids.map(() => epoch),
    ).map((choice) => choice[2]!);
  const first = flips(0, 'alternating');
  assert.deepEqual(first, flips(0, true));
  const half = first.reduce((a, b) => a + b) / ids.length;
  assert.ok(Math.abs(half - 0.5) < 0.06, `${half}`);
  assert.deepEqual(
    flips(1, 'alternating'),
    first.map((flip) => 1 - flip),
  );
  assert.deepEqual(flips(8, 'alternating'), first);
});

test('factors of colour are uniform in their range and do not depend on the other choices', () => {
  const ids = Int32Array.from({ length: 2000 }, (_, i) => i);
  const epochs = new Int32Array(ids.length).fill(4);
  const into = makeDraws(ids.length);
  drawAugmentation({ ...OPTIONS, brightness: 0.4, contrast: 0.2 }, ids, epochs, into);
  const factors = [0, 1].map((at) => Array.from(ids, (_, i) => into.colour[2 * i + at]!));
  for (const [i, width] of [0.4, 0.2].entries()) {
    const values = factors[i]!;
    assert.ok(values.every((value) => value >= 1 - width - 1e-6 && value <= 1 + width + 1e-6));
    const mean = values.reduce((a, b) => a + b) / values.length;
    assert.ok(Math.abs(mean - 1) < width / 20, `${mean}`);
    assert.ok(Math.max(...values) > 1 + 0.95 * width && Math.min(...values) < 1 - 0.95 * width);
  }
  const { colour } = into;
  const alone = makeDraws(ids.length);
  drawAugmentation({ ...OPTIONS, crop: 0, cutout: 0, flip: false, brightness: 0.4, contrast: 0.2 }, ids, epochs, alone);
  assert.deepEqual(alone.colour, colour);
});

test('shares of mixtures are of Beta(α, α); partners of the whole set', () => {
  const ids = Int32Array.from({ length: 4000 }, (_, i) => i);
  const epochs = new Int32Array(ids.length).fill(1);
  for (const mixup of [0.2, 1]) {
    const options = { ...OPTIONS, mixup, count: 50 };
    const { partners, shares } = drawMixture(options, ids, epochs);
    const mean = shares.reduce((a, b) => a + b) / ids.length;
    const variance = shares.reduce((sum, share) => sum + (share - mean) ** 2, 0) / ids.length;
    assert.ok(Math.abs(mean - 0.5) < 0.02, `mean ${mean}`);
    assert.ok(Math.abs(variance - 1 / (4 * (2 * mixup + 1))) < 0.01, `variance ${variance}`);
    assert.deepEqual([Math.min(...partners), Math.max(...partners)], [0, 49]);
    const one = drawMixture(options, ids.subarray(7, 8), epochs.subarray(7, 8));
    assert.deepEqual([one.partners[0], one.shares[0]], [partners[7], shares[7]]);
  }
});
