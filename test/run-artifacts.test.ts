/** Pieces of what a run leaves for people: sums of event files, pictures, what augmentation looks like. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import sharp from 'sharp';
import { heatMap } from '../src/core/heat-map.js';
import { encodePng } from '../src/core/png.js';
import { augmentedPixels } from '../src/data/augmented-pixels.js';
import { crc32c, EventFile, scalar } from '../src/run/event-file.js';
import { errorOf } from './support/test-runtime.js';
import { temporaryFolder } from './support/train-run.js';

test('CRC-32C of RFC 3720, appendix B.4', () => {
  assert.equal(crc32c(new Uint8Array(32)), 0x8a9136aa);
  assert.equal(crc32c(new Uint8Array(32).fill(255)), 0x62a8ab43);
  assert.equal(crc32c(Uint8Array.from({ length: 32 }, (_, i) => i)), 0x46dd794e);
  assert.equal(crc32c(Buffer.from('123456789')), 0xe3069283);
});

test('an event file, byte by byte', () => {
  const file = path.join(temporaryFolder(), 'events');
  {
    using events = new EventFile(file, () => 1.5);
    events.values(3, [scalar('a', 0.5)]);
  }
  const bytes = fs.readFileSync(file);
  const first = Buffer.from('09000000000000f83f1a0d627261696e2e4576656e743a32', 'hex'); // wall_time, file_version
  assert.deepEqual([Number(bytes.readBigUInt64LE(0)), bytes.subarray(12, 36)], [first.length, first]);
  const second = Buffer.from('09000000000000f83f10032a0a0a080a0161150000003f', 'hex'); // wall_time, step 3, summary
  assert.deepEqual([Number(bytes.readBigUInt64LE(40)), bytes.subarray(52, 75)], [second.length, second]);
  assert.equal(bytes.length, 40 + 16 + second.length);
  const masked = (sum: number) => (((sum >>> 15) | (sum << 17)) + 0xa282ead8) >>> 0;
  assert.equal(bytes.readUInt32LE(8), masked(crc32c(bytes.subarray(0, 8))));
  assert.equal(bytes.readUInt32LE(36), masked(crc32c(first)));
});

test('an event file that cannot be made', () => {
  const file = path.join(temporaryFolder(), 'absent', 'events');
  const { message } = errorOf(() => new EventFile(file));
  assert.equal(
    message,
    `${file}: cannot be written (ENOENT). Check the disk, or choose another folder with --run-dir.`,
  );
});

test('a PNG is read back pixel by pixel', async () => {
  const pixels = Uint8Array.from({ length: 5 * 7 * 3 }, (_, i) => (i * 37) % 256);
  const { data, info } = await sharp(encodePng(pixels, 5, 7))
    .raw()
    .toBuffer({ resolveWithObject: true });
  assert.deepEqual([info.height, info.width, info.channels], [5, 7, 3]);
  assert.deepEqual(new Uint8Array(data), pixels);
});

test('a heat map: each row by its own sum', () => {
  const { pixels, height, width } = heatMap(
    [
      [0, 4],
      [1, 1],
    ],
    2,
  );
  assert.deepEqual([height, width], [4, 4]);
  const at = (y: number, x: number) => [...pixels.subarray((y * 4 + x) * 3, (y * 4 + x) * 3 + 3)];
  assert.deepEqual(
    [at(0, 0), at(1, 3), at(2, 0)],
    [
      [255, 255, 255],
      [8, 48, 107],
      [131, 151, 181],
    ],
  );
});

test('crop, flip and cutout as the graph has them', () => {
  const image = Uint8Array.from({ length: 4 * 3 * 3 }, (_, i) => Math.floor(i / 3) + 1); // pixel p has colour p + 1
  const reds = (drawn: Partial<Parameters<typeof augmentedPixels>[2]>, changes: { crop: number; cutout: number }) => {
    const all = { cropY: changes.crop, cropX: changes.crop, flip: false, cutoutY: 0, cutoutX: 0, ...drawn };
    const pixels = augmentedPixels(image, [4, 3], all, changes, [0, 0, 0]);
    return Array.from({ length: 12 }, (_, p) => pixels[3 * p]!);
  };
  assert.deepEqual(reds({}, { crop: 2, cutout: 0 }), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], 'nothing');
  assert.deepEqual(reds({ flip: true }, { crop: 0, cutout: 0 }), [3, 2, 1, 6, 5, 4, 9, 8, 7, 12, 11, 10]);
  assert.deepEqual(reds({ cropY: 0, cropX: 2 }, { crop: 1, cutout: 0 }), [0, 0, 0, 2, 3, 0, 5, 6, 0, 8, 9, 0]);
  assert.deepEqual(reds({ flip: true, cropX: 2 }, { crop: 1, cutout: 0 }).slice(0, 3), [0, 3, 2]);
  assert.deepEqual(reds({ cutoutY: 1, cutoutX: 1 }, { crop: 0, cutout: 2 }), [0, 0, 3, 0, 0, 6, 7, 8, 9, 10, 11, 12]);
});
