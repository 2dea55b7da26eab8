/** Sets that do not fit: which are streamed, what is measured on them and kept, what is refused. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import fc from 'fast-check';
import sharp from 'sharp';
import { allocateLabels, type DataOptions, type DataSet, fingerprintOf, isStreamed } from '../src/data/data-set.js';
import { cacheFileOf, factsFileOf } from '../src/data/decoded-cache.js';
import { encodedFiles } from '../src/data/encoded-files.js';
import { arrangeTree, decodeTree, fillLabels, listTree } from '../src/data/image-tree.js';
import { loadDataSet } from '../src/data/load-data-set.js';
import { measureNormalization } from '../src/data/normalization.js';
import { readImages } from '../src/data/read-images.js';
import { surveyTree } from '../src/data/survey.js';
import {
  dataFault,
  gzip,
  imageFile,
  officialFiles,
  smallTree,
  tarOf,
  temporaryFolder,
  writeFiles,
} from './support/data-fixtures.js';

delete process.env['DTRAIN_DATA'];

/** A folder to work in; `load` reads with a cache of its own and notes what is said. */
function world(t: TestContext) {
  const root = fs.realpathSync(temporaryFolder(t));
  const cacheFolder = path.join(root, 'cache');
  const load = async (place: string, options: Partial<DataOptions> = {}) => {
    const said: string[] = [];
    const env = { cacheFolder, say: (line: string) => said.push(line.replace(/\d+\.\d s$/, 'N s')) };
    const set = await loadDataSet({ name: 'image-folder', path: path.join(root, place), seed: 0, ...options }, env);
    return { set, said };
  };
  return { root, cacheFolder, load };
}

/** The same set in memory, and all of its pixels out of the streamed one. */
async function assertSame(streamed: Awaited<ReturnType<typeof loadDataSet>>, resident: DataSet): Promise<void> {
  assert(isStreamed(streamed));
  const { classes, name, normalization, fingerprint } = streamed;
  const { train, test: tested, source: _, ...rest } = resident;
  assert.deepEqual({ classes, name, normalization, fingerprint }, rest);
  for (const [split, whole] of [
    [streamed.train, train],
    [streamed.test, tested],
  ] as const) {
    assert.deepEqual([split.count, split.height, split.width], [whole.count, whole.height, whole.width]);
    assert.deepEqual(split.labels, whole.labels);
    const pixels = await readImages(
      split,
      Array.from({ length: split.count }, (_, i) => i),
    );
    assert.deepEqual(Buffer.concat(pixels), Buffer.from(whole.imagesNHWC));
  }
}

test('folder, list and archive stream what they hold in memory; looked through once', async (t) => {
  const { root, load, cacheFolder } = world(t);
  const files = await smallTree();
  writeFiles(path.join(root, 'tree'), files);
  fs.writeFileSync(path.join(root, 'set.tar.gz'), gzip(await tarOf(files)));
  const rows = Object.keys(files).map((file) => `tree/${file},${file.split('/')[1]},${file.split('/')[0]}`);
  fs.writeFileSync(path.join(root, 'list.csv'), ['path,label,split', ...rows, ''].join('\n'));
  for (const place of ['tree', 'list.csv', 'set.tar.gz']) {
    const where = path.join(root, place);
    const { set: streamed, said } = await load(place, { memoryBytes: 719 });
    const facts = factsFileOf(cacheFileOf(where, cacheFolder));
    const decoded = cacheFileOf(where, cacheFolder);
    assert.deepEqual(said, [
      ...(place === 'set.tar.gz' ? [`${where}: reading the data set; the next run takes it from ${decoded}`] : []),
      `${where}: 5 images of 8x6 take 720 bytes decoded, more than data.memoryBytes (719): streamed, decoded anew in every epoch`,
      `${where}: looking through all images once; the next run finds what was measured in ${facts}`,
      `${place}: 5 images looked through in N s`,
    ]);
    assert(!fs.existsSync(decoded), 'no pixels are kept');
    assert.equal((await load(place, { memoryBytes: 0 })).said.length, said.length - 2, 'the second time it is known');
    const { set: resident } = await load(place, { memoryBytes: 720 });
    assert(!isStreamed(resident));
    await assertSame(streamed, resident);
    fs.rmSync(facts);
    const again = await load(place, { memoryBytes: 0 });
    assert.equal(
      again.said.at(-1),
      `${where}: 5 images of 8x6 take 720 bytes decoded, more than data.memoryBytes (0): streamed, decoded anew in every epoch`,
    );
    await assertSame(again.set, resident); // what was measured for the set in memory serves
  }
});

test('images of any sizes are scaled as they are in memory', async (t) => {
  const { root, load } = world(t);
  const photo = async (width: number, height: number) =>
    sharp({
      create: { width, height, channels: 3, background: 'red', noise: { type: 'gaussian', mean: 120, sigma: 40 } },
    })
      .jpeg()
      .toBuffer();
  const files = {
    'train/a/1.jpg': await photo(40, 30),
    'train/b/2.jpg': await photo(16, 16),
    'test/a/1.jpg': await photo(20, 33),
  };
  writeFiles(path.join(root, 'tree'), { ...files, 'test/b/1.png': await imageFile('png', 3) });
  const scaling = { size: 12, resize: 14 };
  const { set: streamed } = await load('tree', { ...scaling, memoryBytes: 0 });
  const { set: resident } = await load('tree', { ...scaling });
  await assertSame(streamed, resident as DataSet);
});

