/** Data of one's own: images of any sizes, lists in CSV, CIFAR-100. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import sharp from 'sharp';
import { parseCsv } from '../src/data/csv-list.js';
import type { DataOptions } from '../src/data/data-set.js';
import { loadDataSet } from '../src/data/load-data-set.js';
import { imageFile, tarOf, temporaryFolder, writeFiles } from './support/data-fixtures.js';

const load = (t: TestContext, options: Partial<Omit<DataOptions, 'memoryBytes'>> & { path: string }) =>
  loadDataSet({ name: 'image-folder', seed: 0, ...options }, { cacheFolder: temporaryFolder(t), say: () => {} });

const messageOf = async (promise: Promise<unknown>) =>
  promise.then(
    () => assert.fail('expected an error'),
    (error: Error) => error.message,
  );

/** Left half red, right half green. */
async function halves(width: number, height: number): Promise<Uint8Array> {
  const pixels = Buffer.alloc(width * height * 3);
  for (let p = 0; p < width * height; p++) pixels[p * 3 + (p % width < width / 2 ? 0 : 1)] = 200;
  return sharp(pixels, { raw: { width, height, channels: 3 } })
    .png()
    .toBuffer();
}

test('images of different sizes are scaled until they cover the square, and their centre is cut out', async (t) => {
  const folder = temporaryFolder(t);
  writeFiles(folder, {
    'train/a/1.png': await halves(40, 20),
    'train/b/1.png': await halves(16, 64),
    'test/a/1.png': await halves(8, 8),
    'test/b/1.jpg': await imageFile('jpeg', 90, 100, { width: 33, height: 17 }),
  });
  const { train, test: tested, classes } = await load(t, { path: folder, size: 8 });
  assert.deepEqual([classes, train.count, train.height, train.width], [['a', 'b'], 2, 8, 8]);
  for (const image of [0, 1]) {
    const at = (x: number, c: number) => train.imagesNHWC[image * 192 + (4 * 8 + x) * 3 + c]!;
    assert(at(0, 0) > 180 && at(0, 1) < 20, `image ${image}: the left is red`);
    assert(at(7, 1) > 180 && at(7, 0) < 20, `image ${image}: the right is green`);
  }
  const [red, green] = tested.imagesNHWC.subarray(192, 194);
  assert(Math.abs(red! - 90) < 4 && Math.abs(green! - 100) < 4, `${red} ${green}`);

  const closer = await load(t, { path: folder, size: 8, resize: 16 }); // 40x20 becomes 32x16, its middle 8 columns are cut out
  const row = Array.from({ length: 8 }, (_, x) => closer.train.imagesNHWC[(4 * 8 + x) * 3]! > 100);
  assert.deepEqual(row, [true, true, true, true, false, false, false, false]);
  assert.equal(
    await messageOf(load(t, { path: folder })),
    `${path.join(folder, 'train/b/1.png')}: expected 40x20 pixels, got 16x64. All images of a set have one size: set data.size to scale them.`,
  );
  assert.equal(
    await messageOf(load(t, { path: folder, size: 8, resize: 4 })),
    `${folder}: expected data.resize of at least data.size, got data.size 8 and data.resize 4. Set both.`,
  );
});

test('each scaling is cached for itself', async (t) => {
  const folder = temporaryFolder(t);
  for (const place of ['train/a', 'train/b', 'test/a', 'test/b'])
    writeFiles(folder, { [`${place}/1.png`]: await halves(40, 20) });
  const env = { cacheFolder: temporaryFolder(t), say: (line: string) => said.push(line) };
  const said: string[] = [];
  const sizes = [];
  for (const size of [8, 10, 8, null])
    sizes.push((await loadDataSet({ name: 'image-folder', path: folder, seed: 0, size }, env)).train.height);
  assert.deepEqual(sizes, [8, 10, 8, 20]);
  assert.equal(said.filter((line) => line.includes('reading the data set')).length, 3);
});

