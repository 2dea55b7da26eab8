/**
 * Files out of a tar archive, plain or packed by gzip or xz: the door to modern-tar.
 *
 * Idea: the archive is streamed and its members are kept in memory, never written anywhere, so that a name in it can do no harm.
 * Must stay true: a link, a path that leaves the archive, an archive that ends early, goes on too long or unpacks to too much is refused.
 */
import fs from 'node:fs';
import { createGunzip } from 'node:zlib';
import { createTarDecoder, type ParsedTarEntry } from 'modern-tar';
import { DtrainError } from '../core/errors.js';
import { type DataErrorCode, dataError, digits, firstLine } from './data-error.js';
import { declaredXzSize, decompressXz } from './xz.js';

export interface ArchiveMember {
  /** Relative, with `/` between its parts, none of them empty, `.` or `..`. */
  readonly path: string;
  readonly bytes: Uint8Array;
}

/** Caps against archives that were made to harm; a data set that fits into memory stays far below. */
export const ARCHIVE_LIMITS = {
  members: 2_000_000,
  memberBytes: 256 * 2 ** 20,
  unpackedBytes: 2 ** 32,
  /** Unpacked to packed bytes; images hardly pack at all. Checked above `ratioFromBytes`, which the official archive does not reach. */
  ratio: 250,
  ratioFromBytes: 256 * 2 ** 20,
} as const;

/**
 * The regular files of the archive `file` that `wants` wants, in their order. `wants` may throw. Memory: the wanted files, and for
 * xz the whole unpacked archive. `cure` ends the message of whatever is wrong with the archive.
 */
export async function readArchive(
  file: string,
  wants: (path: string, bytes: number) => boolean,
  cure: string,
): Promise<ArchiveMember[]> {
  const wanted: ArchiveMember[] = [];
  try {
    const entries = ReadableStream.from(unpackedBytes(file)).pipeThrough(createTarDecoder({ strict: true }));
    let members = 0;
    for await (const entry of entries) {
      members += 1;
      if (members > ARCHIVE_LIMITS.members) throw beyond(file, 'members', ARCHIVE_LIMITS.members);
      const member = checkedPath(file, entry);
      if (entry.header.type === 'file' && wants(member, entry.header.size)) {
        if (entry.header.size > ARCHIVE_LIMITS.memberBytes) {
          throw beyond(`${file}:${member}`, 'bytes', ARCHIVE_LIMITS.memberBytes);
        }
        wanted.push({ path: member, bytes: await collect(entry) });
      } else {
        await entry.body.cancel();
      }
    }
  } catch (error) {
    throw explained(file, error, cure);
  }
  return wanted;
}

/** Refuses everything but files and folders inside the archive. */
function checkedPath(file: string, { header }: ParsedTarEntry): string {
  const { name, type = 'file' } = header;
  const where = `${file}: member "${name}"`;
  const cure = 'Pack the data set anew, with plain files and folders only.';
  if (type !== 'file' && type !== 'directory') {
    throw dataError('DTRAIN_DATA_LAYOUT', `${where}: expected a file or a folder, got a ${type}. ${cure}`);
  }
  if (name.startsWith('/') || name.split('/').includes('..')) {
    throw dataError('DTRAIN_DATA_LAYOUT', `${where}: expected a path inside the archive. ${cure}`);
  }
  return name
    .split('/')
    .filter((part) => part !== '' && part !== '.')
    .join('/');
}

async function collect({ header, body }: ParsedTarEntry): Promise<Uint8Array> {
  const bytes = new Uint8Array(header.size);
  let at = 0;
  for await (const chunk of body) {
    bytes.set(chunk, at);
    at += chunk.length;
  }
  return bytes;
}

/** The bytes of the tar inside `file`, by what the file begins with and not by its name. */
async function* unpackedBytes(file: string): AsyncGenerator<Uint8Array, void, void> {
  const packedBytes = fs.statSync(file).size;
  const packed = packingOf(file);
  const chunks =
    packed === 'xz' ? unxz(file) : packed === 'gzip' ? gunzip(file, packedBytes) : fs.createReadStream(file);
  let unpacked = 0;
  for await (const chunk of chunks) {
    unpacked += chunk.length;
    checkUnpackedSize(file, unpacked, packedBytes);
    yield chunk;
  }
}

