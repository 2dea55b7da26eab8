/** The ring and its decoder threads without TensorFlow: order, back-pressure, deadlines, failures, the end. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import fc from 'fast-check';
import { internalError, serializeError } from '../src/core/errors.js';
import { drawMixture } from '../src/data/augmentation.js';
import { dataError } from '../src/data/data-error.js';
import { isStreamed, type StreamedDataSet } from '../src/data/data-set.js';
import { ImageStream } from '../src/data/image-stream.js';
import { loadDataSet } from '../src/data/load-data-set.js';
import { readImages } from '../src/data/read-images.js';
import { sampleIds } from '../src/data/sampler.js';
import { testIds, trainIds } from '../src/data/stream-order.js';
import { createRing, StreamRing } from '../src/data/stream-ring.js';
import { dataFault, imageFile, temporaryFolder, writeFiles } from './support/data-fixtures.js';

const IMAGE = { height: 6, width: 8 };
const IMAGE_BYTES = 6 * 8 * 3;

/** `count` images to train on and three to test on, image i of red i; in two classes by turns. */
async function numberedSet(t: TestContext, count: number): Promise<{ folder: string; data: StreamedDataSet }> {
  const folder = fs.realpathSync(temporaryFolder(t));
  const name = (i: number) => `${i % 2 ? 'dog' : 'cat'}/${String(i).padStart(4, '0')}.png`;
  for (let i = 0; i < count; i++) writeFiles(folder, { [`train/${name(i)}`]: await imageFile('png', i) });
  for (let i = 0; i < 3; i++) writeFiles(folder, { [`test/${name(i)}`]: await imageFile('png', 200 + i) });
  return { folder, data: await streamedSetOf(t, folder) };
}

async function streamedSetOf(t: TestContext, folder: string): Promise<StreamedDataSet> {
  const env = { cacheFolder: temporaryFolder(t), say: () => {} };
  const data = await loadDataSet({ name: 'image-folder', path: folder, seed: 0, memoryBytes: 0 }, env);
  assert(isStreamed(data));
  return data;
}

/** One rank and one shard of `shardBatch` images a step. */
function streamOf(
  t: TestContext,
  data: StreamedDataSet,
  shardBatch: number,
): { stream: ImageStream; ring: StreamRing } {
  const { train, test: tested } = data;
  const stream = new ImageStream({
    train,
    test: tested,
    ranks: 1,
    shards: 1,
    threads: 2,
    trainOrder: {
      samples: { seed: 3, count: train.count, shuffle: true },
      globalBatch: shardBatch,
      shardBatch,
      firstShard: 0,
      firstStep: 5,
      mixture: null,
    },
    testOrder: { count: tested.count, batch: 2, firstBatch: 0, stride: 1, rounds: 2 },
  });
  t.after(() => stream.close());
  return { stream, ring: new StreamRing(stream.spec.ring) };
}

/** The red of the first pixel of each image, which is its number in its split's listing by file name. */
function redOf(pixels: Uint8Array): number[] {
  return Array.from({ length: pixels.length / IMAGE_BYTES }, (_, i) => pixels[i * IMAGE_BYTES]!);
}

const eventually = async (what: string, isSo: () => boolean) => {
  for (let i = 0; i < 500; i++) {
    if (isSo()) return;
    await delay(10);
  }
  assert.fail(what);
};

test('the ring holds the samples of each step, in order, and never more steps than it has slots', async (t) => {
  const { data } = await numberedSet(t, 40);
  const { stream, ring } = streamOf(t, data, 16);
  const reds = (
    await readImages(
      data.train,
      Array.from({ length: 40 }, (_, i) => i),
    )
  ).map((pixels) => pixels[0]!);
  await delay(50);
  assert.equal(stream.peak('train'), 0, 'nothing is decoded before it is wanted');
  stream.openTraining();
  await eventually('the ring is full', () => ring.isThere('train', stream.stepsAhead - 1, 0));
  await delay(50);
  assert.equal(stream.stepsAhead, 8);
  assert(!ring.isThere('train', stream.stepsAhead, 0), 'no further than the ring has room');
  for (let position = 0; position < 25; position++) {
    await eventually('decoders run ahead', () => ring.isThere('train', position + stream.stepsAhead - 1, 0));
    assert.equal(ring.wait('train', position, 0, 10), 0, 'a step does not wait while they do');
    const { ids } = sampleIds({ seed: 3, count: 40, shuffle: true }, (5 + position) * 16, 16);
    assert.deepEqual(
      redOf(ring.images('train', position, 0, 16)),
      [...ids].map((id) => reds[id]),
      `step ${position}`,
    );
    ring.release('train', 0, position + 1);
  }
  assert.equal(stream.peak('train'), 8);
  await stream.close();
  assert.equal(stream.peak('train'), 8);
});

