/**
 * What a JPEG or PNG file says about itself before it is decoded: its size, and how a JPEG samples its colours.
 *
 * Idea: nothing reaches the decoder that is not one of the two formats, of eight bits a colour, and of an expected size.
 * Sources: ITU-T T.81 (JPEG), annex B; PNG specification, third edition, sections 5.2 and 11.2.1.
 */
import { dataError, digits } from './data-error.js';

export interface ImageHeader {
  readonly height: number;
  readonly width: number;
  /** Set for ordinary JPEGs, which may be decoded together with others of equal sampling. */
  readonly sampling: JpegSampling | null;
}

/** A baseline JPEG, grey (`components` 1) or YCbCr (3), with luma this many times as dense as chroma. */
export interface JpegSampling {
  readonly components: 1 | 3;
  readonly horizontal: number;
  readonly vertical: number;
}

/** A larger image is refused before it is decoded. */
export const MAX_IMAGE_SIDE = 4096;

/** The header of the image `name`. Throws DTRAIN_DATA_CORRUPT for what is not an 8-bit JPEG or PNG of 1 to 4096 pixels a side. */
export function readImageHeader(name: string, bytes: Uint8Array): ImageHeader {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const refuse = (expected: string, got: string, cure: string) =>
    dataError('DTRAIN_DATA_CORRUPT', `${name}: expected ${expected}, got ${got}. ${cure}`);
  const header = isPng(view) ? readPng(view) : isJpeg(view) ? readJpeg(view) : undefined;
  if (header === undefined) {
    const start = Buffer.from(bytes.subarray(0, 4)).toString('hex');
    const got = bytes.length === 0 ? 'an empty file' : `${digits(bytes.length)} bytes that begin with ${start}`;
    throw refuse('a JPEG or PNG image', got, REPLACE);
  }
  const { height, width, bits, components, sampling } = header;
  if (bits > 8) throw refuse('8 bits a colour', `${bits}`, 'Convert it to 8 bits.');
  if (components > 4 || (components === 4 && !isPng(view))) throw refuse('grey or RGB', 'CMYK', 'Convert it to RGB.');
  if (!(height >= 1 && width >= 1 && height <= MAX_IMAGE_SIDE && width <= MAX_IMAGE_SIDE)) {
    throw refuse(`1 to ${MAX_IMAGE_SIDE} pixels a side`, `${width}x${height}`, 'Scale it.');
  }
  return { height, width, sampling };
}

/** The cure for an image that is not one. */
export const REPLACE = 'Replace or remove it.';

interface Fields extends ImageHeader {
  /** Of one colour. */
  readonly bits: number;
  readonly components: number;
}

const PNG_SIGNATURE = [0x89504e47, 0x0d0a1a0a] as const;
/** The first chunk, IHDR, always ends within these. */
const PNG_HEADER_BYTES = 33;

function isPng(view: DataView): boolean {
  if (view.byteLength < PNG_HEADER_BYTES) return false;
  return view.getUint32(0) === PNG_SIGNATURE[0] && view.getUint32(4) === PNG_SIGNATURE[1];
}

function readPng(view: DataView): Fields {
  const [width, height, bits] = [view.getUint32(16), view.getUint32(20), view.getUint8(24)];
  return { height, width, bits, components: 3, sampling: null };
}

function isJpeg(view: DataView): boolean {
  return view.byteLength > 4 && view.getUint16(0) === 0xffd8;
}

const BASELINE = 0xc0;
const ADOBE = 0xee;

/** Walks the marker segments to the frame header. */
function readJpeg(view: DataView): Fields | undefined {
  let hasAdobeColours = false;
  for (let at = 2; at + 4 <= view.byteLength; ) {
    const marker = view.getUint8(at + 1);
    if (view.getUint8(at) !== 0xff) return undefined;
    if (marker === 0xff) {
      at += 1; // a fill byte
      continue;
    }
    const end = at + 2 + view.getUint16(at + 2);
    if (end > view.byteLength) return undefined;
    if (isFrameHeader(marker)) return readFrame(view, at, end, marker === BASELINE && !hasAdobeColours);
    hasAdobeColours ||= marker === ADOBE;
    at = end;
  }
  return undefined;
}

/** SOF0 to SOF15; 0xc4, 0xc8 and 0xcc mean other things. */
function isFrameHeader(marker: number): boolean {
  return marker >= 0xc0 && marker <= 0xcf && marker !== 0xc4 && marker !== 0xc8 && marker !== 0xcc;
}

/**
 *   at  +2      +4         +5      +7     +9          +10  +11        +12
 *   ff sof | length | precision | height | width | components | id | sampling | table | id | ...
 */
function readFrame(view: DataView, at: number, end: number, isOrdinary: boolean): Fields | undefined {
  if (end < at + 10) return undefined;
  const [bits, height, width, components] = [
    view.getUint8(at + 4),
    view.getUint16(at + 5),
    view.getUint16(at + 7),
    view.getUint8(at + 9),
  ];
  if (end < at + 10 + 3 * components) return undefined;
  const ids = Array.from({ length: components }, (_, c) => view.getUint8(at + 10 + 3 * c));
  const factors = Array.from({ length: components }, (_, c) => view.getUint8(at + 11 + 3 * c));
  const sampling = isOrdinary ? samplingOf(ids, factors) : null;
  return { height, width, bits, components, sampling };
}

/** Null for colour models and samplings that are out of the ordinary: 1, 2, 3 are the ids that mean Y, Cb, Cr. */
function samplingOf(ids: readonly number[], factors: readonly number[]): JpegSampling | null {
  if (ids.length === 1) return { components: 1, horizontal: 1, vertical: 1 };
  const [horizontal, vertical] = [factors[0]! >> 4, factors[0]! & 15];
  const isYCbCr = ids.join() === '1,2,3' && factors[1] === 0x11 && factors[2] === 0x11;
  if (!isYCbCr || ![1, 2].includes(horizontal) || ![1, 2].includes(vertical)) return null;
  return { components: 3, horizontal, vertical };
}
