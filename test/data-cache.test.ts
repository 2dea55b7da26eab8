/** The decoded set on disk. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import fc from 'fast-check';
import { allocateImageSet, fingerprintOf } from '../src/data/data-set.js';
import { type CachedSet, cacheFileOf, readCachedSet, writeCachedSet } from '../src/data/decoded-cache.js';
import { temporaryFolder } from './support/data-fixtures.js';

function someSet(): CachedSet {
  const train = allocateImageSet({ count: 5, height: 3, width: 2 });
  const test = allocateImageSet({ count: 2, height: 3, width: 2 });
  train.imagesNHWC.forEach((_, i) => {
    train.imagesNHWC[i] = i * 7;
  });
  train.labels.set([0, 1, 2, 1, 0]);
  test.labels.set([2, 1]);
  const decoded = { classes: ['a', 'b', 'ü'], train, test };
  const normalization = { mean: [0.1, 0.2, 0.3], std: [0.4, 0.5, 1] };
  return { ...decoded, normalization, fingerprint: fingerprintOf(decoded) };
}

function written(t: TestContext): { file: string; set: CachedSet } {
  const file = path.join(temporaryFolder(t), 'decoded', 'set.bin');
  const set = someSet();
  writeCachedSet(file, 'identity', set);
  return { file, set };
}

const silent = (line: string) => assert.fail(line);

test('comes back as it was, in shared memory', (t) => {
  const { file, set } = written(t);
  const back = readCachedSet(file, 'identity', silent);
  assert.deepEqual(back, set);
  assert.ok(back?.train.imagesNHWC.buffer instanceof SharedArrayBuffer && back.train.imagesNHWC.byteOffset === 0);
  assert.deepEqual(fs.readdirSync(path.dirname(file)), ['set.bin']);
});

test('not used: no file, or one of another source', (t) => {
  const { file } = written(t);
  assert.equal(readCachedSet(`${file}.no`, 'identity', silent), undefined);
  assert.equal(readCachedSet(file, 'another identity', silent), undefined);
});

test('any flipped bit, any cut and any addition is noticed, and said', (t) => {
  const { file } = written(t);
  const whole = fs.readFileSync(file);
  const noticed = (bytes: Uint8Array) => {
    fs.writeFileSync(file, bytes);
    const said: string[] = [];
    assert.equal(
      readCachedSet(file, 'identity', (line) => said.push(line)),
      undefined,
    );
    assert.equal(said.length, 1);
    assert.ok(
      said[0]!.startsWith(`${file}: the cached data set is damaged (`) && said[0]!.endsWith('); it is made again'),
    );
  };
  fc.assert(
    fc.property(fc.nat(whole.length - 1), fc.nat(7), (at, bit) => {
      const flipped = Buffer.from(whole);
      flipped[at]! ^= 1 << bit;
      noticed(flipped);
    }),
    { numRuns: 400 },
  );
  fc.assert(fc.property(fc.nat(whole.length - 1), (length) => noticed(whole.subarray(0, length))));
  noticed(Buffer.concat([whole, Buffer.alloc(1)]));
});

test('what is said', (t) => {
  const { file } = written(t);
  const bytes = fs.readFileSync(file);
  bytes[bytes.length - 1]! ^= 1;
  fs.writeFileSync(file, bytes);
  const said: string[] = [];
  readCachedSet(file, 'identity', (line) => said.push(line));
  assert.deepEqual(said, [`${file}: the cached data set is damaged (checksum differs); it is made again`]);
});

test('each source has a file of its own', () => {
  assert.equal(cacheFileOf('/a/set.tar', '/cache'), cacheFileOf('/a/b/../set.tar', '/cache'));
  assert.notEqual(cacheFileOf('/a/set.tar', '/cache'), cacheFileOf('/b/set.tar', '/cache'));
  assert.match(cacheFileOf('/a/set.tar', '/cache'), /^\/cache\/decoded\/set\.tar-[0-9a-f]{12}\.bin$/);
});
