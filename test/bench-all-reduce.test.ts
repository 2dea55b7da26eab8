/** The all-reduce benchmark: the JSON object of the contract, for one and for several ranks; sums are checked. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { benchAllReduce } from '../src/run/bench-all-reduce.js';

for (const ranks of [1, 2, 3]) {
  test(`${ranks} ranks: exactly the keys of the contract, figures that fit together`, async () => {
    const result = await benchAllReduce({ bytes: 100_004, ranks, rounds: 5 });
    assert.deepEqual(Object.keys(result), [
      'bench',
      'bytes',
      'ranks',
      'rounds',
      'seconds',
      'trafficBytesPerSecond',
      'memcpyBytesPerSecond',
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
  await assert.rejects(benchAllReduce({ bytes: 10, ranks: 1, rounds: 1 }), { message: 'internal: rows of 10 bytes.' });
});

test('more memory than there can be', async () => {
  await assert.rejects(benchAllReduce({ bytes: 2 ** 31, ranks: 2, rounds: 1 }), { code: 'DTRAIN_ARENA_TOO_LARGE' });
});
