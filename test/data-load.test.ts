/** The whole story: find, decode, keep, read again; and what is said and thrown on the way. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { CIFAR10_CLASSES, CIFAR10_NORMALIZATION } from '../src/data/cifar10.js';
import { allocateImageSet, type DataName, type DataSet } from '../src/data/data-set.js';
import { cacheFileOf } from '../src/data/decoded-cache.js';
import type { RemoteFile } from '../src/data/download.js';
import { loadDataSet } from '../src/data/load-data-set.js';
import { SYNTHETIC_VERSION } from '../src/data/synthetic.js';
import {
  dataFault,
  type Files,
  gzip,
  imageFile,
  officialFiles,
  smallTree,
  tarOf,
  temporaryFolder,
  toXz,
  writeFiles,
} from './support/data-fixtures.js';

delete process.env['DTRAIN_DATA'];

interface LoadOptions {
  readonly archive?: RemoteFile;
  readonly onLine?: (line: string) => void;
}

/** A folder to work in; `load` reads with a cache of its own and notes what is said. */
function world(t: TestContext) {
  const root = fs.realpathSync(temporaryFolder(t));
  const before = process.cwd();
  process.chdir(root);
  t.after(() => process.chdir(before));
  const cacheFolder = path.join(root, 'cache');
  const load = async (name: DataName, named: string | null, { archive, onLine }: LoadOptions = {}) => {
    const said: string[] = [];
    const say = (line: string) => {
      said.push(line.replace(/\d+\.\d s$/, 'N s'));
      onLine?.(line);
    };
    return { set: await loadDataSet({ name, path: named, seed: 0 }, { cacheFolder, say }, archive), said };
  };
  return { root, cacheFolder, load };
}

async function cifarTree(): Promise<Files> {
  const files: Record<string, Uint8Array> = {};
  for (const [label, name] of CIFAR10_CLASSES.entries()) {
    files[`train/${name}/1.png`] = await imageFile('png', label, 10, { width: 32, height: 32 });
    files[`test/${name}/1.png`] = await imageFile('png', label, 20, { width: 32, height: 32 });
  }
  return files;
}

const plain = ({ imagesNHWC, labels }: DataSet['train']) => [[...imagesNHWC], [...labels]];

test('a tree, as a folder and in every kind of archive: the same set', async (t) => {
  const { root, load } = world(t);
  const files = await smallTree();
  const tar = await tarOf(files);
  writeFiles('tree', files);
  writeFiles('.', { 'a.tar': tar, 'b.tar.gz': gzip(tar), 'c.tar.xz': await toXz(tar) });
  const { set: fromFolder } = await load('image-folder', 'tree');
  assert.equal(fromFolder.source, 'tree');
  assert.deepEqual(fromFolder.classes, ['cat', 'dog']);
  assert.deepEqual(fromFolder.normalization, { mean: [0.0784, 0.3922, 0.1961], std: [0.032, 1, 1] });
  for (const file of ['a.tar', 'b.tar.gz', path.join(root, 'c.tar.xz')]) {
    const { set } = await load('image-folder', file);
    assert.deepEqual(set, { ...fromFolder, source: file });
    assert.match(set.fingerprint, /^[0-9a-f]{64}$/);
  }
});

test('read once, then taken from the cache', async (t) => {
  const { load, cacheFolder } = world(t);
  writeFiles('tree', await smallTree());
  const cacheFile = cacheFileOf('tree', cacheFolder);
  const first = await load('image-folder', 'tree');
  assert.deepEqual(first.said, [
    `tree: reading the data set; the next run takes it from ${cacheFile}`,
    'tree: 5 images read in N s',
  ]);
  const second = await load('image-folder', 'tree');
  assert.deepEqual(second.said, []);
  assert.deepEqual(second.set, first.set);
});

test('read again when a file has changed, come or gone, and when the cached file is damaged', async (t) => {
  const { load, cacheFolder } = world(t);
  writeFiles('tree', await smallTree());
  const cacheFile = cacheFileOf('tree', cacheFolder);
  const { set: before } = await load('image-folder', 'tree');

  writeFiles('tree', { 'train/cat/y.png': await imageFile('png', 99) });
  const { set: grown } = await load('image-folder', 'tree');
  assert.equal(grown.train.count, 4);
  fs.rmSync('tree/train/cat/y.png');
  const { set: again } = await load('image-folder', 'tree');
  assert.deepEqual(plain(again.train), plain(before.train));

  fs.utimesSync('tree/train/cat/x.png', 1, 1);
  assert.equal((await load('image-folder', 'tree')).said.length, 2);

  fs.truncateSync(cacheFile, 1200);
  const { said, set } = await load('image-folder', 'tree');
  assert.match(
    said[0]!,
    /^.*\.bin: the cached data set is damaged \(expected 1,\d{3} bytes, got 1,200\); it is made again$/,
  );
  assert.equal(said.length, 3);
  assert.equal(set.fingerprint, before.fingerprint);
  assert.deepEqual((await load('image-folder', 'tree')).said, []);
});