test('an evaluation is decoded when it is opened, each time anew, to its end and no further', async (t) => {
  const { data } = await numberedSet(t, 4);
  const { stream, ring } = streamOf(t, data, 4);
  for (let evaluation = 1; evaluation <= 2; evaluation++) {
    ring.open('test', 2 * evaluation);
    const first = 2 * (evaluation - 1);
    ring.wait('test', first, 0, 10);
    ring.wait('test', first + 1, 0, 10);
    // Classes by name: 0 and 2 are cats, 1 is a dog.
    assert.deepEqual(redOf(ring.images('test', first, 0, 2)), [200, 202]);
    assert.deepEqual(redOf(ring.images('test', first + 1, 0, 1)), [201]);
    assert(!ring.isThere('test', first + 2, 0));
    ring.release('test', 0, first + 2);
  }
  assert.equal(stream.peak('test'), 2);
  assert.equal(stream.peak('train'), 0);
});

test('what a damaged, missing or other-sized image is called', async (t) => {
  for (const [bytes, code, message] of [
    [
      Buffer.from('no image'),
      'DTRAIN_DATA_CORRUPT',
      'expected a JPEG or PNG image, got 8 bytes that begin with 6e6f2069. Replace or remove it.',
    ],
    [
      await imageFile('png', 1, 1, { width: 5, height: 5 }),
      'DTRAIN_DATA_LAYOUT',
      'expected 8x6 pixels, got 5x5. All images of a set have one size: set data.size to scale them.',
    ],
    [null, 'DTRAIN_DATA_PATH', undefined],
  ] as const) {
    const { folder, data } = await numberedSet(t, 4);
    const file = path.join(folder, 'train/dog/0001.png');
    if (bytes) fs.writeFileSync(file, bytes);
    else fs.rmSync(file);
    const text = message
      ? `${file}: ${message}`
      : `${file}: cannot be read (ENOENT: no such file or directory, open '${file}'). Replace or remove it.`;
    await assert.rejects(
      streamedSetOf(t, folder).then((set) => (bytes ? set : Promise.reject(dataError(code, text)))),
      dataFault(code, text),
    );
    const { stream, ring } = streamOf(t, data, 4); // looked through before it was damaged
    stream.openTraining();
    assert.throws(() => ring.wait('train', 0, 0, 10), dataFault(code, text));
    await stream.close();
  }
});

test('a rank does not wait for ever: its deadline, a dead decoder, the end', async () => {
  const plan = { parts: 1, partImages: 1, imageBytes: 3 };
  const ring = () => new StreamRing(createRing(1, { train: plan, test: plan }));
  assert.throws(() => ring().wait('train', 0, 0, 0.02), {
    code: 'DTRAIN_HANG',
    exitCode: 11,
    message:
      'data: no images for 0.02 s: the threads that decode them are behind or hang. Check the disk of the data set; if a batch takes this long here, raise allReduce.timeoutSeconds.',
  });
  const failed = ring();
  failed.fail(serializeError(internalError('first'), {}));
  failed.fail(serializeError(internalError('second'), {}));
  assert.throws(() => failed.wait('train', 0, 0, 10), { message: 'internal: first' });
  const long = ring();
  long.fail(serializeError(dataError('DTRAIN_DATA_CORRUPT', 'x'.repeat(100_000)), {}));
  assert.throws(() => long.wait('train', 0, 0, 10), dataFault('DTRAIN_DATA_CORRUPT', `${'x'.repeat(1000)}…`));
  const closed = ring();
  closed.close();
  assert.throws(() => closed.wait('train', 0, 0, 10), {
    code: 'DTRAIN_RANK_FAILED',
    message: 'data: the run has ended.',
  });
});

