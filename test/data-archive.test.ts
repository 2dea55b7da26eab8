/** Archives: what is read, and what is refused. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { packTar } from 'modern-tar';
import { DtrainError } from '../src/core/errors.js';
import { ARCHIVE_LIMITS, readArchive } from '../src/data/archive.js';
import { declaredXzSize } from '../src/data/xz.js';
import { dataFault, gzip, tarOf, temporaryFolder, toXz } from './support/data-fixtures.js';

const CURE = 'Replace it.';
const text = (value: string) => Buffer.from(value);
const FILES = {
  'a/one.txt': text('1'),
  './a/b/two.txt': text('22'),
  'a/empty.txt': text(''),
  'three.txt': text('333'),
};
const PACKERS = { tar: async (bytes: Uint8Array) => bytes, gz: async (bytes: Uint8Array) => gzip(bytes), xz: toXz };

async function readAll(file: string): Promise<Record<string, string>> {
  const members = await readArchive(file, () => true, CURE);
  return Object.fromEntries(members.map(({ path: name, bytes }) => [name, Buffer.from(bytes).toString()]));
}

for (const [extension, pack] of Object.entries(PACKERS)) {
  const archive = async (folder: string, bytes: Uint8Array) => {
    const file = path.join(folder, 'set.any'); // the name does not matter
    fs.writeFileSync(file, bytes);
    return file;
  };

  test(`${extension}: files with plain paths`, async (t) => {
    const file = await archive(temporaryFolder(t), await pack(await tarOf(FILES)));
    const expected = { 'a/one.txt': '1', 'a/b/two.txt': '22', 'a/empty.txt': '', 'three.txt': '333' };
    assert.deepEqual(await readAll(file), expected);
  });

  test(`${extension}: only what is wanted`, async (t) => {
    const file = await archive(temporaryFolder(t), await pack(await tarOf(FILES)));
    const asked: [string, number][] = [];
    const members = await readArchive(file, (name, bytes) => asked.push([name, bytes]) > 3, CURE);
    assert.deepEqual(
      members.map(({ path: name }) => name),
      ['three.txt'],
    );
    assert.deepEqual(asked.slice(0, 2), [
      ['a/one.txt', 1],
      ['a/b/two.txt', 2],
    ]);
  });

  test(`${extension}: cut anywhere it is an error, and never anything else`, async (t) => {
    const folder = temporaryFolder(t);
    const whole = await pack(await tarOf({ ...FILES, 'noise.bin': noise(3000) }));
    const cuts = fc.integer({ min: 1, max: whole.length - 1 });
    await fc.assert(
      fc.asyncProperty(cuts, async (length) => {
        const file = await archive(folder, whole.subarray(0, length));
        await assert.rejects(readAll(file), (error) => {
          assert.ok(error instanceof DtrainError && error.exitCode === 5);
          assert.match(error.code, /^DTRAIN_DATA_(TRUNCATED|CORRUPT)$/);
          return error.message.startsWith(`${file}: `) && error.message.endsWith(` ${CURE}`);
        });
      }),
      { numRuns: 60 },
    );
  });

  test(`${extension}: a flipped bit gives the right files or a data error`, async (t) => {
    const folder = temporaryFolder(t);
    const whole = await pack(await tarOf({ ...FILES, 'noise.bin': noise(3000) }));
    await fc.assert(
      fc.asyncProperty(fc.nat(whole.length - 1), fc.nat(7), async (at, bit) => {
        const flipped = Buffer.from(whole);
        flipped[at]! ^= 1 << bit;
        const file = await archive(folder, flipped);
        const error = await readAll(file).then(
          () => undefined,
          (error: unknown) => error,
        );
        assert.ok(error === undefined || (error instanceof DtrainError && error.exitCode === 5), String(error));
      }),
      { numRuns: 100 },
    );
  });

  test(`${extension}: bytes after the end`, async (t) => {
    const folder = temporaryFolder(t);
    const file = await archive(folder, Buffer.concat([await pack(await tarOf(FILES)), text('more of it')]));
    await assert.rejects(readAll(file), { exitCode: 5, code: /^DTRAIN_DATA_(TOO_LONG|CORRUPT|TRUNCATED)$/ });
  });
}

/** A GNU tar with a folder, a text and a long name, packed by liblzma (Python's tarfile and lzma). */
const GNU_XZ = [
  '/Td6WFoAAATm1rRGAgAhARwAAAAQz1jM4Cf/ALtdABcLyweBYVnn1BoR5RnepkHu5yCQr5ZBFcCk3kcWyxAF8FkGBkjfESB5Gv5p',
  'DLUeWsfYFWCeh1vlJQX1edBJdfiSBsAfrhXfqMmFEpOQga3gLe0AVvrAXEhyKeZc6xCkXT3Dqoi6i8JTtBRLwZhuIjnF4rjjiwa5',
  'KCcidpJe9AbwzmhXjz3yrhZZH2vVN60tPOFWJuacet1A9F5deYTCin3UHZHa2qZKF7oym+5+/2gitEbKvm0IWvCOxgAAAMk8aF4Q',
  '1sjUAAHXAYBQAABxSetwscRn+wIAAAAABFla',
].join('');

