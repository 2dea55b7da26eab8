/**
 * A large file that comes into being whole: streamed under a temporary name, then synced and renamed.
 *
 * Idea: `using file = new TemporaryFile(path)`; without `commit` nothing is left, whatever was thrown between.
 * Must stay true: a reader never sees a part under the final name. What a killed process left is removed by the next writer of that file.
 */
import fs from 'node:fs';
import path from 'node:path';
import { DtrainError, ExitCode } from '../core/errors.js';
import { syncFolder } from '../core/files.js';

export class TemporaryFile implements Disposable {
  readonly #file: string;
  readonly #temporary: string;
  #descriptor: number | undefined;

  /** Creates the folder where it is missing. This and the other methods throw DTRAIN_STORAGE when the disk does not take it. */
  constructor(file: string) {
    this.#file = file;
    this.#temporary = `${file}.tmp-${process.pid}`;
    this.#storing(() => {
      fs.mkdirSync(path.dirname(file), { recursive: true });
      removeAbandoned(file);
      this.#descriptor = fs.openSync(this.#temporary, 'w');
    });
  }

  /** Appends all of `bytes`. */
  write(bytes: Uint8Array): void {
    this.#storing(() => {
      for (let at = 0; at < bytes.length; ) at += fs.writeSync(this.#descriptor!, bytes, at);
    });
  }

  /** The file is under its final name, durable. */
  commit(): void {
    this.#storing(() => {
      fs.fsyncSync(this.#descriptor!);
      this.#close();
      fs.renameSync(this.#temporary, this.#file);
      syncFolder(path.dirname(this.#file));
    });
  }

  [Symbol.dispose](): void {
    if (this.#descriptor === undefined) return;
    this.#close();
    fs.rmSync(this.#temporary, { force: true });
  }

  #close(): void {
    fs.closeSync(this.#descriptor!);
    this.#descriptor = undefined;
  }

  #storing(action: () => void): void {
    try {
      action();
    } catch (cause) {
      const { code = 'unknown error' } = cause as NodeJS.ErrnoException;
      const cure = 'Free space or make the folder writable, or set DTRAIN_HOME to another cache folder.';
      throw new DtrainError('DTRAIN_STORAGE', ExitCode.storage, `${this.#file}: cannot be written (${code}). ${cure}`, {
        cause,
      });
    }
  }
}

/** Deletes temporaries of `file` whose process no longer lives. */
function removeAbandoned(file: string): void {
  const prefix = `${path.basename(file)}.tmp-`;
  for (const name of fs.readdirSync(path.dirname(file))) {
    if (name.startsWith(prefix) && !isAlive(Number(name.slice(prefix.length)))) {
      fs.rmSync(path.join(path.dirname(file), name), { force: true });
    }
  }
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