function packingOf(file: string): 'gzip' | 'xz' | 'none' {
  const start = Buffer.alloc(6);
  const descriptor = fs.openSync(file, 'r');
  try {
    fs.readSync(descriptor, start, 0, start.length, 0);
  } finally {
    fs.closeSync(descriptor);
  }
  if (start.toString('hex') === 'fd377a585a00') return 'xz';
  return start.toString('hex', 0, 2) === '1f8b' ? 'gzip' : 'none';
}

async function* gunzip(file: string, packedBytes: number): AsyncGenerator<Uint8Array, void, void> {
  const source = fs.createReadStream(file, { highWaterMark: CHUNK_BYTES });
  const unzip = createGunzip({ chunkSize: CHUNK_BYTES });
  source.once('error', (error) => unzip.destroy(error));
  try {
    yield* source.pipe(unzip);
  } finally {
    source.destroy();
  }
  if (unzip.bytesWritten < packedBytes) {
    const sizes = `expected its end after ${digits(unzip.bytesWritten)} bytes, got ${digits(packedBytes)}`;
    throw new ArchiveFault('DTRAIN_DATA_TOO_LONG', sizes);
  }
}

/** The library unpacks in one piece, so the size is checked before. */
async function* unxz(file: string): AsyncGenerator<Uint8Array, void, void> {
  const packed = fs.readFileSync(file);
  const declared = declaredXzSize(packed);
  if (declared === undefined) throw new Error(XZ_ENDS_EARLY);
  checkUnpackedSize(file, declared, packed.length);
  const bytes = await decompressXz(packed);
  for (let at = 0; at < bytes.length; at += CHUNK_BYTES) yield bytes.subarray(at, at + CHUNK_BYTES);
}

const CHUNK_BYTES = 2 ** 18;

function checkUnpackedSize(file: string, unpacked: number, packed: number): void {
  const { unpackedBytes, ratio, ratioFromBytes } = ARCHIVE_LIMITS;
  if (unpacked > unpackedBytes) throw beyond(file, 'unpacked bytes', unpackedBytes);
  if (unpacked > ratioFromBytes && unpacked > ratio * packed) {
    throw beyond(file, `times its ${digits(packed)} bytes when unpacked`, ratio);
  }
}

function beyond(where: string, what: string, limit: number): DtrainError {
  const cure = 'Unpack it yourself and give the folder, if you trust it.';
  return dataError('DTRAIN_DATA_LIMIT', `${where}: expected at most ${digits(limit)} ${what}, got more. ${cure}`);
}

/** A fault of the archive found here and not by a library; gets file and cure where it is explained. */
class ArchiveFault extends Error {
  readonly code: DataErrorCode;
  constructor(code: DataErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}

/** What the three libraries say when an archive just stops. */
const XZ_ENDS_EARLY = 'io error: failed to fill whole buffer';
const ENDS_EARLY = ['unexpected end of file', 'Tar archive is truncated.', XZ_ENDS_EARLY];

/** Any error while reading the archive, as a message for people. */
function explained(file: string, error: unknown, cure: string): Error {
  if (error instanceof DtrainError) return error;
  if (error instanceof ArchiveFault) return dataError(error.code, `${file}: archive: ${error.message}. ${cure}`, error);
  if (ENDS_EARLY.includes((error as Error).message)) {
    const got = `it stops after ${digits(fs.statSync(file).size)} bytes`;
    return dataError('DTRAIN_DATA_TRUNCATED', `${file}: archive: expected its end, ${got}. ${cure}`, error);
  }
  if (isSystemError(error)) {
    return dataError('DTRAIN_DATA_PATH', `${file}: cannot be read (${firstLine(error)}). ${cure}`, error);
  }
  const expected = 'expected a sound .tar, .tar.gz or .tar.xz';
  return dataError('DTRAIN_DATA_CORRUPT', `${file}: ${expected}, got "${firstLine(error)}". ${cure}`, error);
}

function isSystemError(error: unknown): boolean {
  return error instanceof Error && 'syscall' in error;
}
