/**
 * A data set in memory: images as bytes, labels, names; the shape that every reader fills and every rank reads.
 *
 * Idea: the arrays lie in shared WebAssembly memory, so that a rank sees them without a copy and TensorFlow reads them in place.
 * Must stay true: nobody writes an array after `loadDataSet` has returned it.
 */
import { createHash } from 'node:crypto';
import { DtrainError, ExitCode } from '../core/errors.js';
import type { Normalization } from '../core/events.js';
import { allocateSharedMemory } from '../core/shared-memory.js';
import { dataError, digits } from './data-error.js';

/** One split. N = `count`, H = `height`, W = `width`, C = 3 (red, green, blue). */
export interface ImageSet {
  /** Bytes 0 to 255, at offset 0 of a memory of its own. */
  readonly imagesNHWC: Uint8Array<SharedArrayBuffer>;
  /** Class indices, in shared memory too. */
  readonly labels: Int32Array<SharedArrayBuffer>;
  readonly count: number;
  readonly height: number;
  readonly width: number;
  readonly channels: 3;
}

/** What a reader delivers and the cache keeps. */
export interface DecodedSet {
  /** In the order of the labels. */
  readonly classes: readonly string[];
  readonly train: ImageSet;
  readonly test: ImageSet;
}

export interface DataSet extends DecodedSet {
  readonly name: DataName;
  readonly normalization: Normalization;
  /** Where it came from, for people. */
  readonly source: string;
  /** SHA-256 (hex) of classes, sizes, pixels and labels: equal means the same images in the same order. */
  readonly fingerprint: string;
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
}

export interface DataEnvironment {
  readonly cacheFolder: string;
  /** Takes one line of progress or notice for people. */
  readonly say: (line: string) => void;
}

export interface ImageSetExtent {
  readonly count: number;
  readonly height: number;
  readonly width: number;
}

/** The limit of one WebAssembly memory. */
const MAX_SET_BYTES = 2 ** 32;

/** Zeroed arrays in shared memory. Throws DTRAIN_DATA_LIMIT above 4 GiB, DTRAIN_OUT_OF_MEMORY when the machine has less. */
export function allocateImageSet({ count, height, width }: ImageSetExtent): ImageSet {
  const bytes = count * height * width * 3;
  const size = `${digits(count)} images of ${width}x${height} take ${digits(bytes)} bytes`;
  if (bytes > MAX_SET_BYTES) {
    const cure = 'Use fewer or smaller images.';
    throw dataError('DTRAIN_DATA_LIMIT', `data: ${size}: expected at most ${digits(MAX_SET_BYTES)} (4 GiB). ${cure}`);
  }
  try {
    const imagesNHWC = new Uint8Array(allocateSharedMemory(bytes).buffer, 0, bytes);
    const labels = new Int32Array(allocateSharedMemory(count * 4).buffer, 0, count);
    return { imagesNHWC, labels, count, height, width, channels: 3 };
  } catch (cause) {
    const message = `data: ${size}: the machine does not have them. Free memory, or use fewer or smaller images.`;
    throw new DtrainError('DTRAIN_OUT_OF_MEMORY', ExitCode.outOfMemory, message, { cause });
  }
}

/** The four arrays in the order in which they are hashed and kept on disk, as bytes. */
export function sectionsOf({ train, test }: Pick<DecodedSet, 'train' | 'test'>): Uint8Array<SharedArrayBuffer>[] {
  return [train, test].flatMap(({ imagesNHWC, labels }) => [
    imagesNHWC,
    new Uint8Array(labels.buffer, labels.byteOffset, labels.byteLength),
  ]);
}

/** The text that is hashed before the arrays. */
export function outlineOf({ classes, train, test }: DecodedSet): string {
  return JSON.stringify({ classes, train: extentOf(train), test: extentOf(test) });
}

export function extentOf({ count, height, width }: ImageSet): ImageSetExtent {
  return { count, height, width };
}

/** See `DataSet.fingerprint`. */
export function fingerprintOf(set: DecodedSet): string {
  const hash = createHash('sha256').update(outlineOf(set));
  for (const section of sectionsOf(set)) hash.update(section);
  return hash.digest('hex');
}
