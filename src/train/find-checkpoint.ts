/**
 * The newest checkpoint of a run that can be used.
 *
 * Idea: newest is the highest (generation, step), never what a link or a file's time says; a damaged one is set aside under another name,
 * never removed, and the one before it is taken.
 */
import { randomUUID } from 'node:crypto';
import path from 'node:path';
import { DtrainError } from '../core/errors.js';
import { type Fs, realFs, syncPath } from '../core/file-system.js';
import { type OpenCheckpoint, openCheckpoint, readManifest } from './checkpoint.js';
import { stepFolders } from './step-folders.js';

/**
 * Undefined where the run has none that can be used. Under the run's lock; `warn` takes a line about one that was passed over.
 * @throws DTRAIN_CHECKPOINT_VERSION (exit 6): another version is no damage.
 */
export function newestCheckpoint(
  checkpoints: string,
  warn: (line: string) => void,
  fs: Fs = realFs,
): OpenCheckpoint | undefined {
  for (const name of newestFirst(fs, checkpoints)) {
    try {
      return openCheckpoint(path.join(checkpoints, name), fs);
    } catch (error) {
      if (!(error instanceof DtrainError) || error.code === 'DTRAIN_CHECKPOINT_VERSION') throw error;
      warn(`${error.message.replace(/ Take another one.*$/, '')} The one before it is used.`);
      setAside(fs, checkpoints, name, 'bad');
    }
  }
  return undefined;
}

/** Renames checkpoints of later steps, when a run goes on from an earlier one. They are not removed. */
export function setAsideAfter(checkpoints: string, step: number, fs: Fs = realFs): string[] {
  const later = stepFolders(fs, checkpoints).filter((name) => Number(name.slice(5)) > step);
  for (const name of later) setAside(fs, checkpoints, name, 'old');
  return later;
}

/** Names by (generation, step) of their manifests; those without a readable one first, since they may be the newest. */
function newestFirst(fs: Fs, checkpoints: string): string[] {
  const found = stepFolders(fs, checkpoints).map((name) => {
    const generation = generationOf(fs, path.join(checkpoints, name));
    return { name, generation, step: Number(name.slice(5)) };
  });
  return found.sort((a, b) => b.generation - a.generation || b.step - a.step).map(({ name }) => name);
}

function generationOf(fs: Fs, folder: string): number {
  try {
    return readManifest(fs, folder).generation;
  } catch {
    return Number.MAX_SAFE_INTEGER;
  }
}

function setAside(fs: Fs, checkpoints: string, name: string, why: 'bad' | 'old'): void {
  fs.rename(path.join(checkpoints, name), path.join(checkpoints, `.${why}-${name}-${randomUUID()}`));
  syncPath(fs, checkpoints);
}