test('files that change while they are read', async (t) => {
  const { load, cacheFolder } = world(t);
  writeFiles('tree', await smallTree());
  const onLine = () => fs.utimesSync('tree/train/cat/x.png', 1, 1);
  const message = 'tree: expected files at rest, one changed while they were read. Run dtrain again.';
  await assert.rejects(load('image-folder', 'tree', { onLine }), dataFault('DTRAIN_DATA_CORRUPT', message));
  assert.ok(!fs.existsSync(cacheFileOf('tree', cacheFolder)), 'nothing was kept');
});

test('more than fits into shared memory', () => {
  const sizes = '30,000 images of 224x224 take 4,515,840,000 bytes: expected at most 4,294,967,296 (4 GiB)';
  const message = `data: ${sizes}. Use fewer or smaller images.`;
  const allocate = () => allocateImageSet({ count: 30_000, height: 224, width: 224 });
  assert.throws(allocate, dataFault('DTRAIN_DATA_LIMIT', message));
});

test('a cache that cannot be written costs a line, not the run', async (t) => {
  const { load, cacheFolder } = world(t);
  writeFiles('tree', await smallTree());
  fs.writeFileSync(cacheFolder, 'a file in the way');
  const { said, set } = await load('image-folder', 'tree');
  assert.equal(set.train.count, 3);
  const cacheFile = cacheFileOf('tree', cacheFolder);
  const cure = 'Free space or make the folder writable, or set DTRAIN_HOME to another cache folder.';
  assert.equal(said.at(-1), `the decoded data set is not kept: ${cacheFile}: cannot be written (ENOTDIR). ${cure}`);
});

test('the official archive and folder: the same set', async (t) => {
  const { load } = world(t);
  const files = officialFiles();
  const inFolder = Object.entries(files).map(([name, bytes]) => [`cifar-10-batches-bin/${name}`, bytes]);
  const readme = { 'cifar-10-batches-bin/readme.html': new Uint8Array(10) };
  writeFiles('data', { 'cifar-10-binary.tar.gz': gzip(await tarOf({ ...Object.fromEntries(inFolder), ...readme })) });
  const { set: fromArchive } = await load('cifar10', null);
  writeFiles('folder', files);
  const { set: fromFolder } = await load('cifar10', 'folder');
  assert.deepEqual([fromArchive.train.count, fromArchive.test.count], [50_000, 10_000]);
  assert.equal(fromArchive.fingerprint, fromFolder.fingerprint);
  assert.deepEqual(fromArchive.normalization, CIFAR10_NORMALIZATION);
  assert.equal(fromArchive.source, path.resolve('data/cifar-10-binary.tar.gz'));
});

test('an official archive with a file that is cut, or missing', async (t) => {
  const { load } = world(t);
  const files = Object.fromEntries(Object.entries(officialFiles()).map(([name, bytes]) => [`x/${name}`, bytes]));
  const cut = { ...files, 'x/data_batch_3.bin': files['x/data_batch_3.bin']!.subarray(0, 30_729_999) };
  writeFiles('.', { 'cut.tar': await tarOf(cut) });
  const cutMessage =
    'cut.tar/x/data_batch_3.bin: expected 30,730,000 bytes, got 30,729,999. Replace it with an intact copy.';
  await assert.rejects(load('cifar10', 'cut.tar'), dataFault('DTRAIN_DATA_TRUNCATED', cutMessage));

  const { 'x/test_batch.bin': _, ...five } = files;
  writeFiles('.', { 'five.tar': await tarOf(five) });
  const fiveMessage = 'five.tar: expected test_batch.bin once, got it 0 times. Replace it with an intact copy.';
  await assert.rejects(load('cifar10', 'five.tar'), dataFault('DTRAIN_DATA_LAYOUT', fiveMessage));
});