test('an archive that other tools made, really packed', async (t) => {
  const file = path.join(temporaryFolder(t), 'set.tar.xz');
  fs.writeFileSync(file, Buffer.from(GNU_XZ, 'base64'));
  const expected = { 'train/cat/note.txt': 'purr '.repeat(200), [`${'long/'.repeat(30)}name.txt`]: 'x' };
  assert.deepEqual(await readAll(file), expected);
  assert.equal(declaredXzSize(fs.readFileSync(file)), 10_240);
});

test('the messages for an archive that ends early', async (t) => {
  const folder = temporaryFolder(t);
  for (const [extension, pack] of Object.entries(PACKERS)) {
    const file = path.join(folder, `set.${extension}`);
    const whole = await pack(await tarOf({ 'noise.bin': noise(3000) }));
    fs.writeFileSync(file, whole.subarray(0, 2000));
    const message = `${file}: archive: expected its end, it stops after 2,000 bytes. ${CURE}`;
    await assert.rejects(readAll(file), dataFault('DTRAIN_DATA_TRUNCATED', message));
  }
});

test('a gzip file that is followed by zeros', async (t) => {
  const file = path.join(temporaryFolder(t), 'set.tar.gz');
  const packed = gzip(await tarOf(FILES));
  fs.writeFileSync(file, Buffer.concat([packed, Buffer.alloc(100)]));
  const sizes = `expected its end after ${packed.length} bytes, got ${packed.length + 100}`;
  await assert.rejects(readAll(file), dataFault('DTRAIN_DATA_TOO_LONG', `${file}: archive: ${sizes}. ${CURE}`));
});

test('something else than an archive', async (t) => {
  const file = path.join(temporaryFolder(t), 'notes.tar');
  fs.writeFileSync(file, 'not an archive at all. '.repeat(100));
  const message = `${file}: expected a sound .tar, .tar.gz or .tar.xz, got "Invalid tar number". ${CURE}`;
  await assert.rejects(readAll(file), dataFault('DTRAIN_DATA_CORRUPT', message));
});

const CURE_PACK = 'Pack the data set anew, with plain files and folders only.';
const HARMFUL: [what: string, name: string, type: 'file' | 'symlink' | 'link' | 'fifo', message: string][] = [
  ['a symbolic link', 'a', 'symlink', 'expected a file or a folder, got a symlink'],
  ['a hard link', 'a', 'link', 'expected a file or a folder, got a link'],
  ['a pipe', 'a', 'fifo', 'expected a file or a folder, got a fifo'],
  ['an absolute path', '/etc/passwd', 'file', 'expected a path inside the archive'],
  ['a path that climbs out', 'train/../../x', 'file', 'expected a path inside the archive'],
];

