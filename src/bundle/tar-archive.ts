/**
 * A tar archive, of regular files only, as any tar unpacks it. The same files give the same bytes: no time, no user.
 * Source: POSIX.1-1988 ustar header (pax, IEEE Std 1003.1-2017, "ustar Interchange Format").
 */
import fs from 'node:fs';
import { internalError } from '../core/errors.js';
import type { ProgramFile } from './program-files.js';

const BLOCK = 512;
const CHUNK_BYTES = 2 ** 20;

export function* tarArchive(files: readonly ProgramFile[]): Generator<Uint8Array> {
  for (const { path, source, isExecutable } of files) {
    const descriptor = fs.openSync(source, 'r');
    try {
      const { size } = fs.fstatSync(descriptor);
      yield header(path, size, isExecutable ? 0o755 : 0o644);
      for (let at = 0; at < size; ) {
        const chunk = Buffer.allocUnsafe(Math.min(CHUNK_BYTES, size - at));
        const read = fs.readSync(descriptor, chunk, 0, chunk.length, at);
        if (read === 0) throw internalError(`${source} became shorter while it was read`);
        yield chunk.subarray(0, read);
        at += read;
      }
      yield Buffer.alloc((BLOCK - (size % BLOCK)) % BLOCK);
    } finally {
      fs.closeSync(descriptor);
    }
  }
  yield Buffer.alloc(2 * BLOCK);
}

function header(path: string, size: number, mode: number): Buffer {
  const block = Buffer.alloc(BLOCK);
  const [prefix, name] = splitName(path);
  const octal = (value: number, width: number, at: number) =>
    block.write(`${value.toString(8).padStart(width - 1, '0')}\0`, at, 'latin1');
  block.write(name, 0);
  octal(mode, 8, 100);
  octal(0, 8, 108); // user
  octal(0, 8, 116); // group
  octal(size, 12, 124);
  octal(0, 12, 136); // time
  block.write('        0', 148); // the sum as eight spaces while it is taken; a regular file
  block.write('ustar\x0000', 257, 'latin1');
  block.write(prefix, 345);
  octal(
    block.reduce((sum, byte) => sum + byte, 0),
    7,
    148,
  );
  return block;
}

/** A path of more than 100 bytes is cut at a stroke, 155 bytes before it. */
function splitName(path: string): readonly [prefix: string, name: string] {
  if (Buffer.byteLength(path) <= 100) return ['', path];
  for (let at = path.indexOf('/'); at !== -1; at = path.indexOf('/', at + 1)) {
    const [prefix, name] = [path.slice(0, at), path.slice(at + 1)];
    if (Buffer.byteLength(prefix) <= 155 && Buffer.byteLength(name) <= 100) return [prefix, name];
  }
  throw internalError(`${path} is too long for a tar archive`);
}