test('CIFAR-10 as a tree has the constants in use, as an image folder its own', async (t) => {
  const { load } = world(t);
  writeFiles('data/cifar10', await cifarTree());
  const { set } = await load('cifar10', null);
  assert.deepEqual(set.normalization, CIFAR10_NORMALIZATION);
  assert.deepEqual([...set.train.labels], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  const { set: asFolder, said } = await load('image-folder', 'data/cifar10');
  assert.deepEqual(asFolder.normalization.mean, [0.0176, 0.0392, 0.1961]);
  assert.equal(asFolder.fingerprint, set.fingerprint);
  assert.deepEqual(said, [], 'both names share the cached file');
});

test('another set under the name of CIFAR-10', async (t) => {
  const { load } = world(t);
  writeFiles('.', { 'pets.tar': await tarOf(await smallTree()) });
  const sizes = 'expected the ten classes of CIFAR-10 in 32x32 pixels, got 2 classes (cat, dog, ...) of 8x6 pixels';
  const message = `pets.tar: ${sizes}. Set data.name=image-folder.`;
  await assert.rejects(load('cifar10', 'pets.tar'), dataFault('DTRAIN_DATA_LAYOUT', message));
});

test('an archive with neither images nor official files', async (t) => {
  const { load } = world(t);
  writeFiles('.', { 'x.tar': await tarOf({ 'notes/cat/1.png': new Uint8Array(4) }) });
  const cure = 'Lay the images out as train/CLASS/*.jpg|png and test/CLASS/*, every class in both.';
  const message = `x.tar: expected images in train/CLASS/ and test/CLASS/, got none. ${cure}`;
  await assert.rejects(load('cifar10', 'x.tar'), dataFault('DTRAIN_DATA_LAYOUT', message));
});

test('the official Python archive, damaged', async (t) => {
  const { load } = world(t);
  writeFiles('.', { 'x.tar': await tarOf({ 'cifar-10-batches-py/data_batch_1': new Uint8Array(4) }) });
  const got = 'expected a pickle of images, opcode 0x0 is not one that data needs';
  const message = `x.tar/data_batch_1: ${got}. Replace it with an intact copy.`;
  await assert.rejects(load('cifar10', 'x.tar'), dataFault('DTRAIN_DATA_CORRUPT', message));
});

test('a broken image in an archive is named', async (t) => {
  const { load } = world(t);
  writeFiles('.', { 'x.tar': await tarOf({ ...(await smallTree()), 'train/dog/c.png': Buffer.from('oh') }) });
  const got = 'expected a JPEG or PNG image, got 2 bytes that begin with 6f68';
  const message = `x.tar/train/dog/c.png: ${got}. Replace or remove it.`;
  await assert.rejects(load('image-folder', 'x.tar'), dataFault('DTRAIN_DATA_CORRUPT', message));
});

const UNREACHABLE = { url: 'https://127.0.0.1:1/set.tar.gz', fileName: 'set.tar.gz', bytes: 1, sha256: '' };

test('nothing on disk and no network', async (t) => {
  const { load, cacheFolder } = world(t);
  const lines = [
    'data: expected cifar10 in one of these places, got:',
    '  data.path: not set',
    '  $DTRAIN_DATA: not set',
    '  ./data: not there',
    `  ${cacheFolder}/data: not there`,
    '  https://127.0.0.1:1/set.tar.gz: connect ECONNREFUSED 127.0.0.1:1',
    'Set DTRAIN_DATA or data.path to its folder or archive, or connect to the network, or train on generated images with data.name=synthetic.',
  ];
  await assert.rejects(
    load('cifar10', null, { archive: UNREACHABLE }),
    dataFault('DTRAIN_DATA_NOT_FOUND', lines.join('\n')),
  );
  const folder = [
    lines[0]!.replace('cifar10', 'image-folder'),
    ...lines.slice(1, 5),
    'Set DTRAIN_DATA or data.path to its folder or archive, or train on generated images with data.name=synthetic.',
  ];
  await assert.rejects(load('image-folder', null), dataFault('DTRAIN_DATA_NOT_FOUND', folder.join('\n')));
});

test('a cache with a damaged download says how to fetch it again', async (t) => {
  const { load, cacheFolder } = world(t);
  const file = path.join(cacheFolder, 'data', 'cifar-10-binary.tar.gz');
  writeFiles(cacheFolder, { 'data/cifar-10-binary.tar.gz': gzip(new Uint8Array(5000)).subarray(0, 20) });
  const message = `${file}: archive: expected its end, it stops after 20 bytes. Delete it and run dtrain again to fetch it.`;
  await assert.rejects(load('cifar10', null), dataFault('DTRAIN_DATA_TRUNCATED', message));
});

test('synthetic needs no disk', async (t) => {
  const { load, cacheFolder } = world(t);
  const { set, said } = await load('synthetic', null);
  assert.equal(set.source, 'synthetic (seed 0)');
  assert.deepEqual([set.train.count, set.test.count, set.classes.length], [4000, 1000, 10]);
  assert.deepEqual(said, []);
  const again = await load('synthetic', null);
  assert.deepEqual([again.set, again.said], [set, []], 'the same from the cache');
  const file = path.join(cacheFolder, 'decoded', 'synthetic-0.bin');
  assert.ok(fs.existsSync(file));
  fs.rmSync(cacheFolder, { recursive: true });
  fs.writeFileSync(cacheFolder, 'a file, so that nothing can be kept');
  const without = await load('synthetic', null);
  assert.deepEqual([without.set.fingerprint, without.said], [set.fingerprint, []]);
});

test('what synthetic paints has not changed without another SYNTHETIC_VERSION, by which caches know it', async (t) => {
  const { set } = await world(t).load('synthetic', null);
  const known: Readonly<Record<number, string>> = {
    1: 'e809bb75f56994ef2c27dbaf16406183e3e8e3a7cd5d02c35c8a1f861c6cca51',
  };
  assert.equal(set.fingerprint, known[SYNTHETIC_VERSION]);
});
