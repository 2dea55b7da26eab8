/** 10^5 all-reduces over 2 to 8 ranks on one core, at random times: every sum exact, no deadlock, no word beside the rows written. */
import { test } from 'node:test';
import { checkStress } from '../support/check-stress.js';

test('all-reduces over 2 to 8 ranks', () => checkStress(100_000));
