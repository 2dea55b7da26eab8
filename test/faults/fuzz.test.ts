/** Damaged inputs of every parser, 10^5 each: the error that it promises, in time, or a value. */
import { test } from 'node:test';
import { checkFuzz } from '../support/check-fuzz.js';

test('damaged inputs', { timeout: 15 * 60_000 }, () => checkFuzz(100_000, 1));
