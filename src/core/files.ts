/**
 * Files that are whole or not there: written under a temporary name, synced, renamed, and the folder synced.
 * Must stay true: a reader never sees a half-written file under its final name, whatever happens to this process.
 */
import fs from 'node:fs';
import path from 'node:path';
import { DtrainError, ExitCode } from './errors.js';

/** Replaces `file` by `bytes` in one step. Throws DTRAIN_STORAGE when the disk does not take it. */
export function writeFileAtomic(file: string, bytes: string | Uint8Array): void {
  const temporary = `${file}.tmp-${process.pid}`;
  try {
    const descriptor = fs.openSync(temporary, 'w');
    try {
      fs.writeFileSync(descriptor, bytes);
      fs.fsyncSync(descriptor);
    } finally {
      fs.closeSync(descriptor);
    }
    fs.renameSync(temporary, file);
    syncFolder(path.dirname(file));
  } catch (cause) {
    fs.rmSync(temporary, { force: true });
    throw storageError(file, cause);
  }
}

/** Makes renames and new entries of `folder` durable. */
export function syncFolder(folder: string): void {
  const descriptor = fs.openSync(folder, 'r');
  try {
    fs.fsyncSync(descriptor);
  } finally {
    fs.closeSync(descriptor);
  }
}

/** An error of the file system as DTRAIN_STORAGE, with the cure for the common ones. */
export function storageError(file: string, cause: unknown): DtrainError {
  const { code = 'unknown error' } = cause as NodeJS.ErrnoException;
  const cures: Record<string, string> = {
    ENOSPC: 'The disk is full: free space, or choose another folder with --run-dir.',
    EROFS: 'The file system is read-only: choose another folder with --run-dir.',
    EACCES: 'Permission denied: make the folder writable, or choose another with --run-dir.',
    EPERM: 'Not permitted: make the folder writable, or choose another with --run-dir.',
  };
  const cure = cures[code] ?? 'Check the disk, or choose another folder with --run-dir.';
  return new DtrainError('DTRAIN_STORAGE', ExitCode.storage, `${file}: cannot be written (${code}). ${cure}`, {
    cause,
  });
}
