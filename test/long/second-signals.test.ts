/** A second signal at a hundred random moments: row 16 of the fault matrix at length. */
import { test } from 'node:test';
import { recordProof } from '../faults/record.js';
import { checkSecondSignals } from '../support/second-signals.js';

const COUNT = 100;

test('a second signal at random moments', { timeout: 60 * 60_000 }, async () => {
  const { observed, seconds } = await checkSecondSignals(COUNT);
  recordProof({
    name: `A second signal at ${COUNT} random moments`,
    goal: 'exit code 130 or 143 within 1 s, the last good checkpoint intact',
    observed: `${observed}; the slowest end after ${seconds.toFixed(2)} s`,
    pass: true,
  });
});
