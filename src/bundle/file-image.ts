/**
 * Files one after the other as one long row of bytes, which can be read and written piece by piece, in any order.
 * Must stay true: nothing but the files' bytes is in the image, so sizes alone say where a byte of it lives.
 */
import fs from 'node:fs';
import path from 'node:path';

export interface ImageFile {
  /** Relative to the image's folder. */
  readonly path: string;
  readonly bytes: number;
}

/** One file's share of a piece of the image. */
interface Share {
  readonly file: number;
  /** Where in the file. */
  readonly at: number;
  /** Where in the piece. */
  readonly from: number;
  readonly bytes: number;
}

/** Owns the open files: close it with `using`. */
export class FileImage {
  readonly bytes: number;
  readonly #folder: string;
  readonly #files: readonly ImageFile[];
  readonly #flags: 'r' | 'r+';
  readonly #open = new Map<number, number>();

  /** `flags` r+: to write; the files are made where they are missing. */
  constructor(folder: string, files: readonly ImageFile[], flags: 'r' | 'r+') {
    this.#folder = folder;
    this.#files = files;
    this.#flags = flags;
    this.bytes = files.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  /** Bytes `start` to `end` (exclusive). Throws where a file is shorter than it should be. */
  read(start: number, end: number): Buffer {
    const piece = Buffer.allocUnsafe(end - start);
    for (const { file, at, from, bytes } of this.#shares(start, end)) {
      for (let done = 0; done < bytes; ) {
        const read = fs.readSync(this.#descriptor(file), piece, from + done, bytes - done, at + done);
        if (read === 0) throw new Error(`${this.#files[file]!.path} ends too early`);
        done += read;
      }
    }
    return piece;
  }

  write(start: number, piece: Uint8Array): void {
    for (const { file, at, from, bytes } of this.#shares(start, start + piece.length)) {
      for (let done = 0; done < bytes; )
        done += fs.writeSync(this.#descriptor(file), piece, from + done, bytes - done, at + done);
    }
  }

  /** Makes what was written durable. */
  sync(): void {
    for (const descriptor of this.#open.values()) fs.fsyncSync(descriptor);
  }

  [Symbol.dispose](): void {
    for (const descriptor of this.#open.values()) fs.closeSync(descriptor);
    this.#open.clear();
  }

  *#shares(start: number, end: number): Generator<Share> {
    let begins = 0;
    for (const [file, { bytes }] of this.#files.entries()) {
      const [first, last] = [Math.max(start, begins), Math.min(end, begins + bytes)];
      if (first < last) yield { file, at: first - begins, from: first - start, bytes: last - first };
      begins += bytes;
    }
  }

  #descriptor(file: number): number {
    const known = this.#open.get(file);
    if (known !== undefined) return known;
    const name = path.join(this.#folder, this.#files[file]!.path);
    const isNew = this.#flags === 'r+' && !fs.existsSync(name);
    if (isNew) fs.mkdirSync(path.dirname(name), { recursive: true });
    const descriptor = fs.openSync(name, isNew ? 'w+' : this.#flags);
    this.#open.set(file, descriptor);
    return descriptor;
  }
}
