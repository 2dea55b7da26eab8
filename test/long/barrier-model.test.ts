/** The interleavings of three ranks of which any may stall and all have deadlines: millions of states. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { recordProof } from '../faults/record.js';
import { exploreBarrier } from '../support/barrier-model.js';

test('three ranks, any stalls, all have deadlines', () => {
  const { states, broken } = exploreBarrier({ ranks: 3, rounds: 1, stalls: 1, deadlines: 3 });
  recordProof({
    name: 'Interleavings of barrier and all-reduce, 3 ranks, any stalls, all have deadlines',
    goal: 'all explored, none breaks a promise',
    observed: `${states.toLocaleString('en-US')} states: ${broken ?? 'no promise broken'}`,
    pass: broken === null,
  });
  assert.equal(broken, null);
});
