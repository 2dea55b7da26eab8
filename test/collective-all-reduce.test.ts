/** The kernel and its reference tree agree bit for bit, whatever the number of ranks, the number of rows, their length and their values. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  type ArenaSpec,
  createArena,
  lastResult,
  rowBytes,
  rowOffset,
  rowStride,
  rowView,
} from '../src/collective/gradient-arena.js';
import { instantiateKernel } from '../src/collective/kernel.js';
import { chunkOfRank, RankGroup } from '../src/collective/rank-group.js';
import { referenceMean } from '../src/collective/reference.js';
import { DtrainError } from '../src/core/errors.js';

const SPECIAL = [0, -0, 1e-45, -1e-45, 1.1754942e-38, 1e38, -3e38, Infinity, -Infinity, NaN, 1, -1, 16777216, 1 / 3];
const anyFloat = fc.oneof(fc.float(), fc.constantFrom(...SPECIAL));

/**
 * The mean of the rows as `world` ranks compute it, chunk by chunk, in one thread: once beside the rows, and once in the place of the first one,
 * which lies behind the others, as in every second all-reduce. Both are the same.
 */
function meanByRanks(world: number, rows: readonly Float32Array[]): Float32Array {
  const spec = createArena({ world, shards: rows.length, rowLength: rows[0]!.length });
  const [apart, behind] = [0, rows.length].map((place) => meanWith(spec, place, rows)) as [Float32Array, Float32Array];
  assertSameBits(apart, behind);
  return apart;
}

/** With the first row in row `first` and the result in row `shards`. */
function meanWith(spec: ArenaSpec, first: number, rows: readonly Float32Array[]): Float32Array {
  for (const [shard, row] of rows.entries()) rowView(spec, shard === 0 ? first : shard).set(row);
  const { sumOfRows } = instantiateKernel(spec.memory);
  const { world, shards } = spec;
  const [place, others, result] = [rowOffset(spec, first), rowOffset(spec, 0), rowOffset(spec, shards)];
  let finite = 1;
  for (let rank = 0; rank < world; rank++) {
    const { start, end } = chunkOfRank(rank, world, rowBytes(spec));
    finite &= sumOfRows(place, others, rowStride(spec), shards, start, end, result, 1 / shards);
  }
  for (const [shard, row] of rows.entries()) if (shard > 0) assertSameBits(rowView(spec, shard), row);
  const mean = rowView(spec, shards).slice();
  assert.equal(finite === 1, mean.every(Number.isFinite), 'what is not finite is seen');
  return mean;
}

/** Equal bit for bit, −0 and denormals included; any NaN equals any NaN, whose payload WebAssembly leaves open. */
function assertSameBits(actual: Float32Array, expected: Float32Array): void {
  assert.equal(actual.length, expected.length);
  for (let i = 0; i < actual.length; i++) {
    if (!Object.is(actual[i], expected[i])) assert.fail(`element ${i}: expected ${expected[i]}, got ${actual[i]}`);
  }
}

test('the all-reduce equals the reference tree bit for bit: any world, shards, length, values', () => {
  const cases = fc
    .record({ world: fc.integer({ min: 1, max: 8 }), shards: fc.integer({ min: 1, max: 19 }), length: fc.nat(200) })
    .filter(({ world, shards }) => shards >= world)
    .chain(({ world, shards, length }) =>
      fc.record({
        world: fc.constant(world),
        rows: fc.array(fc.float32Array({ minLength: length, maxLength: length }), {
          minLength: shards,
          maxLength: shards,
        }),
      }),
    );
  fc.assert(
    fc.property(cases, ({ world, rows }) => assertSameBits(meanByRanks(world, rows), referenceMean(rows))),
    {
      numRuns: 300,
    },
  );
});

test('denormals, infinities, NaN, -0 and numbers near overflow go through every tree of 1 to 17 rows', () => {
  for (let shards = 1; shards <= 17; shards++) {
    const cases = fc.array(fc.array(anyFloat, { minLength: 33, maxLength: 33 }), {
      minLength: shards,
      maxLength: shards,
    });
    const property = fc.property(cases, (values) => {
      const rows = values.map((row) => Float32Array.from(row));
      assertSameBits(meanByRanks(1, rows), referenceMean(rows));
    });
    fc.assert(property, { numRuns: 30 });
  }
});

test('a sum of -0 stays -0 and a denormal stays a denormal', () => {
  const rows = [Float32Array.of(-0, 2.8e-45), Float32Array.of(-0, 0)];
  assertSameBits(meanByRanks(1, rows), Float32Array.of(-0, 1.4e-45));
});

test('lengths 0, 1, odd, 2^20 + 3', () => {
  for (const length of [0, 1, 15, 16, 17, 2 ** 20 + 3]) {
    for (const shards of length > 1000 ? [2, 5] : [1, 2, 3, 4, 8]) {
      const rows = Array.from({ length: shards }, (_, shard) =>
        Float32Array.from({ length }, (_, i) => Math.sin(i * (shard + 1))),
      );
      assertSameBits(meanByRanks(Math.min(shards, 3), rows), referenceMean(rows));
    }
  }
});

