/**
 * The lock of a run folder: one engine at a time writes there.
 *
 *   RUN/lock    held by flock, which ends with its process however that ends; says who holds it
 *
 * Must stay true: who holds the lock holds it on the file that has the name; a lock that was removed under a holder is lost, and a save
 * looks (save-checkpoint.ts). The file is removed before the lock is given back.
 */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { nowSeconds } from '../core/clock.js';
import { DtrainError, ExitCode } from '../core/errors.js';
import { storageError } from '../core/files.js';
import { lockDescriptor } from '../tensorflow/c-api.js';
import type { LockToken } from '../train/save-checkpoint.js';

const POLL_MILLISECONDS = 100;

export class RunLock implements Disposable {
  readonly token: LockToken;
  readonly #descriptor: number;

  /**
   * Takes the lock of `folder`, waiting at most so long for another to give it back.
   * @throws DTRAIN_RUN_IN_USE, DTRAIN_STORAGE (exit 7).
   */
  static async take(folder: string, waitSeconds: number): Promise<RunLock> {
    const file = path.join(folder, 'lock');
    const deadline = nowSeconds() + waitSeconds;
    for (;;) {
      const descriptor = tryLock(file);
      if (descriptor !== undefined) return new RunLock(file, descriptor);
      if (nowSeconds() >= deadline) throw inUse(folder, file);
      await delay(POLL_MILLISECONDS);
    }
  }

  private constructor(file: string, descriptor: number) {
    this.#descriptor = descriptor;
    this.token = { file, inode: fs.fstatSync(descriptor).ino };
    const owner = { pid: process.pid, host: os.hostname(), since: new Date().toISOString() };
    fs.ftruncateSync(descriptor);
    fs.writeSync(descriptor, `${JSON.stringify(owner)}\n`, 0);
  }

  [Symbol.dispose](): void {
    if (inodeOf(this.token.file) === this.token.inode) fs.rmSync(this.token.file, { force: true });
    fs.closeSync(this.#descriptor);
  }
}

/** The locked descriptor; undefined where another holds the lock. */
function tryLock(file: string): number | undefined {
  for (;;) {
    const descriptor = openLockFile(file);
    if (!lockDescriptor(descriptor)) {
      fs.closeSync(descriptor);
      return undefined;
    }
    if (inodeOf(file) === fs.fstatSync(descriptor).ino) return descriptor;
    fs.closeSync(descriptor); // its last holder removed it meanwhile
  }
}

function openLockFile(file: string): number {
  try {
    return fs.openSync(file, fs.constants.O_RDWR | fs.constants.O_CREAT, 0o644);
  } catch (cause) {
    throw storageError(file, cause);
  }
}

function inodeOf(file: string): number | undefined {
  return fs.statSync(file, { throwIfNoEntry: false })?.ino;
}

function inUse(folder: string, file: string): DtrainError {
  const text =
    `${folder}: expected a folder that no run is using, got one in use by ${holderText(file)}. ` +
    'Wait for it, stop it, or choose another folder with --run-dir.';
  return new DtrainError('DTRAIN_RUN_IN_USE', ExitCode.storage, text);
}

/** `process 123 on host-1 since 2026-01-01T00:00:00.000Z` */
function holderText(file: string): string {
  try {
    const { pid, host, since } = JSON.parse(fs.readFileSync(file, 'utf8')) as Record<string, unknown>;
    return `process ${String(pid)} on ${String(host)} since ${String(since)}`;
  } catch {
    return 'another process';
  }
}
