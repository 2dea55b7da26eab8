/**
 * What a test of a fault found, for the page that is made of it (scripts/recorded-tests.mjs): one JSON line each.
 * Without $DTRAIN_FAULTS_RECORD nothing is written, so these files also run alone.
 */
import fs from 'node:fs';

/** A row of the fault matrix, as it was injected and seen. */
export interface FaultRow {
  readonly row: number;
  readonly fault: string;
  readonly injected: string;
  readonly observed: string;
  /** Exit code; null where no process ended. */
  readonly code: number | null;
  readonly seconds: number | null;
  /** What of the run's work was lost. */
  readonly lost: string;
  readonly pass: boolean;
}

export interface Proof {
  readonly name: string;
  readonly goal: string;
  readonly observed: string;
  readonly pass: boolean;
}

export function recordRow(row: FaultRow): void {
  append(row);
}

export function recordProof(proof: Proof): void {
  append(proof);
}

function append(record: FaultRow | Proof): void {
  const file = process.env['DTRAIN_FAULTS_RECORD'];
  if (file) fs.appendFileSync(file, `${JSON.stringify(record)}\n`);
}
