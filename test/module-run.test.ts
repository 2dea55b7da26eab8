/** A run with model.module: two workers and one make the same bits; gone on with, evaluated, predicted with and exported. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { loadConfig } from '../src/config/load.js';
import type { DtrainError } from '../src/core/errors.js';
import { encodePng } from '../src/core/png.js';
import { decodeSafetensors } from '../src/core/safetensors.js';
import { evaluateCheckpoint } from '../src/run/evaluate.js';
import { exportCheckpoint } from '../src/run/export-checkpoint.js';
import { predictImages } from '../src/run/predict.js';
import { lastCheckpointFile, runTraining, temporaryFolder } from './support/train-run.js';

const file = fileURLToPath(new URL('../../examples/models/convnet.mjs', import.meta.url));
const WORDS = [
  `model.module=${file}`,
  'train.logicalShards=2',
  'train.threadsPerWorker=1',
  'schedule.learningRate=0.01',
];

test('the same bits for one worker, two workers, and a run that was gone on with', async () => {
  const two = await runTraining(2, [...WORDS, 'checkpoint.everySteps=3']);
  const one = await runTraining(1, WORDS);
  const state = (runDir: string) =>
    ['weights.safetensors', 'optimizer.safetensors'].map((name) => lastCheckpointFile(runDir, name));
  assert.deepEqual(state(one.runDir), state(two.runDir));
  const runDir = path.join(temporaryFolder(), 'run');
  await runTraining(1, [...WORDS, 'train.maxSteps=3'], { runDir });
  await runTraining(2, WORDS, { runDir, resume: { from: runDir } });
  assert.deepEqual(state(runDir), state(two.runDir));

  const folder = temporaryFolder();
  const out = path.join(folder, 'weights.safetensors');
  await exportCheckpoint({ checkpoint: runDir, format: 'safetensors', out, fold: false });
  const tensors = decodeSafetensors(fs.readFileSync(out), out);
  assert.deepEqual(
    [...tensors].map(([name, { shape }]) => [name, shape]),
    [
      ['batch_normalization_1.beta', [16]],
      ['batch_normalization_1.gamma', [16]],
      ['batch_normalization_1.running_mean', [16]],
      ['batch_normalization_1.running_var', [16]],
      ['conv2d_1.bias', [8]],
      ['conv2d_1.kernel', [5, 5, 3, 8]],
      ['conv2d_2.kernel', [5, 5, 8, 16]],
      ['dense_1.bias', [10]],
      ['dense_1.kernel', [400, 10]],
    ],
  );
  const model = path.join(folder, 'tfjs');
  await exportCheckpoint({ checkpoint: runDir, format: 'tfjs', out: model, fold: false });
  assert.ok(fs.existsSync(path.join(model, 'model.json')));

  const again = await runTraining(1, [...WORDS, `model.initFrom=${out}`, 'train.maxSteps=1']);
  assert.equal(again.events.at(-1)?.event, 'end');
  const { images, testAccuracy } = await evaluateCheckpoint({ checkpoint: runDir, devices: null, overrides: [] });
  assert.equal(images, 1000);
  assert.ok(testAccuracy >= 0 && testAccuracy <= 1);
  const image = path.join(folder, 'image.png');
  fs.writeFileSync(image, encodePng(new Uint8Array(32 * 32 * 3).fill(100), 32, 32));
  const { predictions } = await predictImages({ checkpoint: runDir, images: [image] });
  assert.equal(predictions[0]!.logits.length, 10);
  assert.ok(predictions[0]!.logits.every(Number.isFinite));
});

test('a run is not gone on with by other code than it began with', async () => {
  const folder = temporaryFolder();
  const own = path.join(folder, 'own.mjs');
  fs.copyFileSync(file, own);
  const runDir = path.join(folder, 'run');
  const words = [...WORDS, `model.module=${own}`];
  await runTraining(1, [...words, 'train.maxSteps=1'], { runDir });
  const resume = (steps: number) =>
    runTraining(1, [...words, `train.maxSteps=${steps}`], { runDir, resume: { from: runDir } });
  await resume(2);
  fs.appendFileSync(own, '// changed\n');
  await assert.rejects(resume(3), ({ code, exitCode, message }: DtrainError) => {
    assert.deepEqual([code, exitCode], ['DTRAIN_RESUME_DIFFERS', 6]);
    assert.match(message, /\n {2}code of model\.module {2}[0-9a-f]{12}… +[0-9a-f]{12}…\n/);
    return true;
  });
});

test('a module that is missing, or exports no function, is told', async () => {
  const folder = temporaryFolder();
  const empty = path.join(folder, 'empty.mjs');
  fs.writeFileSync(empty, 'export const size = 3;\n');
  const missing = path.join(folder, 'missing.mjs');
  for (const [own, expected] of [
    [empty, `model.module: ${empty}: expected an exported function "model", or one by default, got size.`],
    [missing, `model.module: ${missing}: expected an ES module, it cannot be read: ENOENT`],
  ] as const) {
    await assert.rejects(runTraining(1, [`model.module=${own}`]), (error: DtrainError) => {
      assert.deepEqual(
        [error.code, error.exitCode, error.message.slice(0, expected.length)],
        ['DTRAIN_MODEL_MODULE', 3, expected],
      );
      return true;
    });
  }
  assert.equal(loadConfig({ overrides: [`model.module=${empty}`] }).model.module, empty);
});