test('a changed file is looked at again; damaged facts are measured again', async (t) => {
  const { root, load, cacheFolder } = world(t);
  writeFiles(path.join(root, 'tree'), await smallTree());
  const { set: before } = await load('tree', { memoryBytes: 0 });
  const facts = factsFileOf(cacheFileOf(path.join(root, 'tree'), cacheFolder));
  fs.truncateSync(facts, 100);
  const again = await load('tree', { memoryBytes: 0 });
  assert.deepEqual([again.said.length, again.set.fingerprint], [3, before.fingerprint]);
  writeFiles(path.join(root, 'tree'), { 'train/cat/x.png': await imageFile('png', 11) });
  const changed = await load('tree', { memoryBytes: 0 });
  assert.equal(changed.said.length, 3);
  assert.notEqual(changed.set.fingerprint, before.fingerprint);
});

test('by itself, what fits into the free memory stays there', async (t) => {
  const { root, load } = world(t);
  writeFiles(path.join(root, 'tree'), await smallTree());
  assert(!isStreamed((await load('tree', { memoryBytes: null })).set));
  const available = process.availableMemory;
  t.after(() => (process.availableMemory = available));
  process.availableMemory = () => 2 * 719;
  const { set, said } = await load('tree', { memoryBytes: null });
  assert(isStreamed(set));
  assert.deepEqual(said, [
    `${root}/tree: 5 images of 8x6 take 720 bytes decoded, more than half of the free memory: streamed, decoded anew in every epoch`,
  ]);
});

test('a split of more than 4 GiB is streamed however much memory there may be', async (t) => {
  const { root, load } = world(t);
  const damaged = (await imageFile('png', 1)).subarray(0, 60);
  const name = (i: number) => `${i}.png`;
  const cats = Array.from({ length: 86 }, (_, i) => [`train/cat/${name(i)}`, damaged]);
  writeFiles(path.join(root, 'tree'), { ...Object.fromEntries(cats), 'test/cat/0.png': damaged });
  const said: string[] = [];
  const options = {
    name: 'image-folder',
    path: path.join(root, 'tree'),
    seed: 0,
    size: 4096,
    memoryBytes: 1e15,
  } as const;
  const loading = loadDataSet(options, { cacheFolder: root, say: (line) => said.push(line) });
  await assert.rejects(loading, { code: 'DTRAIN_DATA_CORRUPT' });
  assert.equal(
    said[0],
    `${root}/tree: 87 images of 4096x4096 take 4,378,853,376 bytes decoded, more than 4 GiB for one split: streamed, decoded anew in every epoch`,
  );
  await assert.rejects(load('tree', { size: 4096 }), { code: 'DTRAIN_DATA_LIMIT' }); // whoever needs the pixels
});

test('pixels that are in no file of their own cannot be streamed', async (t) => {
  const { root, load } = world(t);
  const text = (where: string, bytes: number) =>
    `${where}: expected a data.memoryBytes of at least ${bytes}, got 5: only images in JPEG or PNG files can be streamed. Raise it, or take an image folder.`;
  await assert.rejects(
    loadDataSet({ name: 'synthetic', path: null, seed: 0, memoryBytes: 5 }, { cacheFolder: root, say: () => {} }),
    dataFault('DTRAIN_DATA_LIMIT', text('data.name: synthetic', 15_360_000)),
  );
  writeFiles(path.join(root, 'official'), officialFiles());
  const official = load('official', { name: 'cifar10', memoryBytes: 5 });
  await assert.rejects(official, dataFault('DTRAIN_DATA_LIMIT', text(path.join(root, 'official'), 184_320_000)));
});

test('an archive whose images do not even fit encoded', () => {
  const huge = { name: 'a', read: () => ({ length: 2 ** 33 }) as Uint8Array };
  const message =
    'set.tar: 1 packed images take 8,589,934,592 bytes: expected at most 4,294,967,296. Unpack them into an image folder (train/CLASS/*, test/CLASS/*).';
  assert.throws(() => encodedFiles('set.tar', [huge], false, null), dataFault('DTRAIN_DATA_LIMIT', message));
  assert.equal(encodedFiles('set', [huge], true, null).contents, null, 'files on disk are not read');
});

test('what is measured does not depend on the pieces', async (t) => {
  const { root } = world(t);
  writeFiles(root, await smallTree());
  const tree = arrangeTree(root, listTree(root));
  const whole = await decodeTree(root, tree, () => {});
  const expected = { normalization: measureNormalization(whole.train), fingerprint: fingerprintOf(whole) };
  const splitOf = (split: 'train' | 'test') => {
    const count = tree[split].length;
    const part = { count, height: 6, width: 8, channels: 3, labels: allocateLabels(count) } as const;
    fillLabels(tree, tree[split], part);
    return part;
  };
  const splits = { train: splitOf('train'), test: splitOf('test') };
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 1, max: 1000 }), async (pieceBytes) => {
      assert.deepEqual(await surveyTree(root, tree, splits, null, () => {}, pieceBytes), expected);
    }),
    { numRuns: 12 },
  );
});
