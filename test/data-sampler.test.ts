/** The order of samples, and that shards of it are a partition. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { epochPermutation, sampleIds } from '../src/data/sampler.js';
import { localShards, shardRange } from '../src/data/shard.js';

const seed = fc.integer({ min: 0, max: 2 ** 32 - 1 });
const counted = (n: number) => Array.from({ length: n }, (_, i) => i);

test('a permutation holds each id once', () => {
  fc.assert(
    fc.property(seed, fc.nat(1000), fc.integer({ min: 1, max: 300 }), (seed, epoch, count) => {
      assert.deepEqual(
        [...epochPermutation(seed, epoch, count)].sort((a, b) => a - b),
        counted(count),
      );
    }),
  );
});

test('permutations are pinned: a run can be resumed by a later version', () => {
  assert.deepEqual([...epochPermutation(0, 0, 10)], [2, 3, 0, 4, 6, 7, 5, 1, 8, 9]);
  assert.deepEqual([...epochPermutation(7, 3, 10)], [5, 6, 3, 7, 4, 0, 8, 1, 2, 9]);
});

test('another epoch or seed gives another order', () => {
  const orders = [epochPermutation(0, 0, 50), epochPermutation(0, 1, 50), epochPermutation(1, 0, 50)].map(String);
  assert.equal(new Set(orders).size, 3);
});

test('every id is equally often at every place', () => {
  const count = 8;
  const epochs = 8000;
  const seen = new Uint32Array(count * count);
  for (let epoch = 0; epoch < epochs; epoch++) {
    epochPermutation(5, epoch, count).forEach((id, place) => {
      seen[place * count + id]!++;
    });
  }
  // Expected 1000 each, standard deviation 30.
  for (const times of seen) assert.ok(Math.abs(times - epochs / count) < 150, `${times}`);
});

test('any batch is a piece of the endless sequence of permutations', () => {
  fc.assert(
    fc.property(seed, fc.integer({ min: 1, max: 40 }), fc.nat(200), fc.nat(100), (seed, count, first, length) => {
      const { ids, epochs } = sampleIds({ seed, count, shuffle: true }, first, length);
      assert.equal(ids.length, length);
      ids.forEach((id, i) => {
        const epoch = Math.floor((first + i) / count);
        assert.equal(epochs[i], epoch);
        assert.equal(id, epochPermutation(seed, epoch, count)[(first + i) % count]);
      });
    }),
  );
});

test('without shuffling: the order of the data set, again and again', () => {
  const { ids, epochs } = sampleIds({ seed: 1, count: 4, shuffle: false }, 2, 7);
  assert.deepEqual([...ids], [2, 3, 0, 1, 2, 3, 0]);
  assert.deepEqual([...epochs], [0, 0, 1, 1, 1, 1, 2]);
});

test('far into a run the numbers are still right', () => {
  const { ids, epochs } = sampleIds({ seed: 1, count: 50_000, shuffle: true }, 50_000 * 1_000_000 - 1, 2);
  assert.deepEqual([...epochs], [999_999, 1_000_000]);
  assert.equal(ids[0], epochPermutation(1, 999_999, 50_000).at(-1));
});

test('shards partition the global batch, and ranks the shards', () => {
  const some = fc.integer({ min: 1, max: 64 });
  fc.assert(
    fc.property(some, some, some, (globalBatch, shards, world) => {
      const ranges = counted(shards).map((shard) => shardRange(shard, shards, globalBatch));
      assert.deepEqual(
        ranges.flatMap(({ start, end }) => counted(end).slice(start)),
        counted(globalBatch),
      );
      const sizes = ranges.map(({ start, end }) => end - start);
      assert.ok(Math.max(...sizes) - Math.min(...sizes) <= 1);
      const owned = counted(world).map((rank) => localShards(rank, world, shards));
      assert.deepEqual(
        owned.flatMap(({ first, end }) => counted(end).slice(first)),
        counted(shards),
      );
    }),
  );
});

for (const world of [1, 2, 3, 4]) {
  test(`the ids of an epoch over ${world} ranks are the data set, each once`, () => {
    const order = { seed: 3, count: 600, shuffle: true };
    const shards = 12;
    const globalBatch = 24;
    for (const epoch of [0, 1]) {
      const seen: number[] = [];
      for (let rank = 0; rank < world; rank++) {
        const { first, end } = localShards(rank, world, shards);
        for (let step = (epoch * order.count) / globalBatch; step < ((epoch + 1) * order.count) / globalBatch; step++) {
          const { ids } = sampleIds(order, step * globalBatch, globalBatch);
          seen.push(
            ...ids.subarray(shardRange(first, shards, globalBatch).start, shardRange(end - 1, shards, globalBatch).end),
          );
        }
      }
      assert.deepEqual(
        seen.sort((a, b) => a - b),
        counted(order.count),
      );
    }
  });
}
