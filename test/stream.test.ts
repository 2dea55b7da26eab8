/** Streaming: training and evaluation from files are those from memory, bit for bit; faults on the way. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { loadConfig } from '../src/config/load.js';
import type { TrainEvent } from '../src/core/events.js';
import { benchData } from '../src/run/bench-data.js';
import { decodingEnvironment } from '../src/run/decoder-pool.js';
import { evaluateCheckpoint } from '../src/run/evaluate.js';
import { SlowDecoders } from '../src/run/slow-decoders.js';
import { lastCheckpointFile, runTraining, SMALL_RUN, tinyImages } from './support/train-run.js';

const images = tinyImages();
const words = (folder: string) => [
  'data.name=image-folder',
  `data.path=${folder}`,
  'data.augment={crop: 2, flip: true, cutout: 2, brightness: 0.2, mixup: 0.4}',
  'train={epochs: 6, maxSteps: null, globalBatch: 32, precision: float32, seed: 1, logicalShards: 2, threadsPerWorker: 1}',
];
const STREAMED = [...words(images), 'data.memoryBytes=0'];

/** Without the saves, which come when they are done, what the clock says, and the folder. */
function comparable(events: readonly TrainEvent[]): unknown[] {
  const other = ['imagesPerSecond', 'seconds', 'wallSeconds', 'dataWait', 'runDir', 'config', 'devices', 'workers'];
  return events
    .filter(({ event }) => event !== 'checkpoint')
    .map((event) => Object.fromEntries(Object.entries(event).filter(([key]) => !other.includes(key))));
}

const resident = await runTraining(1, words(images));

function assertSameBits(runDir: string, what: string): void {
  for (const file of ['weights.safetensors', 'optimizer.safetensors'])
    assert(lastCheckpointFile(runDir, file).equals(lastCheckpointFile(resident.runDir, file)), `${file}, ${what}`);
}

test('streamed with 1 and 2 workers: the events and the bits of the set in memory', async () => {
  for (const workers of [1, 2]) {
    const { events, runDir, said } = await runTraining(workers, STREAMED);
    assert.deepEqual(comparable(events), comparable(resident.events), `${workers} workers`);
    assertSameBits(runDir, `${workers} workers`);
    const evaluation = (folder: string) => fs.readFileSync(path.join(folder, 'evaluation.json'), 'utf8');
    assert.equal(evaluation(runDir), evaluation(resident.runDir), 'with the pictures of the mistakes');
    const line = `${images}: 160 images of 8x8 take 30,720 bytes decoded, more than data.memoryBytes (0): streamed, decoded anew in every epoch`;
    assert(said.includes(line), said.join('\n'));
    const waits = events.flatMap((event) => (event.event === 'step' ? [event.dataWait!] : []));
    assert(
      waits.every((share) => share >= 0 && share <= 1),
      `${waits}`,
    );
  }
  assert(resident.events.every((event) => !('dataWait' in event)));
});

test('stopped in the middle of an epoch, resumed on another number of workers: the same bits', async () => {
  const stop = new AbortController();
  const onProgress = ({ step }: { step: number }) => step >= 3 && stop.abort();
  let runDir = '';
  const onFolder = (folder: string) => (runDir = folder);
  const options = { signal: stop.signal, onProgress, onFolder };
  await assert.rejects(runTraining(1, STREAMED, options), { code: 'DTRAIN_STOPPED' });
  const { events } = await runTraining(2, STREAMED, { runDir, resume: { from: null } });
  assert.equal(events.at(-1)?.event, 'end');
  assertSameBits(runDir, 'resumed');
});

test('an evaluation of a checkpoint streams, and tells the same', async () => {
  const checkpoint = path.join(resident.runDir, 'checkpoints', 'last');
  const devices = { kind: 'cpu', count: 2 } as const;
  const report = await evaluateCheckpoint({ checkpoint, devices, overrides: ['data.memoryBytes=0'] });
  const { testLoss, testAccuracy } = resident.events.findLast((event) => event.event === 'evaluation')!;
  assert.deepEqual([report.testLoss, report.testAccuracy, report.images], [testLoss, testAccuracy, 40]);
});