test('a CSV of paths, labels and splits', async (t) => {
  const folder = temporaryFolder(t);
  writeFiles(folder, {
    'img/x.png': await imageFile('png', 10),
    'img/y, z.png': await imageFile('png', 20),
    'u.png': await imageFile('png', 30),
    'v.png': await imageFile('png', 40),
  });
  const list = path.join(folder, 'list.csv');
  fs.writeFileSync(
    list,
    'label,path,who,split\r\ncat,img/x.png,,train\r\ndog,"img/y, z.png",,train\r\ncat,u.png,,test\r\ndog,v.png,me,test\r\n',
  );
  const { classes, train, test: tested } = await load(t, { path: list });
  assert.deepEqual(
    [classes, [...train.labels], [...tested.labels]],
    [
      ['cat', 'dog'],
      [0, 1],
      [0, 1],
    ],
  );
  assert.deepEqual([train.imagesNHWC[0], train.imagesNHWC[144], tested.imagesNHWC[144]], [10, 20, 40]);

  const bad = async (text: string) => {
    fs.writeFileSync(list, text);
    return messageOf(load(t, { path: list }));
  };
  assert.equal(
    await bad('file,label\n'),
    `${list}:1: expected the columns path, label, split, got the columns file, label. Begin the file with a line such as path,label,split.`,
  );
  assert.equal(await bad('path,label,split\nu.png,cat,dev\n'), `${list}:2: split: expected train or test, got "dev".`);
  assert.equal(
    await bad('path,label,split\nu.png,,train\n'),
    `${list}:2: expected a path and a label, got "u.png,,train".`,
  );
  assert.equal(
    await bad('path,label,split\nno.png,cat,train\n'),
    `${list}:2: ${path.join(folder, 'no.png')}: expected an image, got nothing there. Check the path.`,
  );
});

test('quotes of RFC 4180', () => {
  assert.deepEqual(parseCsv('a,"b ""c"", d"\r\n"e\nf",\n'), [['a', 'b "c", d'], ['e\nf', ''], ['']]);
});

const NAMES = Buffer.from(Array.from({ length: 100 }, (_, i) => `class${i}\n`).join(''));

/** Record r: superclass 0, class r mod 100, planes of r, r + 1, r + 2 (mod 256). */
function records(count: number): Buffer {
  const bytes = Buffer.alloc(count * 3074);
  for (let r = 0; r < count; r++) {
    bytes[r * 3074 + 1] = r % 100;
    for (let c = 0; c < 3; c++) bytes.fill((r + c) % 256, r * 3074 + 2 + c * 1024, r * 3074 + 2 + (c + 1) * 1024);
  }
  return bytes;
}

test('CIFAR-100 from its folder or an archive of it', async (t) => {
  const folder = temporaryFolder(t);
  const files = { 'fine_label_names.txt': NAMES, 'train.bin': records(50_000), 'test.bin': records(10_000) };
  writeFiles(path.join(folder, 'cifar-100-binary'), files);
  const { classes, train, test: tested } = await load(t, { name: 'cifar100', path: folder });
  assert.deepEqual([classes.length, classes[99], train.count, tested.count], [100, 'class99', 50_000, 10_000]);
  assert.deepEqual([train.labels[101], ...train.imagesNHWC.subarray(101 * 3072, 101 * 3072 + 3)], [1, 101, 102, 103]);

  const archive = path.join(temporaryFolder(t), 'cifar-100-binary.tar');
  const short = { ...files, 'test.bin': records(3) };
  fs.writeFileSync(
    archive,
    await tarOf(Object.fromEntries(Object.entries(short).map(([name, bytes]) => [`cifar-100-binary/${name}`, bytes]))),
  );
  assert.equal(
    await messageOf(load(t, { name: 'cifar100', path: archive })),
    `${archive}/test.bin: expected 30,740,000 bytes, got 9,222. Replace it with an intact copy.`,
  );
  assert.equal(
    await messageOf(load(t, { name: 'cifar100', path: folder, size: 32 })),
    `${path.join(folder, 'cifar-100-binary')}: data.size and data.resize: expected null with cifar100. Leave it out, or set data.name=image-folder.`,
  );
});
