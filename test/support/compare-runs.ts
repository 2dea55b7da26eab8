/** What two runs have in common, and how a run ended that was to fail. */
import assert from 'node:assert/strict';
import { DtrainError } from '../../src/core/errors.js';
import { type FinishedRun, lastCheckpointFile } from './train-run.js';

const STATE_FILES = ['weights.safetensors', 'optimizer.safetensors'] as const;

/** The same weights and optimizer in the last checkpoint, and the same losses, bit for bit. */
export function assertSameBits(a: FinishedRun, b: FinishedRun, what: string): void {
  for (const file of STATE_FILES) {
    assert(lastCheckpointFile(a.runDir, file).equals(lastCheckpointFile(b.runDir, file)), `${what}: ${file}`);
  }
  assert.deepEqual(lossesOf(a), lossesOf(b), what);
}

/** Of the steps that were told. */
export function lossesOf({ events }: FinishedRun): number[] {
  return events.flatMap((event) => (event.event === 'step' ? [event.loss] : []));
}

/** The error that a run ends with. */
export async function failureOf(run: Promise<unknown>): Promise<DtrainError> {
  const error = await run.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  assert(error instanceof DtrainError, `expected a DtrainError, got ${error}`);
  return error;
}
