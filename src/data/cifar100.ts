/**
 * CIFAR-100 in its official binary format: train.bin, test.bin and fine_label_names.txt.
 *
 * A record is 3,074 bytes: one of 20 superclasses, one of 100 classes (which is the label), then the planes as CIFAR-10 has them.
 * Must stay true: a file of any other size is refused, and so is any other label.
 */
import { copyPlanes } from './cifar10.js';
import { dataError, digits } from './data-error.js';
import { allocateImageSet, type DecodedSet, type ImageSet } from './data-set.js';

const SIDE = 32;
const RECORD_BYTES = 2 + 3 * SIDE * SIDE;
const NAMES_FILE = 'fine_label_names.txt';
const IMAGES = { 'train.bin': 50_000, 'test.bin': 10_000 } as const;
const NUM_CLASSES = 100;

export const CIFAR100_FILES: readonly string[] = [...Object.keys(IMAGES), NAMES_FILE];

/** `bytesOf` is asked for one of CIFAR100_FILES at a time. `where` names their container, `cure` ends every message. */
export function readCifar100(bytesOf: (name: string) => Uint8Array, where: string, cure: string): DecodedSet {
  const classes = Buffer.from(bytesOf(NAMES_FILE)).toString('utf8').trim().split(/\r?\n/);
  if (new Set(classes).size !== NUM_CLASSES) {
    const got = `${new Set(classes).size}`;
    throw dataError(
      'DTRAIN_DATA_CORRUPT',
      `${where}/${NAMES_FILE}: expected ${NUM_CLASSES} names, got ${got}. ${cure}`,
    );
  }
  const read = (name: keyof typeof IMAGES): ImageSet => {
    const count = IMAGES[name];
    const bytes = bytesOf(name);
    const expected = count * RECORD_BYTES;
    if (bytes.length !== expected) {
      const code = bytes.length < expected ? 'DTRAIN_DATA_TRUNCATED' : 'DTRAIN_DATA_TOO_LONG';
      const sizes = `expected ${digits(expected)} bytes, got ${digits(bytes.length)}`;
      throw dataError(code, `${where}/${name}: ${sizes}. ${cure}`);
    }
    const set = allocateImageSet({ count, height: SIDE, width: SIDE });
    for (let record = 0; record < count; record++) {
      const label = bytes[record * RECORD_BYTES + 1]!;
      if (label >= NUM_CLASSES) {
        const got = `expected a label from 0 to 99, got ${label}`;
        throw dataError('DTRAIN_DATA_CORRUPT', `${where}/${name}: record ${record}: ${got}. ${cure}`);
      }
      set.labels[record] = label;
      copyPlanes(bytes, record * RECORD_BYTES + 2, set.imagesNHWC, record);
    }
    return set;
  };
  return { classes, train: read('train.bin'), test: read('test.bin') };
}