test('a mistake of ours in a decoder is told to the ranks', async (t) => {
  const { data } = await numberedSet(t, 4);
  const broken = { ...data, train: { ...data.train, files: null as never } };
  const { stream, ring } = streamOf(t, broken, 4);
  stream.openTraining();
  assert.throws(() => ring.wait('train', 0, 0, 10), { code: 'DTRAIN_WORKER_FAILED', exitCode: 10 });
});

test('more than the ring can hold', () => {
  const plan = { parts: 4, partImages: 4096, imageBytes: 224 * 224 * 3 };
  const small = { parts: 1, partImages: 1, imageBytes: 3 };
  const message =
    'data: 2 batches of decoded images take 4,932,501,504 bytes: expected at most 4,294,967,296 (4 GiB). Lower train.globalBatch or data.size.';
  assert.throws(() => createRing(1, { train: plan, test: small }), dataFault('DTRAIN_DATA_LIMIT', message));
  const { lanes } = createRing(1, { train: { ...plan, partImages: 512 }, test: small });
  assert.equal(lanes.train.slots, 3, 'as many as a gibibyte holds');
});

test('positions give the ids that a set in memory is asked for, however they are cut into pieces', () => {
  fc.assert(
    fc.property(
      fc.record({
        count: fc.integer({ min: 1, max: 50 }),
        shards: fc.integer({ min: 1, max: 4 }),
        hosts: fc.integer({ min: 1, max: 3 }),
        shardBatch: fc.integer({ min: 1, max: 9 }),
        firstStep: fc.integer({ min: 0, max: 20 }),
        piece: fc.integer({ min: 1, max: 20 }),
        isMixed: fc.boolean(),
        shuffle: fc.boolean(),
      }),
      ({ count, shards, hosts, shardBatch, firstStep, piece, isMixed, shuffle }) => {
        const samples = { seed: 7, count, shuffle };
        const globalBatch = hosts * shards * shardBatch;
        const mixture = { seed: 7, crop: 0, flip: false, cutout: 0, mixup: 0.5, count, ...IMAGE };
        for (let position = 0; position < 3; position++) {
          const whole = sampleIds(samples, (firstStep + position) * globalBatch, globalBatch);
          for (let shard = 0; shard < hosts * shards; shard++) {
            const order = {
              samples,
              globalBatch,
              shardBatch,
              firstShard: Math.floor(shard / shards) * shards,
              firstStep,
              mixture: isMixed ? mixture : null,
            };
            const part = shard - order.firstShard;
            const range = [shard * shardBatch, (shard + 1) * shardBatch] as const;
            const [ids, epochs] = [whole.ids.subarray(...range), whole.epochs.subarray(...range)];
            const partners = isMixed ? drawMixture(mixture, ids, epochs).partners : [];
            const expected = [...ids, ...partners];
            const got: number[] = [];
            for (let first = 0; first < expected.length; first += piece) {
              const cut = { first, count: Math.min(piece, expected.length - first) };
              got.push(...trainIds(order, position, part, cut));
            }
            assert.deepEqual(got, expected);
          }
        }
      },
    ),
    { numRuns: 100 },
  );
});

test('all ranks of all hosts together evaluate every test image once', () => {
  fc.assert(
    fc.property(
      fc.record({
        count: fc.integer({ min: 1, max: 60 }),
        batch: fc.integer({ min: 1, max: 9 }),
        ranks: fc.integer({ min: 1, max: 3 }),
        hosts: fc.integer({ min: 1, max: 3 }),
        piece: fc.integer({ min: 1, max: 5 }),
      }),
      ({ count, batch, ranks, hosts, piece }) => {
        const stride = ranks * hosts;
        const rounds = Math.ceil(Math.ceil(count / batch) / stride);
        const ids: number[] = [];
        for (let host = 0; host < hosts; host++) {
          const order = { count, batch, firstBatch: host * ranks, stride, rounds };
          for (let position = rounds; position < 2 * rounds; position++)
            for (let part = 0; part < ranks; part++)
              for (let first = 0; first < batch; first += piece)
                ids.push(...testIds(order, position, part, { first, count: Math.min(piece, batch - first) }));
        }
        assert.deepEqual(
          ids.sort((a, b) => a - b),
          Array.from({ length: count }, (_, i) => i),
        );
      },
    ),
    { numRuns: 100 },
  );
});
