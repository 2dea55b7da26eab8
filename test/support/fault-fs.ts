/**
 * A file system that fails on purpose at its n-th changing call: with an error once, or dying there (every later call fails too, so that
 * nothing is cleaned up), or after writing only part of the bytes.
 */
import { type Fs, realFs } from '../../src/core/file-system.js';

export interface PlannedFault {
  /** Counts changing calls from 0. */
  readonly at: number;
  /** An error code, or `died`. */
  readonly how: 'ENOSPC' | 'EIO' | 'EROFS' | 'died';
  /** Of a write: so many bytes are taken before it dies. */
  readonly bytes?: number;
}

const CHANGING = ['makeFolder', 'create', 'open', 'write', 'sync', 'close', 'rename', 'link', 'remove'] as const;
const isChanging = (name: string) => (CHANGING as readonly string[]).includes(name);

export class FaultFs {
  /** Changing calls so far, by name. */
  readonly calls: string[] = [];
  readonly fs: Fs;

  constructor(fault: PlannedFault | null) {
    let isDead = false;
    const fail = (code: string) => Object.assign(new Error(code), { code });
    const call = (name: keyof Fs, ...words: unknown[]): unknown => {
      if (isDead) throw fail('EIO');
      const real = realFs[name] as (...args: unknown[]) => unknown;
      if (!isChanging(name)) return real(...words);
      const n = this.calls.push(name) - 1;
      if (n !== fault?.at) return real(...words);
      if (fault.how !== 'died') throw fail(fault.how);
      isDead = true;
      if (name === 'write' && fault.bytes)
        realFs.write(words[0] as number, (words[1] as Uint8Array).subarray(0, fault.bytes));
      throw fail('EIO');
    };
    this.fs = Object.fromEntries(
      (Object.keys(realFs) as (keyof Fs)[]).map((name) => [name, (...words: unknown[]) => call(name, ...words)]),
    ) as unknown as Fs;
  }
}
