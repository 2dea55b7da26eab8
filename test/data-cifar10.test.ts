/** The official binary format, at full size. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { CIFAR10_CLASSES, CIFAR10_FILES, readCifar10, readCifar10Folder } from '../src/data/cifar10.js';
import { dataFault, officialFiles, temporaryFolder, writeFiles } from './support/data-fixtures.js';

const CURE = 'Replace it.';
const files = officialFiles();

test('records in order, planes to pixels', () => {
  const { classes, train, test: testSet } = readCifar10((name) => files[name]!, 'set', CURE);
  assert.deepEqual(classes, CIFAR10_CLASSES);
  assert.deepEqual([train.count, train.height, train.width, testSet.count], [50_000, 32, 32, 10_000]);
  for (const image of [0, 1, 9_999, 10_000, 25_017, 49_999]) {
    const value = (image % 10_000) + 10 * Math.floor(image / 10_000);
    const expected = [value, value + 1, value + 2].map((byte) => byte % 256);
    const pixels = train.imagesNHWC.subarray(image * 3072, (image + 1) * 3072);
    assert.deepEqual([...pixels.subarray(0, 3)], expected);
    assert.deepEqual([...pixels.subarray(3069)], expected);
    assert.equal(train.labels[image], image % 10);
  }
  assert.deepEqual([...testSet.imagesNHWC.subarray(3072, 3075)], [51, 52, 53]);
});

test('within a plane, row by row', () => {
  const first = Buffer.from(files['data_batch_1.bin']!);
  for (let i = 0; i < 3072; i++) first[1 + i] = i % 251;
  const { train } = readCifar10((name) => (name === 'data_batch_1.bin' ? first : files[name]!), 'set', CURE);
  for (const [y, x] of [
    [0, 1],
    [1, 0],
    [31, 30],
  ] as const) {
    const expected = [0, 1, 2].map((plane) => (plane * 1024 + y * 32 + x) % 251);
    assert.deepEqual([...train.imagesNHWC.subarray((y * 32 + x) * 3, (y * 32 + x) * 3 + 3)], expected);
  }
});

test('a folder with one file wrong', async (t) => {
  const folder = temporaryFolder(t);
  writeFiles(folder, files);
  const [third, testBatch] = [path.join(folder, 'data_batch_3.bin'), path.join(folder, 'test_batch.bin')];
  const read = () => readCifar10Folder(folder, CURE);

  assert.equal(read().train.labels[49_999], 9);

  fs.truncateSync(third, 30_729_999);
  const short = `${third}: expected 30,730,000 bytes, got 30,729,999. Replace it.`;
  assert.throws(read, dataFault('DTRAIN_DATA_TRUNCATED', short));

  fs.truncateSync(third, 30_730_001);
  const long = `${third}: expected 30,730,000 bytes, got 30,730,001. Replace it.`;
  assert.throws(read, dataFault('DTRAIN_DATA_TOO_LONG', long));

  const badLabel = Buffer.from(files['data_batch_3.bin']!);
  badLabel[17 * 3073] = 10;
  fs.writeFileSync(third, badLabel);
  const label = `${third}: record 17: expected a label from 0 to 9, got 10. Replace it.`;
  assert.throws(read, dataFault('DTRAIN_DATA_CORRUPT', label));

  fs.writeFileSync(third, files['data_batch_3.bin']!);
  fs.rmSync(testBatch);
  fs.symlinkSync('test_batch.bin', testBatch);
  const loop = `ELOOP: too many symbolic links encountered, stat '${testBatch}'`;
  assert.throws(read, dataFault('DTRAIN_DATA_PATH', `${testBatch}: cannot be read (${loop}). Replace it.`));

  fs.rmSync(testBatch);
  const missing = `${testBatch}: expected a file of the official set, it is not there. Replace it.`;
  assert.throws(read, dataFault('DTRAIN_DATA_LAYOUT', missing));
});

test('the official files, as the contract orders them', () => {
  assert.deepEqual(CIFAR10_FILES, [
    'data_batch_1.bin',
    'data_batch_2.bin',
    'data_batch_3.bin',
    'data_batch_4.bin',
    'data_batch_5.bin',
    'test_batch.bin',
  ]);
});
