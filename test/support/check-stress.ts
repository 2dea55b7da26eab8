/** The stress of the all-reduce as a proof, short or long. */
import assert from 'node:assert/strict';
import { recordProof, recordRow } from '../faults/record.js';
import { canPin, stress } from './all-reduce-stress.js';

const WORLDS = [2, 3, 4, 5, 6, 7, 8];

/** `rounds` in all, the same number for each number of ranks. */
export async function checkStress(rounds: number): Promise<void> {
  const each = Math.ceil(rounds / WORLDS.length);
  let [done, wrong, canaries, changed] = [0, 0, 0, 0];
  for (const ranks of WORLDS) {
    const found = await stress(ranks, each);
    done += found.rounds;
    wrong += found.wrong;
    canaries += found.canaries;
    changed += found.changedCanaries;
  }
  const where = canPin ? 'all threads on one core' : 'not bound to one core';
  const observed = `${done.toLocaleString('en-US')} all-reduces, ${where}: ${wrong} wrong sums, ${changed} of ${canaries} canary words changed, no deadlock`;
  const pass = done >= rounds && wrong === 0 && changed === 0;
  recordProof({
    name: 'All-reduce under stress',
    goal: `${rounds.toLocaleString('en-US')} rounds over 2 to 8 ranks that come at random times, all sums exact`,
    observed,
    pass,
  });
  recordRow({
    row: 36,
    fault: 'race on shared memory',
    injected: '2 to 8 threads that come at random times, canary words around all rows and control words',
    observed,
    code: null,
    seconds: null,
    lost: 'nothing',
    pass,
  });
  assert(pass, observed);
}
