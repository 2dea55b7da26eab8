/**
 * Many JPEG files as one image: a TIFF whose strip number i is file number i, so that all are decoded by one call.
 *
 * Idea: a call to libvips costs ten times as much as the decoding of 32x32 pixels. TIFF can hold complete JPEG files as strips (TIFF
 * Technical Note 2, 1995), and the strips of an image from top to bottom are the bytes of its images in NHWC.
 * Must stay true: the strips are the files, byte for byte; all files have the size and sampling given.
 *
 *   header | directory: 11 entries | bits 8,8,8 | offsets of strips | lengths of strips | file 0 | file 1 | ...
 */
import type { JpegSampling } from './image-header.js';

const TYPE_SHORT = 3;
const TYPE_LONG = 4;
const COMPRESSION_JPEG = 7;
const PHOTOMETRIC_GREY = 1;
const PHOTOMETRIC_YCBCR = 6;
const HEADER_BYTES = 8;
const ENTRY_BYTES = 12;

/** A little-endian TIFF (revision 6.0, section 2) of `files.length` times `height` rows. */
export function stackJpegs(
  files: readonly Uint8Array[],
  { height, width }: { readonly height: number; readonly width: number },
  { components, horizontal, vertical }: JpegSampling,
): Uint8Array {
  const count = files.length;
  const entryCount = 11;
  const bitsAt = HEADER_BYTES + 2 + entryCount * ENTRY_BYTES + 4;
  const offsetsAt = bitsAt + 8;
  const lengthsAt = offsetsAt + 4 * count;
  const filesAt = lengthsAt + 4 * count;
  // One strip's offset or length stands in the entry itself, as any value of up to four bytes does.
  const inPlaceOr = (value: number, at: number) => (count === 1 ? value : at);
  const entries: readonly (readonly [tag: number, type: number, count: number, value: number])[] = [
    [256, TYPE_LONG, 1, width],
    [257, TYPE_LONG, 1, height * count],
    [258, TYPE_SHORT, components, components === 1 ? 8 : bitsAt], // bits per sample
    [259, TYPE_SHORT, 1, COMPRESSION_JPEG],
    [262, TYPE_SHORT, 1, components === 1 ? PHOTOMETRIC_GREY : PHOTOMETRIC_YCBCR],
    [273, TYPE_LONG, count, inPlaceOr(filesAt, offsetsAt)],
    [277, TYPE_SHORT, 1, components],
    [278, TYPE_LONG, 1, height], // rows per strip
    [279, TYPE_LONG, count, inPlaceOr(files[0]!.length, lengthsAt)],
    [284, TYPE_SHORT, 1, 1], // samples interleaved
    [530, TYPE_SHORT, 2, horizontal | (vertical << 16)], // chroma subsampling
  ];
  const bytes = new Uint8Array(filesAt + files.reduce((total, file) => total + file.length, 0));
  const view = new DataView(bytes.buffer);
  view.setUint32(0, 0x002a4949, true); // "II", 42
  view.setUint32(4, HEADER_BYTES, true);
  view.setUint16(HEADER_BYTES, entryCount, true);
  entries.forEach(([tag, type, number, value], index) => {
    const at = HEADER_BYTES + 2 + index * ENTRY_BYTES;
    view.setUint16(at, tag, true);
    view.setUint16(at + 2, type, true);
    view.setUint32(at + 4, number, true);
    view.setUint32(at + 8, value, true);
  });
  for (let c = 0; c < 3; c++) view.setUint16(bitsAt + 2 * c, 8, true);
  let at = filesAt;
  files.forEach((file, index) => {
    view.setUint32(offsetsAt + 4 * index, at, true);
    view.setUint32(lengthsAt + 4 * index, file.length, true);
    bytes.set(file, at);
    at += file.length;
  });
  return bytes;
}
