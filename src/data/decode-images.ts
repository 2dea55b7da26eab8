/**
 * JPEG and PNG files to RGB bytes: the door to sharp (libvips, libjpeg-turbo).
 *
 * Idea: ordinary JPEGs that follow each other are decoded by one call (jpeg-stack.ts), which is ten times faster for small images; a
 * stack that fails is decoded again one by one, to name the culprit. Everything else is decoded one by one.
 * Must stay true: the pixels of a JPEG are those of libjpeg-turbo's accurate integer transform with smooth chroma, stacked or not; colour
 * profiles and orientation are ignored, grey is copied to three channels, alpha is dropped; what libjpeg warns about is an error.
 */
import os from 'node:os';
import sharp from 'sharp';
import { dataError, firstLine } from './data-error.js';
import { type ImageHeader, type JpegSampling, REPLACE, readImageHeader } from './image-header.js';
import { stackJpegs } from './jpeg-stack.js';

/** A file in memory or on disk. */
export interface EncodedImage {
  /** For messages. */
  readonly name: string;
  read(): Uint8Array;
}

export interface ImageSize {
  readonly height: number;
  readonly width: number;
}

/** How images of different sizes become squares of one. */
export interface Scaling {
  /** Pixels of a side. */
  readonly size: number;
  /** Pixels of the shorter side before the centre is cut out; null: as few as cover the square. */
  readonly resize: number | null;
}

/** Decodes `images` into `into` (NHWC, exactly filled), scaled or all of `size`. Throws as decodeScaledImages and decodeImages do. */
export function decodePixels(
  images: readonly EncodedImage[],
  size: ImageSize,
  scaling: Scaling | null,
  into: Uint8Array,
  progress: (done: number) => void = () => {},
): Promise<void> {
  return scaling
    ? decodeScaledImages(images, size, scaling.resize, into, progress)
    : decodeImages(images, size, into, progress);
}

/** The size of an image, from its header. */
export function imageSize(image: EncodedImage): ImageSize {
  const { height, width } = readImageHeader(image.name, image.read());
  return { height, width };
}

/**
 * Decodes `images`, all of `size`, into `into` (NHWC, exactly filled); calls `progress` with the number done so far.
 * Throws DTRAIN_DATA_CORRUPT for an image that does not decode, DTRAIN_DATA_LAYOUT for one of another size.
 */
export async function decodeImages(
  images: readonly EncodedImage[],
  size: ImageSize,
  into: Uint8Array,
  progress: (done: number) => void = () => {},
): Promise<void> {
  sharp.cache(false);
  sharp.concurrency(1); // one thread a call: the calls are what runs in parallel
  const stacks = stacksOf(images, size);
  let done = 0;
  const work = async () => {
    for (const stack of stacks) {
      into.set(await decodeStack(stack, size), stack.first * bytesOf(size));
      done += stack.images.length;
      progress(done);
    }
  };
  // All take from the one generator; the first to throw closes it for the others.
  await Promise.all(Array.from({ length: CALLS_IN_FLIGHT }, work));
}

/**
 * One image of any size as RGB bytes of `size`: scaled until its shorter side is `resize` pixels (or until it just covers `size`), the
 * centre cut out. An image that has the size already is not touched. Throws DTRAIN_DATA_CORRUPT, DTRAIN_DATA_LAYOUT.
 */
export async function decodeScaled(
  name: string,
  bytes: Uint8Array,
  size: ImageSize,
  resize: number | null = null,
): Promise<Uint8Array> {
  const header = readImageHeader(name, bytes);
  const isOfSize = header.height === size.height && header.width === size.width;
  if (isOfSize && resize === null) return decodeOne(name, bytes, size);
  try {
    const scale = scaleFor(header, size, resize);
    const [height, width] = [
      Math.max(size.height, Math.round(header.height * scale)),
      Math.max(size.width, Math.round(header.width * scale)),
    ];
    const left = Math.floor((width - size.width) / 2);
    const top = Math.floor((height - size.height) / 2);
    const scaled = sharp(bytes, { ignoreIcc: true, failOn: 'warning' })
      .resize(width, height, { fit: 'fill' })
      .extract({ left, top, ...size });
    return toRgb(await scaled.raw().toBuffer(), size.height * size.width);
  } catch (cause) {
    throw dataError('DTRAIN_DATA_CORRUPT', `${name}: does not decode (${firstLine(cause)}). ${REPLACE}`, cause);
  }
}

