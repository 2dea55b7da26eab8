/** The all-reduce over several hosts, with the exchange made up: the mean is bit for bit that of one host with the same shards. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { createArena } from '../src/collective/gradient-arena.js';
import { RankGroup } from '../src/collective/rank-group.js';
import { bfloat16Bits, bfloat16Value, referenceMean } from '../src/collective/reference.js';
import { fillNormal, Purpose } from '../src/core/philox.js';

const LENGTH = 75;

/** Normal numbers of many sizes, so that another order of additions gives other bits; the first `low` are bfloat16. */
function rowOf(shard: number, low = 0): Float32Array {
  const row = new Float32Array(LENGTH);
  fillNormal(row, shard, Purpose.synthetic, 0);
  const spread = row.map((value, i) => value * 2 ** ((shard * 7 + i) % 9));
  return spread.map((value, i) => (i < low ? bfloat16Value(bfloat16Bits(value)) : value));
}

/** The host's sum, made by an all-reduce whose exchange stops there. */
function sumOfHost(host: number, hosts: number, perHost: number, low = 0): Float32Array {
  let sum = new Float32Array();
  const keep = (hostSum: Float32Array, rows: readonly Float32Array[]) => {
    sum = Float32Array.from(hostSum);
    for (const row of rows) row.fill(0);
  };
  meanOnHost(host, hosts, perHost, hosts, keep, low);
  return sum;
}

function meanOnHost(
  host: number,
  hosts: number,
  perHost: number,
  hostRows: number,
  exchange: (hostSum: Float32Array, rows: readonly Float32Array[]) => void,
  low = 0,
): Float32Array {
  const part = { firstShard: host * perHost, allShards: hosts * perHost, hostRows };
  const sizes = { rowLength: LENGTH, lowLength: low };
  const group = new RankGroup(createArena({ world: 1, shards: perHost, ...sizes, hosts: part }), 0, 60);
  for (let shard = host * perHost; shard < (host + 1) * perHost; shard++) {
    const row = rowOf(shard, low);
    group.lowRow(shard).set(Array.from(row.subarray(0, low), bfloat16Bits));
    group.row(shard).set(row.subarray(low));
  }
  group.allReduceMean(exchange);
  return group.result;
}

test('gathered sums of 2 to 6 hosts with 1, 2, 4 or 8 shards each, some in part bfloat16, give the mean of one host', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 2, max: 6 }),
      fc.constantFrom(1, 2, 4, 8),
      fc.constantFrom(0, 64),
      (hosts, perHost, low) => {
        const sums = Array.from({ length: hosts }, (_, host) => sumOfHost(host, hosts, perHost, low));
        const expected = referenceMean(Array.from({ length: hosts * perHost }, (_, shard) => rowOf(shard, low)));
        for (let host = 0; host < hosts; host++) {
          const exchange = (hostSum: Float32Array, rows: readonly Float32Array[]) => {
            assert.deepEqual(hostSum, sums[host]);
            for (const [i, row] of rows.entries()) row.set(sums[i]!);
          };
          assert.deepEqual(meanOnHost(host, hosts, perHost, hosts, exchange, low), expected);
        }
      },
    ),
    { numRuns: 30 },
  );
});

test('one summed row of two hosts gives the mean of one host, whoever adds', () => {
  const sums = [sumOfHost(0, 2, 4), sumOfHost(1, 2, 4)] as const;
  const expected = referenceMean(Array.from({ length: 8 }, (_, shard) => rowOf(shard)));
  for (const [a, b] of [sums, [sums[1], sums[0]] as const]) {
    const mean = meanOnHost(1, 2, 4, 1, (_, [row]) => row!.set(a.map((value, i) => Math.fround(value + b[i]!))));
    assert.deepEqual(mean, expected);
  }
});

test('the check can fail: shards that are no power of two a host give other bits', () => {
  const sums = [0, 1].map((host) => sumOfHost(host, 2, 3));
  const expected = referenceMean(Array.from({ length: 6 }, (_, shard) => rowOf(shard)));
  const mean = meanOnHost(0, 2, 3, 2, (_, rows) => {
    for (const [i, row] of rows.entries()) row.set(sums[i]!);
  });
  assert.notDeepEqual(mean, expected);
});
