/**
 * A data set: in memory, images as bytes, labels, names, the shape that every reader fills and every rank reads; or streamed, where the
 * images stay encoded and are decoded when their step comes (image-stream.ts).
 *
 * Idea: the arrays lie in shared WebAssembly memory, so that a rank sees them without a copy and TensorFlow reads them in place.
 * Must stay true: nobody writes an array after `loadDataSet` has returned it; streamed or not, everything but the place of the pixels is equal.
 */
import { createHash } from 'node:crypto';
import { DtrainError, ExitCode } from '../core/errors.js';
import type { Normalization } from '../core/events.js';
import { allocateSharedMemory } from '../core/shared-memory.js';
import { dataError, digits } from './data-error.js';
import type { EncodedFiles } from './encoded-files.js';

export interface ImageSetExtent {
  readonly count: number;
  readonly height: number;
  readonly width: number;
}

/** One split, wherever its pixels are. */
export interface ImageSplit extends ImageSetExtent {
  /** Class indices, in shared memory. */
  readonly labels: Int32Array<SharedArrayBuffer>;
  readonly channels: 3;
}

/** One split in memory. N = `count`, H = `height`, W = `width`, C = 3 (red, green, blue). */
export interface ImageSet extends ImageSplit {
  /** Bytes 0 to 255, at offset 0 of a memory of its own. */
  readonly imagesNHWC: Uint8Array<SharedArrayBuffer>;
}

/** One split whose images are decoded when they are needed. */
export interface StreamedSplit extends ImageSplit {
  readonly files: EncodedFiles;
}

/** What a reader delivers and the cache keeps. */
export interface DecodedSet {
  /** In the order of the labels. */
  readonly classes: readonly string[];
  readonly train: ImageSet;
  readonly test: ImageSet;
}

/** What is measured on the pixels. */
export interface Measured {
  readonly normalization: Normalization;
  /** SHA-256 (hex) of classes, sizes, pixels and labels: equal means the same images in the same order. */
  readonly fingerprint: string;
}

interface Provenance {
  readonly name: DataName;
  /** Where it came from, for people. */
  readonly source: string;
}

export interface DataSet extends DecodedSet, Measured, Provenance {}

/** The same of a set that is streamed. */
export interface StreamedDataSet extends StreamedSet, Provenance {}

export interface StreamedSet extends Measured {
  readonly classes: readonly string[];
  readonly train: StreamedSplit;
  readonly test: StreamedSplit;
}

export type AnyDataSet = DataSet | StreamedDataSet;

export function isStreamed<T extends DecodedSet | StreamedSet>(set: T): set is Extract<T, StreamedSet> {
  return isStreamedSplit(set.train);
}

export function isStreamedSplit(split: ImageSet | StreamedSplit): split is StreamedSplit {
  return 'files' in split;
}

export type DataName = 'cifar10' | 'cifar100' | 'image-folder' | 'synthetic';

export interface DataOptions {
  readonly name: DataName;
  /** A file or folder; null searches the usual places (locate.ts). */
  readonly path: string | null;
  /** Only `synthetic` depends on it. */
  readonly seed: number;
  /** Images of an image folder become squares of this side; null: they have one size, and keep it. */
  readonly size?: number | null;
  /** Pixels of the shorter side before the centre is cut out; null: as few as cover the square. */
  readonly resize?: number | null;
  /** Decoded images that may be in memory, in bytes; a set that takes more is streamed. Null: as the machine has it. Left out: any number. */
  readonly memoryBytes?: number | null;
}

export interface DataEnvironment {
  readonly cacheFolder: string;
  /** Takes one line of progress or notice for people. */
  readonly say: (line: string) => void;
}

/** The limit of one WebAssembly memory. */
export const MAX_SET_BYTES = 2 ** 32;

/** Of all images, decoded. */
export function pixelBytes({ count, height, width }: ImageSetExtent): number {
  return count * height * width * 3;
}

/** Zeroed arrays in shared memory. Throws DTRAIN_DATA_LIMIT above 4 GiB, DTRAIN_OUT_OF_MEMORY when the machine has less. */
export function allocateImageSet({ count, height, width }: ImageSetExtent): ImageSet {
  const bytes = pixelBytes({ count, height, width });
  const size = `${digits(count)} images of ${width}x${height} take ${digits(bytes)} bytes`;
  if (bytes > MAX_SET_BYTES) {
    const cure = 'Use fewer or smaller images.';
    throw dataError('DTRAIN_DATA_LIMIT', `data: ${size}: expected at most ${digits(MAX_SET_BYTES)} (4 GiB). ${cure}`);
  }
  try {
    const imagesNHWC = new Uint8Array(allocateSharedMemory(bytes).buffer, 0, bytes);
    const labels = allocateLabels(count);
    return { imagesNHWC, labels, count, height, width, channels: 3 };
  } catch (cause) {
    const message = `data: ${size}: the machine does not have them. Free memory, or use fewer or smaller images.`;
    throw new DtrainError('DTRAIN_OUT_OF_MEMORY', ExitCode.outOfMemory, message, { cause });
  }
}

/** Zeroed, in shared memory. Throws RangeError when the machine has not enough. */
export function allocateLabels(count: number): Int32Array<SharedArrayBuffer> {
  return new Int32Array(allocateSharedMemory(count * 4).buffer, 0, count);
}

/** The four arrays in the order in which they are hashed and kept on disk, as bytes. */
export function sectionsOf({ train, test }: Pick<DecodedSet, 'train' | 'test'>): Uint8Array<SharedArrayBuffer>[] {
  return [train, test].flatMap(({ imagesNHWC, labels }) => [imagesNHWC, bytesOfLabels(labels)]);
}

export function bytesOfLabels({ buffer, byteOffset, byteLength }: ImageSplit['labels']): Uint8Array<SharedArrayBuffer> {
  return new Uint8Array(buffer, byteOffset, byteLength);
}

/** The text that is hashed before the arrays. */
export function outlineOf({ classes, train, test }: SetOutline): string {
  return JSON.stringify({ classes, train: extentOf(train), test: extentOf(test) });
}

/** Names and sizes. */
export interface SetOutline {
  readonly classes: readonly string[];
  readonly train: ImageSetExtent;
  readonly test: ImageSetExtent;
}

export function extentOf({ count, height, width }: ImageSetExtent): ImageSetExtent {
  return { count, height, width };
}

/** See `Measured.fingerprint`. */
export function fingerprintOf(set: DecodedSet): string {
  const hash = createHash('sha256').update(outlineOf(set));
  for (const section of sectionsOf(set)) hash.update(section);
  return hash.digest('hex');
}
