/**
 * CIFAR-10 as its official archive for Python has it: five batches and a test batch, each a pickled dictionary with `data` (uint8
 * [10000, 3072], planes as in the binary format) and `labels`.
 */
import { CIFAR10_CLASSES, copyPlanes } from './cifar10.js';
import { dataError, firstLine } from './data-error.js';
import { allocateImageSet, type DecodedSet, type ImageSet } from './data-set.js';
import { NumpyBytes, PickleBytes, type PickleValue, unpickle } from './pickle.js';

const TRAIN_BATCHES = [1, 2, 3, 4, 5].map((number) => `data_batch_${number}`);
const TEST_BATCH = 'test_batch';
export const PYTHON_BATCHES: readonly string[] = [...TRAIN_BATCHES, TEST_BATCH];

const RECORDS = 10_000;
const IMAGE_BYTES = 3072;

/** `bytesOf` is asked for one of PYTHON_BATCHES at a time. `where` names their container, `cure` ends every message. */
export function readCifar10Python(bytesOf: (name: string) => Uint8Array, where: string, cure: string): DecodedSet {
  const read = (names: readonly string[]): ImageSet => {
    const set = allocateImageSet({ count: names.length * RECORDS, height: 32, width: 32 });
    for (const [i, name] of names.entries()) {
      const { data, labels } = batchOf(bytesOf(name), `${where}/${name}`, cure);
      set.labels.set(labels, i * RECORDS);
      for (let r = 0; r < RECORDS; r++) copyPlanes(data, r * IMAGE_BYTES, set.imagesNHWC, i * RECORDS + r);
    }
    return set;
  };
  return { classes: CIFAR10_CLASSES, train: read(TRAIN_BATCHES), test: read([TEST_BATCH]) };
}

function batchOf(bytes: Uint8Array, where: string, cure: string): { data: Uint8Array; labels: readonly number[] } {
  const value = unpickled(bytes, where, cure);
  const entry = (name: string) => {
    if (!(value instanceof Map)) return undefined;
    return [...value].find(([key]) => (key instanceof PickleBytes ? key.text : key) === name)?.[1];
  };
  const [data, labels] = [entry('data'), entry('labels')];
  const isData = data instanceof NumpyBytes && data.shape.join() === `${RECORDS},${IMAGE_BYTES}`;
  const isLabel = (label: PickleValue) => typeof label === 'number' && label >= 0 && label < CIFAR10_CLASSES.length;
  if (!isData || !Array.isArray(labels) || labels.length !== RECORDS || !labels.every(isLabel)) {
    const expected = 'expected data of 10,000 images and as many labels from 0 to 9';
    throw dataError('DTRAIN_DATA_CORRUPT', `${where}: ${expected}, got something else. ${cure}`);
  }
  return { data: data.values, labels: labels as number[] };
}

function unpickled(bytes: Uint8Array, where: string, cure: string): PickleValue {
  try {
    return unpickle(bytes);
  } catch (cause) {
    throw dataError(
      'DTRAIN_DATA_CORRUPT',
      `${where}: expected a pickle of images, ${firstLine(cause)}. ${cure}`,
      cause,
    );
  }
}
