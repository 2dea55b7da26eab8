/** The kinds of all-reduce at length: other orders of sums, and ranks that fail, die, stop or are stopped while TensorFlow adds. */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { nowSeconds } from '../../src/core/clock.js';
import { decodeSafetensors } from '../../src/core/safetensors.js';
import { relativeL2 } from '../support/assert-close.js';
import { assertSameBits, failureOf } from '../support/compare-runs.js';
import { type FinishedRun, lastCheckpointFile, runTraining } from '../support/train-run.js';
import { recordProof } from './record.js';

afterEach(() => delete process.env['DTRAIN_FAULT']);

const TENSORFLOW = 'allReduce.kind=tensorflow';

/** Of all weights together. */
function weightsDifference(a: FinishedRun, b: FinishedRun): number {
  const [one, other] = [a, b].map(({ runDir }) => {
    const tensors = decodeSafetensors(lastCheckpointFile(runDir, 'weights.safetensors'), runDir);
    return [...tensors.values()].flatMap(({ values }) => [...(values as Float32Array)]);
  });
  return relativeL2(one!, other!);
}

test('three workers: the same bits, and, where another order is permitted, the same training within 1e-6 a step', async () => {
  const three = ['train.globalBatch=33', 'train.threadsPerWorker=1', 'train.maxSteps=3'];
  const shared = await runTraining(3, three);
  assertSameBits(await runTraining(3, [...three, TENSORFLOW]), shared, 'exact');
  const ring = await runTraining(3, [...three, TENSORFLOW, 'allReduce.exact=false']);
  const difference = weightsDifference(ring, shared);
  assert(difference > 0, 'another order of sums shows');
  assert(difference < 3e-6, `weights after three steps differ by ${difference}`);
  recordProof({
    name: 'three workers that add by TensorFlow, against shared memory',
    goal: 'the same bytes; with allReduce.exact=false a relative difference below 3e-6 after 3 steps',
    observed: `equal; ${difference.toExponential(1)}`,
    pass: true,
  });
});

for (const phase of ['compute', 'reduce', 'update'] as const) {
  test(`tensorflow: an exception in ${phase} ends the run with exit code 10 at once`, async () => {
    process.env['DTRAIN_FAULT'] = `throw:rank=1,step=2,phase=${phase}`;
    const started = nowSeconds();
    const { exitCode, message, rank } = await failureOf(runTraining(3, ['train.globalBatch=33', TENSORFLOW]));
    assert.equal(message, `rank 1, step 2, ${phase}: fault injected by DTRAIN_FAULT. No checkpoint was saved yet.`);
    assert.deepEqual({ exitCode, rank }, { exitCode: 10, rank: 1 });
    const seconds = nowSeconds() - started;
    assert(seconds < 5 * 10);
    recordProof({
      name: `an exception in ${phase} of one of three workers that add by TensorFlow`,
      goal: 'exit code 10, naming rank, step and phase; nobody waits for it',
      observed: `10 after ${seconds.toFixed(1)} s, start and two steps included`,
      pass: true,
    });
  });
}

test('tensorflow: a thread that dies ends the run', async () => {
  process.env['DTRAIN_FAULT'] = 'exit:rank=1,step=2,phase=reduce';
  const { exitCode, code, message } = await failureOf(runTraining(2, [TENSORFLOW]));
  assert.deepEqual({ exitCode, code }, { exitCode: 10, code: 'DTRAIN_WORKER_DIED' });
  assert.match(message, /^rank 1: its thread ended: /);
});

test('tensorflow: a rank that stops moving is named by those who wait for it', async () => {
  process.env['DTRAIN_FAULT'] = 'stall:rank=0,step=2,phase=compute';
  const words = ['train.globalBatch=33', 'allReduce.timeoutSeconds=2', TENSORFLOW];
  const { exitCode, message } = await failureOf(runTraining(3, words));
  assert.equal(exitCode, 11);
  assert.equal(
    message,
    'all-reduce, step 2: rank 0 did not arrive within 2 s (last seen in compute); ranks 1, 2 waited. No checkpoint was saved yet.',
  );
  recordProof({
    name: 'a worker that stops moving while TensorFlow adds, allReduce.timeoutSeconds=2',
    goal: 'exit code 11, naming it',
    observed: message,
    pass: true,
  });
});

test('tensorflow: a stop on request ends all ranks after the same step', async () => {
  const controller = new AbortController();
  const onProgress = ({ loss }: { loss: number }) => {
    assert(loss > 0, 'the progress line has the loss');
    controller.abort();
  };
  const options = { signal: controller.signal, onProgress };
  const { exitCode } = await failureOf(runTraining(2, ['train.maxSteps=null', TENSORFLOW], options));
  assert.equal(exitCode, 75);
});
