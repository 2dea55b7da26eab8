/** Image-folder trees: which files, in which order, and what is wrong with a tree. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { arrangeTree, decodeTree, listTree, parseTreePath, type TreeEntry } from '../src/data/image-tree.js';
import { dataFault, imageFile, smallTree, temporaryFolder, writeFiles } from './support/data-fixtures.js';

const CURE = 'Lay the images out as train/CLASS/*.jpg|png and test/CLASS/*, every class in both.';

const entriesOf = (...paths: string[]): TreeEntry[] =>
  paths.map((name) => ({ ...parseTreePath(name)!, image: { name, read: () => new Uint8Array() } }));
const pathsOf = (entries: readonly TreeEntry[]) => entries.map(({ image }) => image.name);

test('a path in a tree', () => {
  const cat = { split: 'train', className: 'cat', fileName: '1.jpg' };
  assert.deepEqual(parseTreePath('train/cat/1.jpg'), cat);
  assert.deepEqual(parseTreePath('pets/v2/train/cat/1.jpg'), cat);
  assert.deepEqual(parseTreePath('test/a b/ü.JPEG'), { split: 'test', className: 'a b', fileName: 'ü.JPEG' });
  assert.deepEqual(parseTreePath('test/cat/1.PNG')?.fileName, '1.PNG');
  const others = ['cat/1.jpg', 'train/1.jpg', 'val/cat/1.jpg', 'train/cat/kittens/1.jpg', 'train/cat/1.txt'];
  for (const other of [...others, 'train/cat/._1.jpg', 'train/.git/1.jpg', '', 'README.md']) {
    assert.equal(parseTreePath(other), undefined, other);
  }
});

test('classes by name, then files by name, whatever the order on disk', () => {
  const inOrder = ['train/B/1.png', 'train/a/1.png', 'train/a/10.png', 'train/a/2.png', 'train/é/1.png'];
  const tests = ['test/B/1.png', 'test/a/1.png', 'test/é/1.png'];
  for (const shuffled of [[...inOrder, ...tests], [...inOrder, ...tests].reverse()]) {
    const tree = arrangeTree('pets', entriesOf(...shuffled));
    assert.deepEqual(tree.classes, ['B', 'a', 'é']);
    assert.deepEqual(pathsOf(tree.train), inOrder);
    assert.deepEqual(pathsOf(tree.test), tests);
  }
});

const FAULTY: [what: string, paths: string[], message: string][] = [
  ['nothing in it', [], `pets: expected images in train/CLASS/ and test/CLASS/, got none. ${CURE}`],
  [
    'a class without test images',
    ['train/cat/1.png', 'train/dog/1.png', 'test/cat/1.png'],
    `pets: class "dog": expected images in train/ and test/, got none in test/dog/. ${CURE}`,
  ],
  [
    'a class without training images',
    ['train/cat/1.png', 'test/cow/1.png', 'test/cat/1.png'],
    `pets: class "cow": expected images in train/ and test/, got none in train/cow/. ${CURE}`,
  ],
  [
    'no test images at all',
    ['train/cat/1.png'],
    `pets: class "cat": expected images in train/ and test/, got none in test/cat/. ${CURE}`,
  ],
  [
    'a file twice',
    ['train/cat/1.png', 'a/train/cat/1.png', 'test/cat/1.png'],
    'pets: train/cat/1.png: expected it once, got it twice. Pack the tree anew.',
  ],
];

for (const [what, paths, message] of FAULTY) {
  test(`refused: ${what}`, () => {
    assert.throws(() => arrangeTree('pets', entriesOf(...paths)), dataFault('DTRAIN_DATA_LAYOUT', message));
  });
}

test('a folder: pixels and labels in order', async (t) => {
  const folder = temporaryFolder(t);
  const ignored = {
    'train/cat/notes.txt': new Uint8Array(3),
    'train/README.md': new Uint8Array(1),
    'train/.x/1.png': new Uint8Array(1),
  };
  writeFiles(folder, { ...(await smallTree()), ...ignored });
  const set = await decodeTree(folder, arrangeTree(folder, listTree(folder)), () => assert.fail('nothing to say'));
  assert.deepEqual(set.classes, ['cat', 'dog']);
  const redOf = (images: Uint8Array) => [...images].filter((_, at) => at % (8 * 6 * 3) === 0);
  assert.deepEqual(redOf(set.train.imagesNHWC), [10, 20, 30]);
  assert.deepEqual([...set.train.labels], [0, 1, 1]);
  assert.deepEqual(redOf(set.test.imagesNHWC), [40, 50]);
  assert.deepEqual([...set.test.labels], [0, 1]);
  const { count, height, width, channels } = set.train;
  assert.deepEqual({ count, height, width, channels }, { count: 3, height: 6, width: 8, channels: 3 });
  assert.ok(set.train.imagesNHWC.buffer instanceof SharedArrayBuffer && set.train.imagesNHWC.byteOffset === 0);
  assert.ok(set.train.labels.buffer instanceof SharedArrayBuffer);
});

test('a line now and then', async (t) => {
  const folder = temporaryFolder(t);
  writeFiles(folder, await smallTree());
  const said: string[] = [];
  let seconds = 0;
  const everyThree = () => (seconds += 3);
  await decodeTree('pets', arrangeTree(folder, listTree(folder)), (line) => said.push(line), null, everyThree);
  assert.ok(said.length > 0 && said.length <= 3);
  for (const line of said) assert.match(line, /^pets: [1-5] of 5 images decoded$/);
});

test('an image that is gone when it is to be read', async (t) => {
  const folder = temporaryFolder(t);
  writeFiles(folder, await smallTree());
  const tree = arrangeTree(folder, listTree(folder));
  const file = path.join(folder, 'test/cat/a.png');
  fs.rmSync(file);
  const what = `ENOENT: no such file or directory, open '${file}'`;
  const message = `${file}: cannot be read (${what}). Replace or remove it.`;
  await assert.rejects(
    decodeTree(folder, tree, () => {}),
    dataFault('DTRAIN_DATA_PATH', message),
  );
});

test('an image of another size, in the test split too', async (t) => {
  const folder = temporaryFolder(t);
  writeFiles(folder, {
    ...(await smallTree()),
    'test/dog/a.png': await imageFile('png', 1, 1, { width: 6, height: 8 }),
  });
  const file = path.join(folder, 'test/dog/a.png');
  const message = `${file}: expected 8x6 pixels, got 6x8. All images of a set have one size: set data.size to scale them.`;
  await assert.rejects(
    async () => decodeTree(folder, arrangeTree(folder, listTree(folder)), () => {}),
    dataFault('DTRAIN_DATA_LAYOUT', message),
  );
});

test('a link to nothing', async (t) => {
  const folder = temporaryFolder(t);
  writeFiles(folder, await smallTree());
  fs.symlinkSync('nowhere.png', path.join(folder, 'train/cat/gone.png'));
  const what = `ENOENT: no such file or directory, stat '${path.join(folder, 'train/cat/gone.png')}'`;
  assert.throws(
    () => listTree(folder),
    dataFault('DTRAIN_DATA_PATH', `${folder}: cannot be listed (${what}). Repair or remove it.`),
  );
});
