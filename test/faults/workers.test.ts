/** 1, 2 and 4 workers have the same bits after 50 steps, and so has a run that changes from one to the other. */
import { test } from 'node:test';
import { checkWorkers } from '../support/check-workers.js';

test('1, 2 and 4 workers: 0 bits', () => checkWorkers([1, 2, 4], [1, 2, 4, 1]));
