/**
 * Decompression of .xz files: the door to @napi-rs/lzma.
 *
 * Idea: the index at the end of an .xz file says how large it unpacks to, so a bomb is refused before it goes off.
 * Source: the .xz file format, version 1.2.1, sections 2.1.2 (footer) and 4 (index).
 */
import { xz } from '@napi-rs/lzma';

const FOOTER_BYTES = 12;
const HEADER_BYTES = 12;

/** The unpacked bytes of one .xz stream, on libuv's pool. Throws what the library throws. */
export function decompressXz(bytes: Uint8Array): Promise<Uint8Array> {
  return xz.decompress(bytes);
}

/** The unpacked size in bytes that the index declares; undefined where the file does not end with an index and a footer. */
export function declaredXzSize(bytes: Uint8Array): number | undefined {
  if (bytes.length < HEADER_BYTES + FOOTER_BYTES) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const footer = bytes.length - FOOTER_BYTES;
  if (bytes[footer + 10] !== 0x59 || bytes[footer + 11] !== 0x5a) return undefined; // "YZ"
  const start = footer - (view.getUint32(footer + 4, true) + 1) * 4;
  if (start < HEADER_BYTES || bytes[start] !== 0) return undefined;
  const integers = variableIntegers(bytes.subarray(start + 1, footer));
  const records = integers.next().value ?? 0;
  let total = 0;
  for (let record = 0; record < records; record++) {
    const packed = integers.next().value;
    const unpacked = integers.next().value;
    if (packed === undefined || unpacked === undefined) return undefined;
    total += unpacked;
  }
  return total;
}

/** Little-endian groups of seven bits, the high bit set on all but the last byte. */
function* variableIntegers(bytes: Uint8Array): Generator<number, undefined, void> {
  let value = 0;
  let scale = 1;
  for (const byte of bytes) {
    value += (byte & 0x7f) * scale;
    scale *= 128;
    if (byte & 0x80) continue;
    yield value;
    value = 0;
    scale = 1;
  }
  return undefined;
}