for (const [what, name, type, message] of HARMFUL) {
  test(`refused: ${what}`, async (t) => {
    const file = path.join(temporaryFolder(t), 'set.tar');
    fs.writeFileSync(file, await packTar([{ header: { name, type, size: 0, linkname: 'b' } }]));
    const whole = `${file}: member "${name}": ${message}. ${CURE_PACK}`;
    await assert.rejects(readAll(file), dataFault('DTRAIN_DATA_LAYOUT', whole));
  });
}

const CURE_LIMIT = 'Unpack it yourself and give the folder, if you trust it.';

test('refused: a member that is too large, before it is read', async (t) => {
  const file = path.join(temporaryFolder(t), 'set.tar');
  const header = Buffer.from(await packTar([{ header: { name: 'a', size: 0 } }]));
  header.write((ARCHIVE_LIMITS.memberBytes + 1).toString(8).padStart(11, '0'), 124, 'latin1');
  header.fill(' ', 148, 156);
  const sum = header.subarray(0, 512).reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  fs.writeFileSync(file, header);
  const message = `${file}:a: expected at most 268,435,456 bytes, got more. ${CURE_LIMIT}`;
  await assert.rejects(readAll(file), dataFault('DTRAIN_DATA_LIMIT', message));
});

/** What the message says of a bomb of `packed` bytes. */
const bombMessage = (file: string, packed: number) =>
  `${file}: expected at most 250 times its ${packed.toLocaleString('en-US')} bytes when unpacked, got more. ${CURE_LIMIT}`;

test('refused: a bomb in gzip', async (t) => {
  const file = path.join(temporaryFolder(t), 'set.tar.gz');
  const packed = gzipSync(await tarOf({ 'zeros.bin': new Uint8Array(ARCHIVE_LIMITS.ratioFromBytes) }));
  fs.writeFileSync(file, packed);
  const unwanted = readArchive(file, () => false, CURE);
  await assert.rejects(unwanted, dataFault('DTRAIN_DATA_LIMIT', bombMessage(file, packed.length)));
});

/** An .xz file that is nothing but header, index (one block of the size given as a variable-length integer) and footer. */
function emptyXz(declaredSize: string): Buffer {
  const index = Buffer.alloc(12);
  Buffer.from(`000110${declaredSize}`, 'hex').copy(index);
  const footer = Buffer.from('00000000020000000000595a', 'hex');
  return Buffer.concat([Buffer.from('fd377a585a00000000000000', 'hex'), index, footer]);
}

test('refused: a bomb in xz, before anything is unpacked', async (t) => {
  const file = path.join(temporaryFolder(t), 'set.tar.xz');
  fs.writeFileSync(file, emptyXz('ffffffff0f')); // 4 GiB - 1
  await assert.rejects(readAll(file), dataFault('DTRAIN_DATA_LIMIT', bombMessage(file, 36)));
  fs.writeFileSync(file, emptyXz('ffffffff1f'));
  const message = `${file}: expected at most 4,294,967,296 unpacked bytes, got more. ${CURE_LIMIT}`;
  await assert.rejects(readAll(file), dataFault('DTRAIN_DATA_LIMIT', message));
});

test('an archive that is not there', async () => {
  const message = `/no/such.tar: cannot be read (ENOENT: no such file or directory, stat '/no/such.tar'). ${CURE}`;
  await assert.rejects(readAll('/no/such.tar'), dataFault('DTRAIN_DATA_PATH', message));
});

test('the declared size of an xz file is its unpacked size', async () => {
  for (const size of [0, 1, 127, 128, 5000, 300_000]) assert.equal(declaredXzSize(await toXz(noise(size))), size);
  const packed = await toXz(noise(100));
  assert.equal(declaredXzSize(packed.subarray(0, packed.length - 1)), undefined);
  assert.equal(declaredXzSize(new Uint8Array(3)), undefined);
});

/** Bytes that do not pack. */
function noise(length: number): Uint8Array {
  let state = 1;
  return Uint8Array.from({ length }, () => (state = (state * 48271) % 2147483647) & 255);
}
