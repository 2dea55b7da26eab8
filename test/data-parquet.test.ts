/** Parquet files of images: written by Hugging Face's `datasets` (test/golden/parquet.py), and what is wrong with others. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { loadDataSet } from '../src/data/load-data-set.js';
import { parquetFiles } from '../src/data/parquet-files.js';
import { temporaryFolder } from './support/data-fixtures.js';

const GOLDEN = fileURLToPath(new URL('../../test/golden/parquet', import.meta.url));
const FIRST_SHARD = 'train-00000-of-00002.parquet';
const SECOND_SHARD = 'train-00001-of-00002.parquet';
const TEST_SHARD = 'test-00000-of-00001.parquet';

const load = (t: TestContext, place: string, said: string[] = []) =>
  loadDataSet(
    { name: 'image-folder', seed: 0, path: place },
    { cacheFolder: temporaryFolder(t), say: (line) => said.push(line) },
  );

async function messageOf(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => assert.fail('expected an error'),
    (error: Error) => error.message,
  );
}

/** The golden files under other names. */
function copied(t: TestContext, names: Readonly<Record<string, string>>): string {
  const folder = temporaryFolder(t);
  for (const [from, to] of Object.entries(names))
    fs.copyFileSync(path.join(GOLDEN, 'data', from), path.join(folder, to));
  return folder;
}

test('rows in the order of files, classes in the order of the ClassLabel, pixels as they were saved', async (t) => {
  const { classes, train, test: tested } = await load(t, GOLDEN); // its folder `data` is the one data set in it
  assert.deepEqual(classes, ['tulip', 'daisy', 'rose']);
  assert.deepEqual([train.count, train.height, train.width, tested.count], [10, 8, 8, 6]);
  for (const [set, first] of [
    [train, 0],
    [tested, 10],
  ] as const) {
    assert.deepEqual(
      [...set.labels],
      Array.from({ length: set.count }, (_, i) => (first + i) % 3),
    );
    for (let i = 0; i < set.count; i++) {
      const row = first + i;
      assert.deepEqual(
        [...set.imagesNHWC.subarray(i * 192, i * 192 + 3)],
        [10 * row, 20 * (row % 3), 200],
        `row ${row}`,
      );
    }
  }
});

test('the decoded set is kept, until a file changes', async (t) => {
  const folder = copied(t, { [FIRST_SHARD]: 'train.parquet', [TEST_SHARD]: 'validation.parquet' });
  const env = { cacheFolder: temporaryFolder(t), say: (line: string) => said.push(line) };
  const said: string[] = [];
  const options = { name: 'image-folder', seed: 0, path: folder } as const;
  for (let i = 0; i < 2; i++) assert.equal((await loadDataSet(options, env)).train.count, 5);
  assert.equal(said.filter((line) => line.includes('reading the data set')).length, 1);
  fs.copyFileSync(path.join(GOLDEN, 'data', SECOND_SHARD), path.join(folder, 'train-2.parquet'));
  assert.equal((await loadDataSet(options, env)).train.count, 10);
});

test('which files are a data set', (t) => {
  const names = (files: Readonly<Record<string, string>>) => {
    const found = parquetFiles(copied(t, files));
    return found && [found.train, found.test].map((split) => split.map((file) => path.basename(file)));
  };
  assert.equal(names({ [FIRST_SHARD]: 'train.parquet' }), undefined, 'no test split');
  assert.equal(names({ [FIRST_SHARD]: 'training.parquet', [TEST_SHARD]: 'test.parquet' }), undefined);
  const both = { [FIRST_SHARD]: 'train-b.parquet', [SECOND_SHARD]: 'train-a.parquet', [TEST_SHARD]: 'val.parquet' };
  assert.deepEqual(names(both), [['train-a.parquet', 'train-b.parquet'], ['val.parquet']]);
});

test('a file that is cut off, and one that is none, are named', async (t) => {
  const cut = copied(t, { [FIRST_SHARD]: 'train.parquet', [TEST_SHARD]: 'test.parquet' });
  const file = path.join(cut, 'train.parquet');
  fs.truncateSync(file, 1000);
  const message = await messageOf(load(t, cut));
  assert.match(message, /^.*train\.parquet: cannot be read as Parquet \(.+\)\. Replace it with an intact copy\.$/);
  fs.writeFileSync(file, 'not a table');
  assert.match(await messageOf(load(t, cut)), /train\.parquet: cannot be read as Parquet/);
});

test('a damaged byte inside an image is told with file and row', async (t) => {
  const folder = copied(t, { [FIRST_SHARD]: 'train.parquet', [TEST_SHARD]: 'test.parquet' });
  const file = path.join(folder, 'train.parquet');
  const bytes = fs.readFileSync(file);
  const second = bytes.indexOf('IHDR', bytes.indexOf('IHDR') + 4);
  bytes.writeUInt8(bytes[second + 7]! ^ 255, second + 7);
  fs.writeFileSync(file, bytes);
  assert.match(await messageOf(load(t, folder)), new RegExp(`^${file}:2: `));
});

/** A file of test/golden/parquet-bad as both splits. */
function bothSplits(t: TestContext, name: string): string {
  const folder = temporaryFolder(t);
  for (const split of ['train', 'test'])
    fs.copyFileSync(path.join(`${GOLDEN}-bad`, `${name}.parquet`), path.join(folder, `${split}.parquet`));
  return folder;
}

test('a row without a label, and a table of something else', async (t) => {
  const unlabelled = bothSplits(t, 'unlabelled');
  assert.equal(
    await messageOf(load(t, unlabelled)),
    `${unlabelled}/train.parquet:2: label: expected a class from 0 to 2, got -1. Leave the row out.`,
  );
  const text = bothSplits(t, 'text');
  assert.equal(
    await messageOf(load(t, text)),
    `${text}/train.parquet: expected a column of images and one of labels, got the columns text, score. Save the data set with an image and a label column, as Hugging Face does.`,
  );
});

test('labels without names are classes called by their numbers, in their order', async (t) => {
  const { classes, train } = await load(t, bothSplits(t, 'numbers'));
  assert.deepEqual(
    [classes, [...train.labels]],
    [
      ['7', '10'],
      [0, 1],
    ],
  );
});
