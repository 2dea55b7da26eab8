/** The `step-N` folders of a run: each is a whole checkpoint by its name alone (checkpoint.ts). Light, for a process without native code. */
import { type Fs, realFs } from '../core/file-system.js';

/** `step-N` folders, oldest first. */
export function stepFolders(fs: Fs, checkpoints: string): string[] {
  if (fs.entry(checkpoints)?.kind !== 'folder') return [];
  const names = fs.list(checkpoints).filter((name) => /^step-\d{1,15}$/.test(name));
  return names.sort((a, b) => Number(a.slice(5)) - Number(b.slice(5)));
}

/** Undefined where there is none. */
export function newestStep(checkpoints: string, fs: Fs = realFs): number | undefined {
  const newest = stepFolders(fs, checkpoints).at(-1);
  return newest === undefined ? undefined : Number(newest.slice(5));
}
