/** 10^6 all-reduces over 2 to 8 ranks. */
import { test } from 'node:test';
import { checkStress } from '../support/check-stress.js';

test('all-reduces over 2 to 8 ranks', () => checkStress(1_000_000));
