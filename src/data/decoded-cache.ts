/**
 * The decoded set on disk: one file that is read straight into shared memory.
 *
 *   "dtrain" 00 01 | length of the JSON | SHA-256 of the JSON | JSON | train images | train labels | test images | test labels
 *   8 bytes          4, little-endian     32 bytes                      uint8 NHWC     int32, little-endian
 *
 * Idea: the JSON says of which source the file was made, and the fingerprint of the rest; so two checksums cover every byte.
 * Must stay true: a file that is of another source, damaged or of another version is never used.
 */
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { DtrainError } from '../core/errors.js';
import { digits } from './data-error.js';
import {
  allocateImageSet,
  type DecodedSet,
  extentOf,
  type Measured,
  outlineOf,
  pixelBytes,
  type SetOutline,
  sectionsOf,
} from './data-set.js';
import { TemporaryFile } from './temporary-file.js';

/** A decoded set with what was measured on it. */
export interface CachedSet extends DecodedSet, Measured {}

/** The same without the pixels: all that is kept of a set that is streamed. */
export interface CachedFacts extends SetOutline, Measured {}

const MAGIC = Buffer.from('dtrain\0\x01', 'latin1');
const LENGTH_BYTES = 4;
const DIGEST_BYTES = 32;
const PREFIX_BYTES = MAGIC.length + LENGTH_BYTES + DIGEST_BYTES;
/** Class names take most of it. */
const MAX_HEADER_BYTES = 2 ** 24;

interface Header extends CachedFacts {
  readonly identity: string;
}

/** One file for each source path; what the source looks like now is in the file. */
export function cacheFileOf(sourcePath: string, cacheFolder: string): string {
  const absolute = path.resolve(sourcePath);
  const key = createHash('sha256').update(absolute).digest('hex').slice(0, 12);
  return path.join(cacheFolder, 'decoded', `${path.basename(absolute)}-${key}.bin`);
}

/** The set in `file` if it was made of a source of this identity and is sound. Says so when the file is damaged. */
export function readCachedSet(file: string, identity: string, say: (line: string) => void): CachedSet | undefined {
  if (!fs.existsSync(file)) return undefined;
  try {
    return readSound(file, identity);
  } catch (error) {
    if (error instanceof DtrainError) throw error;
    say(`${file}: the cached data set is damaged (${(error as Error).message}); it is made again`);
    return undefined;
  }
}

/** Beside the decoded set, or in its place: a file that ends with the JSON. */
export function factsFileOf(cacheFile: string): string {
  return cacheFile.replace(/\.bin$/, '.facts');
}

/** What `file`, with or without pixels, says of the set; undefined where it is missing, damaged or of another source. */
export function readCachedFacts(file: string, identity: string): CachedFacts | undefined {
  if (!fs.existsSync(file)) return undefined;
  try {
    const descriptor = fs.openSync(file, 'r');
    try {
      const { header } = readHeader(descriptor);
      return header.identity === identity ? header : undefined;
    } finally {
      fs.closeSync(descriptor);
    }
  } catch {
    return undefined; // who needs it reads the source again
  }
}

function readSound(file: string, identity: string): CachedSet | undefined {
  const descriptor = fs.openSync(file, 'r');
  try {
    const { header, bytes } = readHeader(descriptor);
    if (header.identity !== identity) return undefined;
    const { classes, normalization, fingerprint } = header;
    const length = bytes + setBytes(header.train) + setBytes(header.test);
    const got = fs.fstatSync(descriptor).size;
    if (got !== length) throw new Error(`expected ${digits(length)} bytes, got ${digits(got)}`);
    const set = { classes, train: allocateImageSet(header.train), test: allocateImageSet(header.test) };
    const hash = createHash('sha256').update(outlineOf(set));
    let position = bytes;
    for (const section of sectionsOf(set)) {
      readHashed(descriptor, section, position, hash);
      position += section.length;
    }
    if (hash.digest('hex') !== fingerprint) throw new Error('checksum differs');
    return { ...set, normalization, fingerprint };
  } finally {
    fs.closeSync(descriptor);
  }
}

function readHeader(descriptor: number): { header: Header; bytes: number } {
  const prefix = Buffer.alloc(PREFIX_BYTES);
  readFully(descriptor, prefix, 0);
  const length = prefix.readUInt32LE(MAGIC.length);
  const isOurs = prefix.subarray(0, MAGIC.length).equals(MAGIC) && length <= MAX_HEADER_BYTES;
  if (!isOurs) throw new Error('it is of another kind or version');
  const json = Buffer.alloc(length);
  readFully(descriptor, json, PREFIX_BYTES);
  if (!digestOf(json).equals(prefix.subarray(MAGIC.length + LENGTH_BYTES))) throw new Error('checksum differs');
  return { header: JSON.parse(json.toString()) as Header, bytes: PREFIX_BYTES + length };
}

function digestOf(bytes: Uint8Array): Buffer {
  return createHash('sha256').update(bytes).digest();
}

function setBytes(extent: SetOutline['train']): number {
  return pixelBytes(extent) + extent.count * 4;
}

/** Small enough to be still in the processor's cache when it is hashed. */
const PIECE_BYTES = 2 ** 20;

function readHashed(descriptor: number, into: Uint8Array, position: number, hash: ReturnType<typeof createHash>): void {
  for (let at = 0; at < into.length; at += PIECE_BYTES) {
    const piece = into.subarray(at, at + PIECE_BYTES);
    readFully(descriptor, piece, position + at);
    hash.update(piece);
  }
}

function readFully(descriptor: number, into: Uint8Array, position: number): void {
  for (let at = 0; at < into.length; ) {
    const length = fs.readSync(descriptor, into, at, into.length - at, position + at);
    if (length === 0) throw new Error('it ends early');
    at += length;
  }
}

/** Throws DTRAIN_STORAGE when the disk does not take it. */
export function writeCachedSet(file: string, identity: string, set: CachedSet): void {
  write(file, [...headerOf(identity, set), ...sectionsOf(set)]);
}

/** Throws DTRAIN_STORAGE when the disk does not take it. */
export function writeCachedFacts(file: string, identity: string, facts: CachedFacts): void {
  write(file, headerOf(identity, facts));
}

/** A cache that cannot be written costs time in the next run and nothing else. */
export function keepCached(say: (line: string) => void, write: () => void): void {
  try {
    write();
  } catch (error) {
    if (!(error instanceof DtrainError)) throw error;
    say(`the decoded data set is not kept: ${error.message}`);
  }
}

function headerOf(identity: string, { classes, train, test, normalization, fingerprint }: CachedFacts): Uint8Array[] {
  const extents = { train: extentOf(train), test: extentOf(test) };
  const header: Header = { identity, classes, ...extents, normalization, fingerprint };
  const json = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(LENGTH_BYTES);
  length.writeUInt32LE(json.length);
  return [MAGIC, length, digestOf(json), json];
}

function write(file: string, parts: readonly Uint8Array[]): void {
  using temporary = new TemporaryFile(file);
  for (const part of parts) temporary.write(part);
  temporary.commit();
}
