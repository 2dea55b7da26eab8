/** Damaged inputs of every parser, 10^6 each, of another seed. */
import { test } from 'node:test';
import { checkFuzz } from '../support/check-fuzz.js';

test('damaged inputs', { timeout: 120 * 60_000 }, () => checkFuzz(1_000_000, 2));
