/** Rows 10, 11 and 20 of the fault matrix: numbers and replicas that go wrong while training, and a checkpoint of something else. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { afterEach, test } from 'node:test';
import { nowSeconds } from '../../src/core/clock.js';
import { DtrainError } from '../../src/core/errors.js';
import { openCheckpoint } from '../../src/train/checkpoint.js';
import { runTraining, temporaryFolder } from '../support/train-run.js';
import { recordRow } from './record.js';

afterEach(() => delete process.env['DTRAIN_FAULT']);

async function failureOf(run: Promise<unknown>): Promise<{ error: DtrainError; seconds: number }> {
  const start = nowSeconds();
  const error = await run.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  assert(error instanceof DtrainError, `expected a DtrainError, got ${error}`);
  return { error, seconds: nowSeconds() - start };
}

const withoutPaths = (message: string) => message.replace(/\S*dtrain-test-\w+\//g, '');

for (const [kind, what] of [
  ['nan', 'a row of NaN: the loss too'],
  ['inf', 'one infinite value in a gradient: the loss stays finite'],
] as const) {
  test(`row 10: ${what}`, async () => {
    process.env['DTRAIN_FAULT'] = `${kind}:rank=1,step=4,phase=reduce`;
    const runDir = path.join(temporaryFolder(), 'run');
    const words = ['checkpoint.everySteps=1', 'model.name=speednet'];
    const { error } = await failureOf(runTraining(2, words, { runDir }));
    assert.deepEqual([error.exitCode, error.step], [8, 4]);
    assert(!fs.existsSync(path.join(runDir, 'checkpoints', 'step-4')), 'nothing bad is saved');
    const { step, images, gradients } = JSON.parse(fs.readFileSync(path.join(runDir, 'diverged.json'), 'utf8'));
    assert.deepEqual([step, images.length], [4, 32]);
    assert(gradients.some(({ notFinite }: { notFinite: number }) => notFinite > 0));
    const lastGood = openCheckpoint(runDir).state.step;
    assert(lastGood >= 2, String(lastGood));
    recordRow({
      row: 10,
      fault: 'NaN or Inf in loss or reduced gradient',
      injected: `${what}, rank 1 of 2, step 4`,
      observed: `${withoutPaths(error.message)} Steps to detect: 0; no weight changed`,
      code: error.exitCode,
      seconds: null,
      lost: `steps after ${lastGood}`,
      pass: true,
    });
  });
}

test('row 11: one bit of one replica flips', async () => {
  process.env['DTRAIN_FAULT'] = 'flip:rank=1,step=3,phase=report';
  const runDir = path.join(temporaryFolder(), 'run');
  const words = ['checkpoint.everySteps=2', 'model.name=speednet'];
  const { error } = await failureOf(runTraining(2, words, { runDir }));
  assert.deepEqual([error.exitCode, error.code, error.rank, error.step], [10, 'DTRAIN_REPLICAS_DIFFER', 1, 4]);
  assert.equal(openCheckpoint(runDir).state.step, 2);
  recordRow({
    row: 11,
    fault: 'replicas differ (race, bit flip)',
    injected: 'one bit of a weight of rank 1 in step 3; hashes are compared at each save, here every 2 steps',
    observed: withoutPaths(error.message),
    code: error.exitCode,
    seconds: null,
    lost: 'steps since the last save, which was compared',
    pass: true,
  });
});

test('row 20: a checkpoint of another model, optimizer, configuration, precision, data set', async () => {
  const words = ['train.maxSteps=1', 'model.name=speednet'];
  const { runDir } = await runTraining(1, words);
  const others: readonly [string, string, RegExp][] = [
    ['model', 'model.name=resnet20', /model\.name +speednet +resnet20/],
    ['optimizer', 'optimizer={name: adamw}', /optimizer\.name +sgd +adamw/],
    ['schedule', 'schedule.learningRate=0.01', /schedule\.learningRate +0\.05 +0\.01/],
    ['precision', 'train.precision=bfloat16', /train\.precision +float32 +bfloat16/],
    ['seed', 'train.seed=9', /train\.seed +1 +9/],
    ['augmentation', 'data.augment.flip=false', /data\.augment\.flip +true +false/],
  ];
  let slowest = 0;
  for (const [, override, line] of others) {
    const resumed = runTraining(1, [...words, override], { runDir, resume: { from: null } });
    const { error, seconds } = await failureOf(resumed);
    assert.deepEqual([error.exitCode, error.code], [6, 'DTRAIN_RESUME_DIFFERS'], override);
    assert.match(error.message, line);
    slowest = Math.max(slowest, seconds);
  }
  recordRow({
    row: 20,
    fault: 'checkpoint of another model, optimizer, configuration, dtype, data set',
    injected: `resumed with another ${others.map(([name]) => name).join(', ')}`,
    observed: 'refused each time, with a table of key, then and now',
    code: 6,
    seconds: slowest,
    lost: 'nothing',
    pass: true,
  });
});
