/**
 * Faults on purpose, for the tests of what a run survives: `DTRAIN_FAULT=throw:rank=1,step=3,phase=compute`.
 * Read by the coordinator alone; without the variable nothing here runs.
 */

import { DtrainError, ExitCode } from '../core/errors.js';
import { PHASES, type Phase } from '../core/events.js';

/** throw: a JavaScript error; exit: the thread ends; stall: it never returns; nan: the rank's row becomes NaN before the reduce. */
export const FAULT_KINDS = ['throw', 'exit', 'stall', 'nan'] as const;
export type FaultKind = (typeof FAULT_KINDS)[number];

export interface Fault {
  readonly kind: FaultKind;
  readonly rank: number;
  readonly step: number;
  readonly phase: Phase;
}

/** @throws DTRAIN_FAULT_INVALID (exit 2). */
export function parseFault(text: string | undefined): Fault | null {
  if (!text) return null;
  const match = /^(\w+):rank=(\d+),step=(\d+),phase=(\w+)$/.exec(text);
  const [, kind, rank, step, phase] = match ?? [];
  if (!isOneOf(FAULT_KINDS, kind) || !isOneOf(PHASES, phase)) {
    const expected = `${FAULT_KINDS.join('|')}:rank=R,step=S,phase=${PHASES.join('|')}`;
    throw new DtrainError('DTRAIN_FAULT_INVALID', ExitCode.usage, `DTRAIN_FAULT: expected ${expected}, got ${text}.`);
  }
  return { kind, rank: Number(rank), step: Number(step), phase };
}

function isOneOf<T extends string>(known: readonly T[], word: string | undefined): word is T {
  return known.includes(word as T);
}
