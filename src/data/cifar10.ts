/**
 * CIFAR-10 (Krizhevsky, "Learning multiple layers of features from tiny images", 2009): its facts, and the official binary format.
 *
 * A file is 10,000 records of 3,073 bytes: a label 0 to 9, then 1,024 red, 1,024 green and 1,024 blue bytes, row by row.
 * Must stay true: a file of any other size is refused, and so is any other label.
 */
import fs from 'node:fs';
import path from 'node:path';
import type { Normalization } from '../core/events.js';
import { dataError, digits, firstLine } from './data-error.js';
import { allocateImageSet, type DecodedSet, type ImageSet } from './data-set.js';

/** The official order of the labels, which is also that of the alphabet. */
export const CIFAR10_CLASSES = [
  'airplane',
  'automobile',
  'bird',
  'cat',
  'deer',
  'dog',
  'frog',
  'horse',
  'ship',
  'truck',
] as const;

/** The constants in use everywhere, of the 50,000 training images. */
export const CIFAR10_NORMALIZATION: Normalization = {
  mean: [0.4914, 0.4822, 0.4465],
  std: [0.247, 0.2435, 0.2616],
};

/** The official binary archive. */
export const CIFAR10_ARCHIVE = {
  url: 'https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz',
  fileName: 'cifar-10-binary.tar.gz',
  bytes: 170_052_171,
  sha256: 'c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd',
} as const;

const TRAIN_FILES = [1, 2, 3, 4, 5].map((number) => `data_batch_${number}.bin`);
const TEST_FILE = 'test_batch.bin';
/** The six files of the official set, in its order. */
export const CIFAR10_FILES: readonly string[] = [...TRAIN_FILES, TEST_FILE];

const SIDE = 32;
const PLANE_BYTES = SIDE * SIDE;
const RECORD_BYTES = 1 + 3 * PLANE_BYTES;
const RECORDS = 10_000;
export const CIFAR10_FILE_BYTES = RECORDS * RECORD_BYTES;

/** The set from a folder with the six files. `cure` ends every message. */
export function readCifar10Folder(folder: string, cure: string): DecodedSet {
  return readCifar10((name) => readWhole(path.join(folder, name), cure), folder, cure);
}

/** The set from its files' bytes; `bytesOf` is asked for one file at a time and may forget it afterwards. `where` names their container. */
export function readCifar10(bytesOf: (name: string) => Uint8Array, where: string, cure: string): DecodedSet {
  const read = (names: readonly string[]): ImageSet => {
    const set = allocateImageSet({ count: names.length * RECORDS, height: SIDE, width: SIDE });
    names.forEach((name, index) => {
      const bytes = bytesOf(name);
      checkCifar10FileSize(path.join(where, name), bytes.length, cure);
      copyRecords(path.join(where, name), bytes, set, index * RECORDS, cure);
    });
    return set;
  };
  return { classes: CIFAR10_CLASSES, train: read(TRAIN_FILES), test: read([TEST_FILE]) };
}

/** Throws unless `bytes` is the size of an official file. */
export function checkCifar10FileSize(file: string, bytes: number, cure: string): void {
  if (bytes === CIFAR10_FILE_BYTES) return;
  const code = bytes < CIFAR10_FILE_BYTES ? 'DTRAIN_DATA_TRUNCATED' : 'DTRAIN_DATA_TOO_LONG';
  throw dataError(code, `${file}: expected ${digits(CIFAR10_FILE_BYTES)} bytes, got ${digits(bytes)}. ${cure}`);
}

/** Size first: a file of the wrong size is not read at all. */
function readWhole(file: string, cure: string): Uint8Array {
  try {
    checkCifar10FileSize(file, fs.statSync(file).size, cure);
    return fs.readFileSync(file);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'ENOENT') {
      const got = 'it is not there';
      throw dataError('DTRAIN_DATA_LAYOUT', `${file}: expected a file of the official set, ${got}. ${cure}`, cause);
    }
    if (cause instanceof Error && 'exitCode' in cause) throw cause;
    throw dataError('DTRAIN_DATA_PATH', `${file}: cannot be read (${firstLine(cause)}). ${cure}`, cause);
  }
}

/** Labels, and planes to interleaved pixels, of all whole records of `bytes`. `file` names them, `cure` ends a message. */
export function copyRecords(
  file: string,
  bytes: Uint8Array,
  into: Pick<ImageSet, 'imagesNHWC' | 'labels'>,
  firstImage: number,
  cure: string,
): void {
  const { imagesNHWC, labels } = into;
  const numRecords = Math.floor(bytes.length / RECORD_BYTES);
  for (let record = 0; record < numRecords; record++) {
    const label = bytes[record * RECORD_BYTES]!;
    if (label >= CIFAR10_CLASSES.length) {
      const where = `${file}: record ${record}`;
      throw dataError('DTRAIN_DATA_CORRUPT', `${where}: expected a label from 0 to 9, got ${label}. ${cure}`);
    }
    labels[firstImage + record] = label;
    copyPlanes(bytes, record * RECORD_BYTES + 1, imagesNHWC, firstImage + record);
  }
}

/** The red, green and blue planes of 32x32 that begin at `start`, as pixels of image `image`. */
export function copyPlanes(bytes: Uint8Array, start: number, imagesNHWC: Uint8Array, image: number): void {
  let to = image * 3 * PLANE_BYTES;
  for (let at = start; at < start + PLANE_BYTES; at++, to += 3) {
    imagesNHWC[to] = bytes[at]!;
    imagesNHWC[to + 1] = bytes[at + PLANE_BYTES]!;
    imagesNHWC[to + 2] = bytes[at + 2 * PLANE_BYTES]!;
  }
}