test('bench data measures both paths with real steps', async () => {
  // Steps that are slow beside decoding: three of them are enough for the ring to fill.
  const config = loadConfig({ overrides: [...SMALL_RUN, ...words(images), 'model.name=resnet110'] });
  const devices = { kind: 'cpu', count: 1 } as const;
  const said: string[] = [];
  const say = (line: string) => said.push(line);
  const bench = await benchData({ config, configName: 'tiny', devices, steps: 3, warmup: 1, say });
  const { memory, stream, ...head } = bench;
  const { imagesPerSecond } = memory!;
  const expected = { bench: 'data', config: 'tiny', devices: 'cpu', workers: 1, globalBatch: 32, steps: 3 };
  assert.deepEqual(head, { ...expected, imagesPerSecond, path: 'memory' });
  assert.deepEqual([memory!.training.dataWait, memory!.training.stepsThatWaited], [0, 0]);
  assert.deepEqual(Object.keys(stream!), ['imagesPerSecond', 'training', 'threads', 'stepsAhead', 'peakSteps']);
  assert(imagesPerSecond > 0 && stream!.imagesPerSecond > 0 && stream!.training.imagesPerSecond > 0);
  assert.deepEqual([stream!.stepsAhead, stream!.peakSteps], [8, 8]);
  assert(said.some((line) => line.startsWith(`${images}: 160 images of 8x8 take`)));
});

test('a process that decodes has a thread a core for it, four at least, unless the user says otherwise', (t) => {
  const before = process.env['UV_THREADPOOL_SIZE'];
  t.after(() => {
    if (before === undefined) delete process.env['UV_THREADPOOL_SIZE'];
    else process.env['UV_THREADPOOL_SIZE'] = before;
  });
  delete process.env['UV_THREADPOOL_SIZE'];
  const { UV_THREADPOOL_SIZE: threads, PATH } = decodingEnvironment();
  assert.deepEqual(
    [Number(threads), PATH],
    [Math.max(4, Math.min(32, os.availableParallelism())), process.env['PATH']],
  );
  process.env['UV_THREADPOOL_SIZE'] = '7';
  assert.equal(decodingEnvironment()['UV_THREADPOOL_SIZE'], '7');
});

test('steps that wait are told of once, when it is more than a tenth of the time', () => {
  const line =
    'data: the steps wait for images 25 % of their time: decoding is behind. More cores, smaller files or more data.memoryBytes help; dtrain bench data measures it.';
  const steps = (count: number, wait: number) => new Float64Array(count).fill(wait);
  const slow = new SlowDecoders();
  assert.deepEqual(slow.add(Float64Array.of(9, ...steps(20, 0)), 10), [], 'the first step may');
  assert.deepEqual(slow.add(steps(20, 0.125), 25), [], 'a tenth is not more than a tenth');
  assert.deepEqual(slow.add(steps(10, 1), 10), [], 'too few steps');
  assert.deepEqual(slow.add(steps(20, 0.25), 20), [line]);
  assert.deepEqual(slow.add(steps(20, 0.25), 20), [], 'once');
});

test('an image that is damaged after the first step ends the run where it is needed', async () => {
  const folder = tinyImages();
  const file = path.join(folder, 'test/dark/7.png');
  const whole = fs.readFileSync(file);
  let isDamaged = false;
  const onProgress = () => {
    if (!isDamaged) fs.writeFileSync(file, whole.subarray(0, -30));
    isDamaged = true;
  };
  // Far more epochs than the decoders can be ahead of the first step.
  const streamed = ['data.memoryBytes=0', 'checkpoint.everySteps=2', 'train.epochs=100'];
  const run = runTraining(2, [...words(folder), ...streamed], { onProgress });
  await assert.rejects(run, ({ code, exitCode, message }: { code: string; exitCode: number; message: string }) => {
    assert.deepEqual([code, exitCode], ['DTRAIN_DATA_CORRUPT', 5]);
    assert.match(
      message,
      /test\/dark\/7\.png: does not decode \(.+\)\. Replace or remove it\. Last good checkpoint: step \d\.$/,
    );
    return true;
  });
});

test('a disk that hangs: the rank that waits for images is named, with the run ended in time', async (t) => {
  const folder = tinyImages();
  const file = path.join(folder, 'test/light/3.png');
  let isHung = false;
  const onProgress = () => {
    if (isHung) return;
    isHung = true;
    fs.rmSync(file);
    execFileSync('mkfifo', [file]); // whoever reads it waits for a writer
  };
  t.after(() => fs.closeSync(fs.openSync(file, 'w')));
  const run = runTraining(1, [...words(folder), 'data.memoryBytes=0', 'allReduce.timeoutSeconds=1'], { onProgress });
  await assert.rejects(run, {
    code: 'DTRAIN_HANG',
    exitCode: 11,
    rank: 0,
    message:
      'data: no images for 1 s: the threads that decode them are behind or hang. Check the disk of the data set; if a batch takes this long here, raise allReduce.timeoutSeconds. No checkpoint was saved yet.',
  });
});
