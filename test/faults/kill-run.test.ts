/** A training process killed at random moments and resumed has the bits of the undisturbed one. */
import { test } from 'node:test';
import { checkKilledRuns } from '../support/kill-runs.js';
import { SeededRandom } from '../support/seeded-random.js';

const SEED = 7;

test('kill -9 at random moments, then resume: 0 bits', () => checkKilledRuns(1, 5, new SeededRandom(SEED), SEED));
