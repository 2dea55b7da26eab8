/**
 * The thread that writes checkpoints beside training, the entry of a thread of its own: one save at a time, an answer each.
 */
import path from 'node:path';
import { isMainThread, parentPort } from 'node:worker_threads';
import { DtrainError, ExitCode, type SerializedError, serializeError } from '../core/errors.js';
import { openCheckpoint } from '../train/checkpoint.js';
import type { CheckpointState } from '../train/checkpoint-state.js';
import type { RowLayout } from '../train/row-layout.js';
import {
  type LockToken,
  type ModelNames,
  type RunFacts,
  removeOldCheckpoints,
  saveCheckpoint,
} from '../train/save-checkpoint.js';
import { checkpointTensors } from '../train/state-transfer.js';

export interface SaveTask {
  readonly checkpoints: string;
  readonly model: ModelNames;
  readonly layout: RowLayout;
  /** In shared memory; not written until the answer is there. */
  readonly state: Float32Array;
  readonly saved: CheckpointState;
  readonly configYaml: string;
  readonly facts: RunFacts;
  readonly isBest: boolean;
  readonly lock: LockToken;
  readonly metricsFile: string | null;
  /** Newest checkpoints that stay. */
  readonly keep: number;
  /** Read what was written, and compare. */
  readonly readBack: boolean;
}

export type SaveAnswer = { readonly path: string } | { readonly error: SerializedError };

if (!isMainThread) {
  parentPort!.on('message', (task: SaveTask | null) => {
    if (task === null) parentPort!.close();
    else parentPort!.postMessage(answer(task));
  });
}

function answer(task: SaveTask): SaveAnswer {
  try {
    return { path: save(task) };
  } catch (error) {
    return { error: serializeError(error, { step: task.saved.step, phase: 'save' }) };
  }
}

function save({ state, layout, saved, configYaml, keep, readBack, ...options }: SaveTask): string {
  const content = { state: saved, configYaml, ...checkpointTensors(state, layout) };
  const folder = saveCheckpoint({ ...options, content });
  if (readBack) check(folder);
  removeOldCheckpoints(options.checkpoints, keep);
  return folder;
}

function check(folder: string): void {
  try {
    openCheckpoint(folder);
  } catch (cause) {
    const text = `${path.basename(folder)}: what was written is not what the disk gives back: ${(cause as Error).message}`;
    throw new DtrainError('DTRAIN_STORAGE', ExitCode.storage, text, { cause });
  }
}
