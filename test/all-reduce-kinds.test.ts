/**
 * The kinds of all-reduce give the same training: TensorFlow's collectives among CPU devices against the shared memory, and gradients in bfloat16
 * against float32. More of it, and what becomes of failing ranks, in test/faults/all-reduce-kinds.test.ts.
 */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { afterEach, test } from 'node:test';
import { decodeSafetensors } from '../src/core/safetensors.js';
import { relativeL2 } from './support/assert-close.js';
import { assertSameBits, failureOf, lossesOf } from './support/compare-runs.js';
import { type FinishedRun, lastCheckpointFile, runTraining, temporaryFolder } from './support/train-run.js';

afterEach(() => delete process.env['DTRAIN_FAULT']);

const TENSORFLOW = 'allReduce.kind=tensorflow';
const BFLOAT16 = 'allReduce.dtype=bfloat16';
const FILES = ['weights.safetensors', 'optimizer.safetensors'] as const;
const FOUR = [
  'train={globalBatch: 16, logicalShards: 4, threadsPerWorker: 1, maxSteps: 6, epochs: 16, seed: 1}',
  'checkpoint.everySteps=1',
];

/** Two workers, float32, shared memory. */
let shared: FinishedRun | undefined;
const sharedRun = async (): Promise<FinishedRun> => (shared ??= await runTraining(2, FOUR));

test('2 and 4 workers that add by TensorFlow end with the bits of shared memory', async () => {
  for (const workers of [2, 4]) {
    assertSameBits(await runTraining(workers, [...FOUR, TENSORFLOW]), await sharedRun(), `${workers} workers`);
  }
});

test('gradients in bfloat16: the same bits for any number of workers, and nearly the losses of float32', async () => {
  const full = await sharedRun();
  const [one, four] = [await runTraining(1, [...FOUR, BFLOAT16]), await runTraining(4, [...FOUR, BFLOAT16])];
  assertSameBits(one, four, '1 and 4 workers');
  const [losses, lowLosses] = [lossesOf(full), lossesOf(one)];
  assert.equal(losses[0], lowLosses[0], 'the loss travels in float32: before the first update it is the same');
  assert.notDeepEqual(losses, lowLosses);
  for (const [i, loss] of losses.entries()) {
    assert(Math.abs(lowLosses[i]! / loss - 1) < 0.05, `loss of step ${i + 1}: ${lowLosses[i]} for ${loss}`);
  }
  const [variance, lowVariance] = [full, one].map(({ runDir }) => {
    const tensors = decodeSafetensors(lastCheckpointFile(runDir, FILES[0]), runDir);
    return tensors.get('bn1.running_var')!.values as Float32Array;
  });
  assert(relativeL2(lowVariance!, variance!) < 2e-3, 'batch statistics are not rounded');
});

test('tensorflow: a gradient that is not finite is found in its step; the gradients are told', async () => {
  process.env['DTRAIN_FAULT'] = 'inf:rank=1,step=2,phase=reduce';
  const runDir = path.join(temporaryFolder(), 'run');
  const { exitCode, step, message } = await failureOf(runTraining(2, [...FOUR, TENSORFLOW], { runDir }));
  assert.deepEqual({ exitCode, step }, { exitCode: 8, step: 2 });
  assert.match(message, /^step 2: the mean gradient is not finite, the loss still is \(\d\.\d+\): /);
  const { gradients } = JSON.parse(fs.readFileSync(path.join(runDir, 'diverged.json'), 'utf8'));
  assert.deepEqual([gradients[0].notFinite, gradients[1].notFinite], [1, 0]);
  assert(gradients[1].largest > 0);
});

test('what TensorFlow does not do is refused', async () => {
  const failure = (workers: number, ...words: string[]) => failureOf(runTraining(workers, [TENSORFLOW, ...words]));
  const low = await failure(2, BFLOAT16);
  assert.deepEqual([low.code, low.exitCode], ['DTRAIN_ALL_REDUCE', 3]);
  assert.equal(
    low.message,
    "override allReduce.dtype=bfloat16: expected float32 with allReduce.kind=tensorflow, got bfloat16. TensorFlow's collectives would add in bfloat16, and on GPUs not at all. Use allReduce.dtype=float32, or allReduce.kind=shared-memory.",
  );
  const uneven = await failure(2, 'train.logicalShards=6', 'train.globalBatch=36');
  assert.deepEqual([uneven.code, uneven.exitCode], ['DTRAIN_BATCH_NOT_DIVISIBLE', 3]);
  assert.equal(
    uneven.message,
    'override train.logicalShards=6: expected 1, 2, 4, 8, ... a worker, so that sums are those of allReduce.kind=shared-memory, got 3. Use 4 or 8, or allReduce.exact=false.',
  );
});