/** Decodes images of any sizes into `into` (NHWC, exactly filled), each as decodeScaled does; calls `progress` with the number done so far. */
async function decodeScaledImages(
  images: readonly EncodedImage[],
  size: ImageSize,
  resize: number | null,
  into: Uint8Array,
  progress: (done: number) => void,
): Promise<void> {
  sharp.cache(false);
  sharp.concurrency(1);
  const rest = images.entries();
  let done = 0;
  const work = async () => {
    for (const [index, { name, read }] of rest) {
      into.set(await decodeScaled(name, read(), size, resize), index * bytesOf(size));
      done += 1;
      progress(done);
    }
  };
  await Promise.all(Array.from({ length: CALLS_IN_FLIGHT }, work));
}

/** How much larger an image becomes. */
function scaleFor({ height, width }: ImageSize, size: ImageSize, resize: number | null): number {
  if (resize !== null) return resize / Math.min(height, width);
  return Math.max(size.height / height, size.width / width);
}

/** sharp works on libuv's pool; calls beyond its threads wait there. */
const CALLS_IN_FLIGHT = Math.min(16, os.availableParallelism());

/** At most so many images, and so many decoded bytes, in one call. */
const STACK_IMAGES = 256;
const STACK_BYTES = 8 * 2 ** 20;

/** Of one image, decoded. */
function bytesOf({ height, width }: ImageSize): number {
  return height * width * 3;
}

interface Stack {
  /** Index of its first image. */
  readonly first: number;
  readonly sampling: JpegSampling | null;
  readonly images: { readonly name: string; readonly bytes: Uint8Array }[];
}

/** Cuts `images` into runs of ordinary JPEGs of equal sampling, and single others; reads each image once. */
function* stacksOf(images: readonly EncodedImage[], size: ImageSize): Generator<Stack, void, void> {
  const limit = Math.max(1, Math.min(STACK_IMAGES, Math.floor(STACK_BYTES / bytesOf(size))));
  let stack: Stack | undefined;
  for (const [index, image] of images.entries()) {
    const bytes = image.read();
    const header = readImageHeader(image.name, bytes);
    checkSize(image.name, header, size);
    if (stack !== undefined && (stack.images.length === limit || !isSameSampling(stack.sampling, header.sampling))) {
      yield stack;
      stack = undefined;
    }
    stack ??= { first: index, sampling: header.sampling, images: [] };
    stack.images.push({ name: image.name, bytes });
  }
  if (stack !== undefined) yield stack;
}

function checkSize(name: string, got: ImageHeader, expected: ImageSize): void {
  if (got.height === expected.height && got.width === expected.width) return;
  const sizes = `expected ${expected.width}x${expected.height} pixels, got ${got.width}x${got.height}`;
  throw dataError(
    'DTRAIN_DATA_LAYOUT',
    `${name}: ${sizes}. All images of a set have one size: set data.size to scale them.`,
  );
}

/** False for two images of which one is to be decoded alone. */
function isSameSampling(a: JpegSampling | null, b: JpegSampling | null): boolean {
  if (a === null || b === null) return false;
  return a.components === b.components && a.horizontal === b.horizontal && a.vertical === b.vertical;
}

/** RGB bytes of all images of the stack. */
async function decodeStack({ images, sampling }: Stack, size: ImageSize): Promise<Uint8Array> {
  if (sampling !== null && images.length > 1) {
    const files = images.map(({ bytes }) => bytes);
    const stacked = await decode(stackJpegs(files, size, sampling)).catch(() => undefined);
    if (stacked !== undefined) return toRgb(stacked, images.length * size.height * size.width);
  }
  const rgb = new Uint8Array(images.length * bytesOf(size));
  for (const [index, { name, bytes }] of images.entries()) {
    rgb.set(await decodeOne(name, bytes, size), index * bytesOf(size));
  }
  return rgb;
}

async function decodeOne(name: string, bytes: Uint8Array, size: ImageSize): Promise<Uint8Array> {
  try {
    return toRgb(await decode(bytes), size.height * size.width);
  } catch (cause) {
    throw dataError('DTRAIN_DATA_CORRUPT', `${name}: does not decode (${firstLine(cause)}). ${REPLACE}`, cause);
  }
}

function decode(file: Uint8Array): Promise<Uint8Array> {
  return sharp(file, { ignoreIcc: true, failOn: 'warning' }).raw().toBuffer();
}

/** From 1 (grey), 2 (grey, alpha), 3 or 4 (RGB, alpha) bytes a pixel to 3. */
function toRgb(bytes: Uint8Array, pixels: number): Uint8Array {
  const channels = bytes.length / pixels;
  if (channels === 3) return bytes;
  const rgb = new Uint8Array(pixels * 3);
  for (let pixel = 0; pixel < pixels; pixel++) {
    for (let c = 0; c < 3; c++) rgb[pixel * 3 + c] = bytes[pixel * channels + (channels < 3 ? 0 : c)]!;
  }
  return rgb;
}