test('the tree is pairwise: four rows are (0 + 1) + (2 + 3), six are ((0 + 1) + (2 + 3)) + (4 + 5)', () => {
  // 2^24 + 1 rounds to 2^24: the order of the additions shows.
  const four = [16777216, 1, 1, 1].map((value) => Float32Array.of(value));
  assert.equal(meanByRanks(1, four)[0], (16777216 + 2) / 4);
  const six = [16777216, 1, 1, 1, 1, 1].map((value) => Float32Array.of(value));
  assert.equal(meanByRanks(1, six)[0], Math.fround((16777216 + 4) * Math.fround(1 / 6)));
});

test('the chunks of the ranks are whole cache lines and make up the row', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 64 }), fc.nat(5000), (world, lines) => {
      let end = 0;
      for (let rank = 0; rank < world; rank++) {
        const chunk = chunkOfRank(rank, world, lines * 64);
        assert.equal(chunk.start, end);
        assert.equal(chunk.end % 64, 0);
        assert.ok(chunk.end - chunk.start <= Math.ceil(lines / world) * 64);
        end = chunk.end;
      }
      assert.equal(end, lines * 64);
    }),
  );
});

test('rows and result begin at multiples of 64 and do not overlap', () => {
  const spec = createArena({ world: 3, shards: 6, rowLength: 17 });
  for (let row = 0; row <= 6; row++) assert.equal(rowView(spec, row).byteOffset % 64, 0);
  for (const rowLength of [0, 1, 1168, 1169, 2 ** 20]) {
    assert.ok(rowStride({ rowLength }) >= rowBytes({ rowLength }) && rowStride({ rowLength }) % 8192 === 4672);
  }
  const group = new RankGroup(spec, 1, 60);
  group.row(5).fill(5);
  assert.ok(rowView(spec, 4).every((value) => value === 0));
  assert.ok(group.result.every((value) => value === 0));
  assert.equal(group.row(5).length, 17);
});

test('a group of one rank needs no other thread', () => {
  const group = new RankGroup(createArena({ world: 1, shards: 2, rowLength: 5 }), 0, 60);
  group.row(0).set([1, 2, 3, 4, 5]);
  group.row(1).set([3, 2, 1, 0, -1]);
  group.allReduceMean();
  assert.deepEqual([...group.result], [2, 2, 2, 2, 2]);
  assert.equal(group.arrivedLast, true);
});

test('the mean takes the place of the first row, in two places in turn, where it stays through the next gradients', () => {
  const spec = createArena({ world: 1, shards: 2, rowLength: 3 });
  const group = new RankGroup(spec, 0, 60);
  assert.deepEqual([...lastResult(spec)], [0, 0, 0]);
  for (let round = 0; round < 5; round++) {
    const first = group.row(0);
    const before = [...group.result];
    first.set([round, 1, 2]);
    group.row(1).set([round, 3, 4]);
    assert.deepEqual([...group.result], before, 'those of the last round are not touched');
    group.allReduceMean();
    assert.deepEqual([...group.result], [round, 2, 3]);
    assert.equal(group.result.byteOffset, first.byteOffset);
    assert.notEqual(group.row(0).byteOffset, first.byteOffset);
    assert.deepEqual([...lastResult(spec)], [round, 2, 3]);
  }
});

test('an arena above 4 GiB is a configuration error', () => {
  assert.throws(
    () => createArena({ world: 4, shards: 64, rowLength: 25_000_000 }),
    (error: unknown) =>
      error instanceof DtrainError &&
      error.code === 'DTRAIN_ARENA_TOO_LARGE' &&
      error.exitCode === 3 &&
      error.message ===
        'all-reduce: 64 shards of 96 MiB need 6200 MiB of shared memory, expected at most 4096 MiB. Lower train.logicalShards.',
  );
});

test('a rank outside the group is our own mistake', () => {
  const spec = createArena({ world: 2, shards: 2, rowLength: 1 });
  assert.throws(() => new RankGroup(spec, 2, 60), { message: 'internal: rank 2 of a group of 2.' });
  assert.throws(() => createArena({ world: 2, shards: 1, rowLength: 1 }), {
    message: 'internal: arena of 2 ranks, 1 shards, 1 floats.',
  });
});

test('one value that is not finite, anywhere in the result, is seen at this all-reduce and not at the next', () => {
  for (const [shards, rowLength] of [
    [1, 1],
    [1, 40_000],
    [2, 70_001],
    [3, 17],
  ] as const) {
    const group = new RankGroup(createArena({ world: 1, shards, rowLength }), 0, 60);
    const reduceWith = (value: number, at: number) => {
      for (let shard = 0; shard < shards; shard++) group.row(shard).fill(0);
      group.row(shards - 1)[at] = value;
      group.allReduceMean();
    };
    for (const at of [0, 1, 16, 16_383, 16_384, Math.floor(rowLength / 2), rowLength - 1]) {
      if (at >= rowLength) continue;
      for (const value of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
        reduceWith(value, at);
        assert.equal(group.resultIsFinite, false, `${value} at ${at} of ${rowLength}`);
        reduceWith(3.4e38, at);
        assert.equal(group.resultIsFinite, true);
      }
    }
  }
});

test('finite rows whose sum is not', () => {
  const group = new RankGroup(createArena({ world: 1, shards: 2, rowLength: 1 }), 0, 60);
  for (const shard of [0, 1]) group.row(shard)[0] = 3.4e38;
  group.allReduceMean();
  assert.equal(group.resultIsFinite, false);
});
