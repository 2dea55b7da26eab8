/**
 * Faults on purpose, for the tests of what a run survives: `DTRAIN_FAULT=throw:rank=1,step=3,phase=compute`, and `,life=1` where it happens
 * in the first life of the engine alone and not after a restart.
 * Read by the coordinator alone; without the variable nothing here runs.
 */

import { DtrainError, ExitCode } from '../core/errors.js';
import { PHASES, type Phase } from '../core/events.js';

/**
 * throw: a JavaScript error; exit: the thread ends; stall: it never returns; nan: the rank's row becomes NaN before the reduce; inf: one
 * value of its gradient becomes infinite;
 * abort, segv, kill: a signal ends the process; freeze: the whole process stops moving; slow: from that step on, 0.3 s longer;
 * flip: one bit of the rank's weights changes; heap: the thread's JavaScript memory runs out.
 */
export const FAULT_KINDS = [
  'throw',
  'exit',
  'stall',
  'nan',
  'inf',
  'abort',
  'segv',
  'kill',
  'freeze',
  'slow',
  'flip',
  'heap',
] as const;
export type FaultKind = (typeof FAULT_KINDS)[number];

export interface Fault {
  readonly kind: FaultKind;
  readonly rank: number;
  readonly step: number;
  readonly phase: Phase;
}

/** Null without a fault, and in another life than its own. @throws DTRAIN_FAULT_INVALID (exit 2). */
export function parseFault(text: string | undefined, life = 1): Fault | null {
  if (!text) return null;
  const match = /^(\w+):rank=(\d+),step=(\d+),phase=(\w+)(?:,life=(\d+))?$/.exec(text);
  const [, kind, rank, step, phase, ownLife] = match ?? [];
  if (!isOneOf(FAULT_KINDS, kind) || !isOneOf(PHASES, phase)) {
    const expected = `${FAULT_KINDS.join('|')}:rank=R,step=S,phase=${PHASES.join('|')}`;
    throw new DtrainError('DTRAIN_FAULT_INVALID', ExitCode.usage, `DTRAIN_FAULT: expected ${expected}, got ${text}.`);
  }
  if (ownLife !== undefined && Number(ownLife) !== life) return null;
  return { kind, rank: Number(rank), step: Number(step), phase };
}

function isOneOf<T extends string>(known: readonly T[], word: string | undefined): word is T {
  return known.includes(word as T);
}
