/** Where the data set is looked for, and in which order. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import type { DataName } from '../src/data/data-set.js';
import { locateData } from '../src/data/locate.js';
import { dataFault, temporaryFolder } from './support/data-fixtures.js';

/** A working folder and a cache folder; `search` looks from there. */
function world(t: TestContext, ...files: string[]) {
  const root = fs.realpathSync(temporaryFolder(t));
  const before = process.cwd();
  t.after(() => process.chdir(before));
  for (const file of files) {
    const isFolder = file.endsWith('/');
    fs.mkdirSync(path.join(root, isFolder ? file : path.dirname(file)), { recursive: true });
    if (!isFolder) fs.writeFileSync(path.join(root, file), '');
  }
  fs.mkdirSync(path.join(root, 'work'), { recursive: true });
  process.chdir(path.join(root, 'work'));
  const search = (name: DataName, named: string | null = null, DTRAIN_DATA?: string) => {
    const found = locateData({ name, path: named }, path.join(root, 'cache'), DTRAIN_DATA ? { DTRAIN_DATA } : {});
    return 'places' in found ? found : { kind: found.kind, path: path.relative(root, found.path) };
  };
  return { root, search };
}

const at = (kind: string, place: string) => ({ kind, path: place });

test('the order: data.path, DTRAIN_DATA, ./data, the cache folder', (t) => {
  const archive = 'cifar-10-binary.tar.gz';
  const places = ['named', 'env', 'work/data', 'cache/data'].map((folder) => `${folder}/${archive}`);
  const { root, search } = world(t, ...places);
  const [named, fromEnvironment] = [path.join(root, 'named'), path.join(root, 'env')];
  assert.deepEqual(search('cifar10', named, fromEnvironment), at('archive', places[0]!));
  assert.deepEqual(search('cifar10', null, fromEnvironment), at('archive', places[1]!));
  assert.deepEqual(search('cifar10'), at('archive', places[2]!));
  fs.rmSync(path.join(root, 'work/data'), { recursive: true });
  assert.deepEqual(search('cifar10'), at('archive', places[3]!));
});

const FOUND: [what: string, name: DataName, files: string[], kind: string, place: string][] = [
  ['an archive by its own name', 'cifar10', ['set/anything.bin'], 'archive', 'set/anything.bin'],
  ['a folder with official files', 'cifar10', ['set/data_batch_2.bin'], 'official-folder', 'set'],
  [
    'the official folder inside',
    'cifar10',
    ['set/cifar-10-batches-bin/test_batch.bin'],
    'official-folder',
    'set/cifar-10-batches-bin',
  ],
  ['a tree', 'cifar10', ['set/train/airplane/', 'set/test/airplane/'], 'tree', 'set'],
  ['a tree inside', 'cifar10', ['set/cifar10/train/airplane/', 'set/cifar10/test/'], 'tree', 'set/cifar10'],
  [
    'the official archive before another',
    'cifar10',
    ['set/cifar-10-a.tar', 'set/cifar-10-binary.tar.gz'],
    'archive',
    'set/cifar-10-binary.tar.gz',
  ],
  [
    'an archive of CIFAR-10 among others',
    'cifar10',
    ['set/a.tar', 'set/cifar-100.tar', 'set/my_CIFAR10.txz'],
    'archive',
    'set/my_CIFAR10.txz',
  ],
  ['a tree of anything', 'image-folder', ['set/train/cat/', 'set/test/cat/'], 'tree', 'set'],
  ['the only archive', 'image-folder', ['set/pets.tar.xz', 'set/notes.txt'], 'archive', 'set/pets.tar.xz'],
  ['the only tree', 'image-folder', ['set/pets/train/cat/', 'set/pets/test/'], 'tree', 'set/pets'],
];

for (const [what, name, files, kind, place] of FOUND) {
  test(`found: ${what}`, (t) => {
    const { root, search } = world(t, ...files);
    const named = what === 'an archive by its own name' ? files[0]! : 'set';
    assert.deepEqual(search(name, path.join(root, named)), at(kind, place));
  });
}

const CIFAR10 =
  'CIFAR-10 (the official binary archive or its folder, train/CLASS and test/CLASS with images, or a tar of these)';
const ONE_SET =
  'one data set (train/CLASS and test/CLASS with images, one tar of these, or train*.parquet and test*.parquet)';
const REFUSED: [what: string, name: DataName, files: string[], expected: string, got: string][] = [
  ['an empty folder', 'cifar10', ['set/'], CIFAR10, 'an empty folder'],
  [
    'other data',
    'cifar10',
    ['set/d', 'set/a', 'set/cifar-100.tar', 'set/cifar-100-python.tar.gz'],
    CIFAR10,
    'a folder with a, cifar-100-python.tar.gz, cifar-100.tar and 1 more',
  ],
  ['two archives', 'image-folder', ['set/a.tar', 'set/b.tar'], ONE_SET, 'a folder with a.tar, b.tar'],
];

for (const [what, name, files, expected, got] of REFUSED) {
  test(`refused where the user named it: ${what}`, (t) => {
    const { root, search } = world(t, ...files);
    const set = path.join(root, 'set');
    const message = `${set}: expected ${expected}, got ${got}. Name the archive or the folder itself.`;
    assert.throws(() => search(name, set), dataFault('DTRAIN_DATA_LAYOUT', `data.path: ${message}`));
    assert.throws(() => search(name, null, set), dataFault('DTRAIN_DATA_LAYOUT', `DTRAIN_DATA: ${message}`));
  });
}

test('a path that is not there', (t) => {
  const { search } = world(t);
  const message = '/no/such/place: expected a file or folder, got nothing there. Check the path.';
  assert.throws(() => search('cifar10', '/no/such/place'), dataFault('DTRAIN_DATA_PATH', `data.path: ${message}`));
  assert.throws(
    () => search('image-folder', null, '/no/such/place'),
    dataFault('DTRAIN_DATA_PATH', `DTRAIN_DATA: ${message}`),
  );
});

test('a place that cannot be looked at', (t) => {
  const { root, search } = world(t);
  fs.symlinkSync('data', 'data');
  const what = `ELOOP: too many symbolic links encountered, stat '${path.join(root, 'work/data')}'`;
  const message = `data: ${what}. Make it readable, or set data.path.`;
  assert.throws(() => search('cifar10'), dataFault('DTRAIN_DATA_PATH', message));
});

test('places that only may hold it are passed over', (t) => {
  const { root, search } = world(
    t,
    'work/data/pets/train/cat/',
    'work/data/pets/test/',
    'work/data/pets.tar',
    'cache/data/',
  );
  const places = [
    { place: 'data.path', got: 'not set' },
    { place: '$DTRAIN_DATA', got: 'not set' },
    { place: './data', got: 'nothing usable' },
    { place: path.join(root, 'cache/data'), got: 'nothing usable' },
  ];
  assert.deepEqual(search('cifar10'), { places });
  assert.deepEqual(search('image-folder'), { places });
  fs.rmSync(path.join(root, 'cache'), { recursive: true });
  assert.deepEqual(search('cifar10'), {
    places: [...places.slice(0, 3), { place: places[3]!.place, got: 'not there' }],
  });
});
