/** Fifty kills of a training process. */
import { test } from 'node:test';
import { checkKilledRuns } from '../support/kill-runs.js';
import { SeededRandom } from '../support/seeded-random.js';

const SEED = 8;

test('kill -9 at random moments, then resume: 0 bits', () => checkKilledRuns(10, 50, new SeededRandom(SEED), SEED));
