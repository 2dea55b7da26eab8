/** Every interleaving of the barrier and the all-reduce for two and three ranks, and mutants of the model, which it must catch. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { test } from 'node:test';
import { exploreBarrier, type ModelOptions, type Mutation } from '../support/barrier-model.js';
import { recordProof, recordRow } from './record.js';

const CASES: readonly [string, ModelOptions][] = [
  ['2 ranks, 3 rounds', { ranks: 2, rounds: 3 }],
  ['2 ranks, 2 rounds, a rank fails', { ranks: 2, rounds: 2, failures: 1 }],
  ['2 ranks, 2 rounds, both fail, deadlines pass', { ranks: 2, rounds: 2, failures: 2, deadlines: 2 }],
  ['2 ranks, 2 rounds, a thread dies', { ranks: 2, rounds: 2, deaths: 1 }],
  ['2 ranks, 2 rounds, a rank stalls', { ranks: 2, rounds: 2, stalls: 1, deadlines: 2 }],
  ['3 ranks, 2 rounds', { ranks: 3, rounds: 2 }],
  ['3 ranks, 1 round, a rank fails', { ranks: 3, rounds: 1, failures: 1 }],
  ['3 ranks, 1 round, a thread dies', { ranks: 3, rounds: 1, deaths: 1 }],
  ['3 ranks, 1 round, the third stalls, the first has a deadline', { ranks: 3, rounds: 1, stalls: 1, deadlines: 1 }],
];

const MUTANTS: readonly [Mutation, ModelOptions][] = [
  ['signal before round', { ranks: 2, rounds: 2 }],
  ['look before reading the signal', { ranks: 2, rounds: 2 }],
  ['poison after signal', { ranks: 2, rounds: 2, failures: 1 }],
  ['no look at poison by the last', { ranks: 2, rounds: 2, deadlines: 2 }],
  ['own round after arriving', { ranks: 2, rounds: 2, deadlines: 2 }],
  ['arrive without an atomic add', { ranks: 2, rounds: 2 }],
  ['sum before the barrier', { ranks: 2, rounds: 2 }],
  ['no second barrier', { ranks: 2, rounds: 2 }],
  ['sleep without comparing', { ranks: 2, rounds: 2 }],
  ['ahead is missing', { ranks: 2, rounds: 2, deadlines: 2 }],
];

/** The operations on shared words, in the order of the source. The model has the same; whoever changes one changes the other. */
const OPERATIONS = {
  'src/collective/barrier.ts': [
    'load round', // the constructor
    'store round',
    'add arrivals',
    'store stop',
    'load stopRequest',
    'store round',
    'load signal',
    'load round',
    'wait signal',
    'load round', // giveUp
    'load poison',
  ],
  'src/collective/progress.ts': ['compareExchange poison', 'add signal', 'notify signal'],
};

test('no interleaving breaks a promise: right sums, no lost wake-up, no deadlock, no false alarm', () => {
  const found = CASES.map(([name, options]) => ({ name, ...exploreBarrier(options) }));
  const broken = found.filter((result) => result.broken !== null).map(({ name, broken }) => `${name}: ${broken}`);
  const states = found.reduce((sum, result) => sum + result.states, 0);
  const observed = `${states.toLocaleString('en-US')} states in ${CASES.length} cases: ${broken.join('; ') || 'no promise broken'}`;
  recordRow({
    row: 35,
    fault: 'lost wake-up, deadlock in the barrier',
    injected:
      'every interleaving of a model of 2 and 3 ranks, with failures, dead threads, stalled ranks and deadlines',
    observed,
    code: null,
    seconds: null,
    lost: 'nothing',
    pass: broken.length === 0,
  });
  recordProof({
    name: 'Interleavings of barrier and all-reduce, 2 and 3 ranks',
    goal: 'all explored, none breaks a promise',
    observed,
    pass: broken.length === 0,
  });
  assert.deepEqual(broken, []);
});

test('mutants: a barrier with one step moved or left out is caught', () => {
  const found = MUTANTS.map(([mutation, options]) => ({ mutation, ...exploreBarrier({ ...options, mutation }) }));
  const alive = found.filter(({ broken }) => broken === null).map(({ mutation }) => mutation);
  recordProof({
    name: 'Mutants of the barrier',
    goal: 'all caught by the model',
    observed: `${MUTANTS.length - alive.length} of ${MUTANTS.length} caught: ${found.map(({ mutation, broken }) => `${mutation} (${broken})`).join('; ')}`,
    pass: alive.length === 0,
  });
  assert.deepEqual(alive, []);
});

test('the model has the operations of the source, in their order', () => {
  for (const [file, expected] of Object.entries(OPERATIONS)) {
    const text = fs.readFileSync(new URL(`../../../${file}`, import.meta.url), 'utf8');
    const calls = [...text.matchAll(/Atomics\.(\w+)\((?:this\.#)?words, [^;]*?(?:Shared|Rank)Word\.(\w+)/g)];
    const own = calls.map(([, operation, word]) => `${operation} ${word}`);
    const known = file.endsWith('progress.ts')
      ? own.filter((call) => /poison$|signal$/.test(call) && !call.startsWith('load'))
      : own;
    assert.deepEqual(known, expected, file);
  }
});
