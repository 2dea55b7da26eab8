/**
 * Writes parts of at most so many bytes, numbered from 1, each synced and with its SHA-256.
 * Owns the file that is open: close it with `using`.
 */
import { createHash, type Hash } from 'node:crypto';
import fs from 'node:fs';
import type { BundlePart } from './bundle-manifest.js';

export class PartWriter {
  readonly #fileOf: (number: number) => string;
  readonly #partBytes: number;
  readonly #finished: BundlePart[] = [];
  #open: { readonly descriptor: number; readonly hash: Hash; bytes: number } | null = null;

  constructor(fileOf: (number: number) => string, partBytes: number) {
    this.#fileOf = fileOf;
    this.#partBytes = partBytes;
  }

  /** Bytes that the open part still takes; where none is open, a whole part. */
  get room(): number {
    return this.#partBytes - (this.#open?.bytes ?? 0);
  }

  /** At most `room` bytes. */
  append(bytes: Uint8Array): void {
    this.#open ??= {
      descriptor: fs.openSync(this.#fileOf(this.#finished.length + 1), 'wx'),
      hash: createHash('sha256'),
      bytes: 0,
    };
    for (let done = 0; done < bytes.length; ) done += fs.writeSync(this.#open.descriptor, bytes, done);
    this.#open.hash.update(bytes);
    this.#open.bytes += bytes.length;
  }

  /** Ends the open part; the next bytes begin another. */
  endPart(): void {
    if (this.#open === null) return;
    const { descriptor, hash, bytes } = this.#open;
    fs.fsyncSync(descriptor);
    fs.closeSync(descriptor);
    this.#open = null;
    this.#finished.push({ bytes, sha256: hash.digest('hex') });
  }

  /** Ends the last part; all of them. */
  finish(): readonly BundlePart[] {
    this.endPart();
    return this.#finished;
  }

  [Symbol.dispose](): void {
    if (this.#open !== null) fs.closeSync(this.#open.descriptor);
    this.#open = null;
  }
}
