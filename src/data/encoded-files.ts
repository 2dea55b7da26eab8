/**
 * The encoded images of a split in shared memory, so that any thread can read number i: paths of files, or the files themselves where they
 * came out of an archive.
 *
 * Idea: strings and files are pieces of one array each, with the end of every piece beside it; a million paths are no million objects in
 * each thread.
 * Must stay true: plain data over shared memory, never written once it is made.
 */
import fs from 'node:fs';
import { DtrainError, ExitCode } from '../core/errors.js';
import { dataError, digits, firstLine } from './data-error.js';
import type { EncodedImage, Scaling } from './decode-images.js';

export interface EncodedFiles {
  /** Paths, or where the files came from, for messages. */
  readonly names: SharedPieces;
  /** Null: the names are paths of files on disk. */
  readonly contents: SharedPieces | null;
  /** How they become images of one size; null: they have it. */
  readonly scaling: Scaling | null;
}

export interface SharedPieces {
  readonly bytes: Uint8Array<SharedArrayBuffer>;
  /** Of each piece; the next one begins there. */
  readonly ends: Float64Array<SharedArrayBuffer>;
}

const MAX_BYTES = 2 ** 32;

/**
 * `isOnDisk`: each image is the file of its name, which is read when it is needed.
 * Throws DTRAIN_DATA_LIMIT, DTRAIN_OUT_OF_MEMORY for an archive whose files do not fit into memory, naming it as `where`.
 */
export function encodedFiles(
  where: string,
  images: readonly EncodedImage[],
  isOnDisk: boolean,
  scaling: Scaling | null,
): EncodedFiles {
  const encoder = new TextEncoder();
  const names = sharedPieces(
    where,
    images.map(({ name }) => encoder.encode(name)),
  );
  const contents = isOnDisk
    ? null
    : sharedPieces(
        where,
        images.map((image) => image.read()),
      );
  return { names, contents, scaling };
}

/** Image number `id`. Any thread. */
export function encodedImage({ names, contents }: EncodedFiles, id: number): EncodedImage {
  const name = Buffer.from(pieceOf(names, id)).toString(); // a copy: TextDecoder refuses shared memory
  return { name, read: () => (contents ? pieceOf(contents, id).slice() : readImageFile(name)) };
}

/** Throws DTRAIN_DATA_PATH. */
export function readImageFile(file: string): Uint8Array {
  try {
    return fs.readFileSync(file);
  } catch (cause) {
    throw dataError('DTRAIN_DATA_PATH', `${file}: cannot be read (${firstLine(cause)}). Replace or remove it.`, cause);
  }
}

function sharedPieces(where: string, pieces: readonly Uint8Array[]): SharedPieces {
  const total = pieces.reduce((sum, { length }) => sum + length, 0);
  const size = `${digits(pieces.length)} packed images take ${digits(total)} bytes`;
  if (total > MAX_BYTES) {
    const cure = 'Unpack them into an image folder (train/CLASS/*, test/CLASS/*).';
    throw dataError('DTRAIN_DATA_LIMIT', `${where}: ${size}: expected at most ${digits(MAX_BYTES)}. ${cure}`);
  }
  try {
    const bytes = new Uint8Array(new SharedArrayBuffer(total));
    const ends = new Float64Array(new SharedArrayBuffer(8 * pieces.length));
    let at = 0;
    for (const [i, piece] of pieces.entries()) {
      bytes.set(piece, at);
      at += piece.length;
      ends[i] = at;
    }
    return { bytes, ends };
  } catch (cause) {
    const message = `${where}: ${size}: the machine does not have them. Free memory, or unpack them into an image folder.`;
    throw new DtrainError('DTRAIN_OUT_OF_MEMORY', ExitCode.outOfMemory, message, { cause });
  }
}

function pieceOf({ bytes, ends }: SharedPieces, id: number): Uint8Array<SharedArrayBuffer> {
  return bytes.subarray(id === 0 ? 0 : ends[id - 1]!, ends[id]!);
}
