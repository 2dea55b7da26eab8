/** The all-reduce benchmark: the JSON object of the contract, for one and for several ranks; sums are checked. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { loadConfig } from '../src/config/load.js';
import { type AllReduceBenchOptions, benchAllReduce } from '../src/run/bench-all-reduce.js';

type Words = Pick<AllReduceBenchOptions, 'bytes' | 'ranks' | 'rounds'>;

function run(words: Words, devices: AllReduceBenchOptions['devices'] = null, ...overrides: string[]) {
  return benchAllReduce({ ...words, devices, config: loadConfig({ overrides }) });
}

for (const ranks of [1, 2, 3]) {
  test(`${ranks} ranks: exactly the keys of the contract, figures that fit together`, async () => {
    const result = await run({ bytes: 100_004, ranks, rounds: 5 });
    assert.deepEqual(Object.keys(result), [
      'bench',
      'bytes',
      'ranks',
      'rounds',
      'seconds',
      'trafficBytesPerSecond',
      'memcpyBytesPerSecond',
      'kind',
      'dtype',
      'devices',
    ]);
    const { bench, bytes, rounds, seconds, trafficBytesPerSecond, memcpyBytesPerSecond } = result;
    assert.deepEqual(
      { bench, bytes, ranks: result.ranks, rounds },
      { bench: 'all-reduce', bytes: 100_004, ranks, rounds: 5 },
    );
    assert.ok(0 < seconds.min && seconds.min <= seconds.median && seconds.median <= seconds.max);
    const traffic = (100_004 * (ranks + 1)) / seconds.median;
    assert.ok(Math.abs(trafficBytesPerSecond / traffic - 1) < 1e-6, 'every row read and one written, once');
    assert.ok(memcpyBytesPerSecond > 0);
  });
}

test('rows that are no whole floats are our own mistake', async () => {
  await assert.rejects(run({ bytes: 10, ranks: 1, rounds: 1 }), { message: 'internal: rows of 10 bytes.' });
});

test('more memory than there can be', async () => {
  await assert.rejects(run({ bytes: 2 ** 31, ranks: 2, rounds: 1 }), { code: 'DTRAIN_ARENA_TOO_LARGE' });
});

for (const [words, devices] of [
  [['allReduce.dtype=bfloat16'], 'memory'],
  [['allReduce.kind=tensorflow'], 'cpu'],
] as const) {
  test(`${words.join(' ')}: sums are right, the traffic is that of its rows`, async () => {
    const result = await run({ bytes: 100_004, ranks: 3, rounds: 2 }, null, ...words);
    assert.equal(result.devices, devices);
    assert.deepEqual([`allReduce.kind=${result.kind}`, `allReduce.dtype=${result.dtype}`].includes(words[0]), true);
    const rows = result.dtype === 'float32' ? 3 * 100_004 : 3 * (100_004 - 2 * 24_992); // 781 cache lines of bfloat16
    assert.ok(Math.abs((result.trafficBytesPerSecond * result.seconds.median) / (rows + 100_004) - 1) < 1e-6);
  });
}

test('on devices a round begins and ends there, whatever adds', async () => {
  const { devices, kind, dtype } = await run(
    { bytes: 4096, ranks: 2, rounds: 2 },
    { kind: 'cpu', count: 2 },
    'allReduce.dtype=bfloat16',
  );
  assert.deepEqual([devices, kind, dtype], ['cpu', 'shared-memory', 'bfloat16']);
});
