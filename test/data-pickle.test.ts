/** The official Python archive of CIFAR-10, and pickles that would do harm. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { loadDataSet } from '../src/data/load-data-set.js';
import { NumpyBytes, type PickleBytes, unpickle } from '../src/data/pickle.js';
import { tarOf, temporaryFolder } from './support/data-fixtures.js';

const latin = (text: string) => Buffer.from(text, 'latin1');
const uint32 = (value: number) => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
};

/** A batch as Python 2's cPickle wrote the official ones (protocol 2), the data filled by `fill`. */
function batch(labels: readonly number[], data: Buffer): Buffer {
  const array = [
    latin('cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\x00\x85U\x01b\x87Rq\x09'),
    latin("(K\x01M\x10'M\x00\x0c\x86cnumpy\ndtype\nq\x0aU\x02u1K\x00K\x01\x87Rq\x0b(K\x03U\x01|NNN"),
    latin('J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T'),
    uint32(data.length),
    data,
    latin('tb'),
  ];
  const numbers = labels.map((label) => Buffer.from([0x4b, label]));
  return Buffer.concat([
    latin('\x80\x02}q\x01(U\x0bbatch_labelq\x02U\x05batchq\x03U\x06labelsq\x04]q\x05('),
    ...numbers,
    latin('eU\x04dataq\x06'),
    ...array,
    latin('U\x09filenamesq\x0c]q\x0d(U\x01aU\x01beu.'),
  ]);
}

test('the official Python archive: labels in order, planes as pixels', async (t) => {
  const files: Record<string, Uint8Array> = {};
  const names = [1, 2, 3, 4, 5].map((number) => `data_batch_${number}`).concat('test_batch');
  for (const [f, name] of names.entries()) {
    const data = Buffer.alloc(10_000 * 3072);
    for (let r = 0; r < 10_000; r++)
      for (let c = 0; c < 3; c++) data.fill((r + c + 10 * f) % 256, r * 3072 + c * 1024, r * 3072 + (c + 1) * 1024);
    files[`cifar-10-batches-py/${name}`] = batch(
      Array.from({ length: 10_000 }, (_, r) => (r + f) % 10),
      data,
    );
  }
  const archive = path.join(temporaryFolder(t), 'cifar-10-python.tar');
  const env = { cacheFolder: temporaryFolder(t), say: () => {} };
  fs.writeFileSync(archive, await tarOf(files));
  const { train, test: tested } = await loadDataSet({ name: 'cifar10', path: archive, seed: 0 }, env);
  assert.deepEqual([train.count, tested.count, train.labels[10_003], tested.labels[2]], [50_000, 10_000, 4, 7]);
  assert.deepEqual([...train.imagesNHWC.subarray(10_003 * 3072, 10_003 * 3072 + 3)], [13, 14, 15]);

  const bad = { ...files, 'cifar-10-batches-py/test_batch': latin('\x80\x02cos\nsystem\nU\x02ls\x85R.') };
  fs.writeFileSync(archive, await tarOf(bad));
  const error = await loadDataSet({ name: 'cifar10', path: archive, seed: 0 }, env).catch((thrown: Error) => thrown);
  assert.equal(
    (error as Error).message,
    `${archive}/test_batch: expected a pickle of images, it names "os system", which is never run. Replace it with an intact copy.`,
  );
});

test('values', () => {
  const value = unpickle(batch([3, 4], Buffer.alloc(10_000 * 3072)));
  assert(value instanceof Map);
  const entries = [...value].map(([key, inner]) => [(key as PickleBytes).text, inner] as const);
  assert.deepEqual(
    entries.map(([key]) => key),
    ['batch_label', 'labels', 'data', 'filenames'],
  );
  assert.deepEqual(entries[1]![1], [3, 4]);
  assert(entries[2]![1] instanceof NumpyBytes);
  assert.deepEqual(
    (entries[3]![1] as PickleBytes[]).map(({ text }) => text),
    ['a', 'b'],
  );
});

for (const [what, bytes, message] of [
  ['a call of something else', 'cnumpy\nndarray\n)R.', 'it calls something that is no array'],
  ['a name', 'cbuiltins\neval\n.', 'it names "builtins eval", which is never run'],
  ['an instance', 'ios\nsystem\n.', 'opcode 0x69 is not one that data needs'],
  ['an end', '}q', 'it ends early'],
  ['an empty stack', 'a', 'it takes more than it has'],
  ['a bare name', 'cnumpy\ndtype\n.', 'it ends early'],
] as const) {
  test(`refused: ${what}`, () => {
    assert.throws(() => unpickle(latin(bytes)), { message });
  });
}

test('bytes of any kind give a value or an error, and nothing else', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
      try {
        unpickle(bytes);
      } catch (error) {
        assert(error instanceof Error && !(error instanceof TypeError), String(error));
      }
    }),
    { numRuns: 3000 },
  );
});
