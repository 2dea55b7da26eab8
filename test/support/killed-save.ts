/**
 * A process that saves a checkpoint as a run does and kills itself by SIGKILL at one point of it; or, without a point, lives.
 * Arguments: the folder of checkpoints, the step, and the point as JSON.
 */
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { DtrainError } from '../../src/core/errors.js';
import { type Fs, realFs } from '../../src/core/file-system.js';
import { removeOldCheckpoints, saveCheckpoint } from '../../src/train/save-checkpoint.js';
import { modelOf, saveOptions } from './checkpoints.js';

/** Before call `call` (from 0), or in it, a write, after so many bytes. */
export interface KillPoint {
  readonly call: number;
  readonly bytes: number;
}

/** Files of 0.46 MB. */
export const KILLED_MODEL = modelOf([230, 500]);
const CHANGING: readonly (keyof Fs)[] = [
  'makeFolder',
  'create',
  'open',
  'write',
  'sync',
  'close',
  'rename',
  'link',
  'remove',
];

/** Saves `step`, the best so far, and keeps one; `onCall` sees each changing call. */
export function saveAndRemove(
  checkpoints: string,
  step: number,
  onCall: (name: keyof Fs, words: unknown[]) => void,
): void {
  const wrapped = CHANGING.map((name) => {
    const real = realFs[name] as (...words: unknown[]) => unknown;
    return [
      name,
      (...words: unknown[]) => {
        onCall(name, words);
        return real(...words);
      },
    ] as const;
  });
  const fs = { ...realFs, ...Object.fromEntries(wrapped) } as Fs;
  saveCheckpoint({ ...saveOptions(checkpoints, KILLED_MODEL, step), isBest: true, fs });
  removeOldCheckpoints(checkpoints, 1, fs);
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const [folder, step, text] = process.argv.slice(2);
  const point = JSON.parse(text ?? 'null') as KillPoint | null;
  let call = 0;
  try {
    saveAndRemove(path.resolve(folder!), Number(step), (name, words) => {
      if (call++ !== point?.call) return;
      if (name === 'write') realFs.write(words[0] as number, (words[1] as Uint8Array).subarray(0, point.bytes));
      process.kill(process.pid, 'SIGKILL');
    });
  } catch (error) {
    process.exitCode = error instanceof DtrainError ? error.exitCode : 1;
  }
}
