/** The training run as a whole: events, run folder, the same bits for any number of workers, evaluation, export. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { loadConfig } from '../src/config/load.js';
import type { EvaluationEvent } from '../src/core/events.js';
import { decodeSafetensors, type StoredTensor } from '../src/core/safetensors.js';
import { evaluateCheckpoint } from '../src/run/evaluate.js';
import { exportCheckpoint } from '../src/run/export-checkpoint.js';
import { openCheckpoint } from '../src/train/checkpoint.js';
import { lastCheckpointFile, runTraining, temporaryFolder } from './support/train-run.js';

const FOUR_SHARDS = ['train.logicalShards=4', 'train.threadsPerWorker=1'];

test('a run tells its events in order, with the keys of the contract, and writes them into its folder', async () => {
  const { events, runDir } = await runTraining(2, ['checkpoint.everySteps=3', 'checkpoint.keep=2']);
  assert.deepEqual(
    events.map(({ event }) => event),
    ['run', 'step', 'checkpoint', 'step', 'checkpoint', 'end'],
  );
  const keys = Object.fromEntries(events.map((event) => [event.event, Object.keys(event)]));
  assert.deepEqual(keys, {
    run: [
      'event',
      'runDir',
      'version',
      'devices',
      'workers',
      'globalBatch',
      'parameters',
      'trainImages',
      'testImages',
      'totalSteps',
      'normalization',
      'config',
    ],
    step: ['event', 'step', 'epoch', 'loss', 'trainAccuracy', 'learningRate', 'imagesPerSecond', 'seconds'],
    checkpoint: ['event', 'step', 'path'],
    end: ['event', 'steps', 'epochs', 'finalTestAccuracy', 'bestTestAccuracy', 'imagesPerSecond', 'wallSeconds'],
  });
  const [run, step] = events;
  assert(run?.event === 'run' && step?.event === 'step');
  assert.deepEqual(run.devices, ['/device:CPU:0', '/device:CPU:1']);
  assert.equal(run.parameters, 269_722);
  assert.deepEqual(Object.keys(step.seconds), ['feed', 'compute', 'reduce', 'update', 'report']);
  assert.equal(step.step, 3);

  const lines = fs.readFileSync(path.join(runDir, 'metrics.jsonl'), 'utf8').trim().split('\n');
  assert.deepEqual(
    lines,
    events.map((event) => JSON.stringify(event)),
  );
  assert.deepEqual(loadConfig({ file: path.join(runDir, 'config.yaml') }), run.config);
  assert.deepEqual(fs.readdirSync(path.join(runDir, 'checkpoints')).sort(), ['last', 'step-3', 'step-6']);
  assert.equal(openCheckpoint(runDir).state.step, 6);
});

test('1, 2 and 4 workers with the same logical shards end with the same bits', async () => {
  const runs = [];
  for (const workers of [1, 2, 4]) runs.push(await runTraining(workers, FOUR_SHARDS));
  for (const file of ['weights.safetensors', 'optimizer.safetensors']) {
    const [one, two, four] = runs.map(({ runDir }) => lastCheckpointFile(runDir, file));
    assert(one!.equals(two!), `${file}: 1 and 2 workers`);
    assert(one!.equals(four!), `${file}: 1 and 4 workers`);
  }
  const losses = runs.map(({ events }) => events.flatMap((event) => (event.event === 'step' ? [event.loss] : [])));
  assert.deepEqual(losses[0], losses[1]);
  assert.deepEqual(losses[0], losses[2]);
});

test('the same seed gives the same bits, another seed others', async () => {
  const weights = [];
  for (const seed of [1, 1, 2]) {
    const { runDir } = await runTraining(2, [`train.seed=${seed}`, 'train.maxSteps=3']);
    weights.push(lastCheckpointFile(runDir, 'weights.safetensors'));
  }
  assert(weights[0]!.equals(weights[1]!));
  assert(!weights[0]!.equals(weights[2]!));
});

test('with explicit placement no tensor of one rank is on the device of another', async () => {
  const { events } = await runTraining(3, ['train.globalBatch=33', 'train.maxSteps=2'], { explicitPlacement: true });
  assert.equal(events.at(-1)?.event, 'end');
});

test('a run learns, evaluates each epoch exactly, and keeps the best', async () => {
  const overrides = ['train.maxSteps=null', 'train.epochs=2', 'train.globalBatch=64', 'train.precision=bfloat16'];
  const { events, runDir } = await runTraining(2, [...overrides, 'data.augment={crop: 0, flip: false, cutout: 0}']);
  const evaluations = events.filter((event): event is EvaluationEvent => event.event === 'evaluation');
  assert.deepEqual(
    evaluations.map(({ epoch }) => epoch),
    [1, 2],
  );
  assert(evaluations.every(({ images }) => images === 1000));
  const end = events.at(-1);
  assert(end?.event === 'end');
  assert.equal(end.finalTestAccuracy, evaluations.at(-1)!.testAccuracy);
  assert.equal(end.bestTestAccuracy, Math.max(...evaluations.map(({ testAccuracy }) => testAccuracy)));
  assert(end.bestTestAccuracy! > 0.3, `expected to learn, got ${end.bestTestAccuracy}`); // chance is 0.1

  const best = evaluations.find(({ testAccuracy }) => testAccuracy === end.bestTestAccuracy)!;
  assert.equal(openCheckpoint(path.join(runDir, 'checkpoints', 'best')).state.step, best.step);

  const checkpoint = path.join(runDir, 'checkpoints', 'last');
  for (const count of [1, 3]) {
    const report = await evaluateCheckpoint({
      checkpoint,
      devices: { kind: 'cpu', count },
      overrides: ['train.globalBatch=66'],
    });
    const { classes, perClass, top5Accuracy, confusion, calibration, mostWrong, ...evaluation } = report;
    assert.deepEqual(evaluation, { ...evaluations.at(-1)!, epoch: evaluation.epoch });
    assert.equal(classes.length, 10);
    const mean = perClass.reduce((sum, accuracy) => sum + accuracy, 0) / 10; // every class has as many images
    assert(Math.abs(mean - evaluation.testAccuracy) < 1e-9);
    assert(top5Accuracy >= evaluation.testAccuracy && top5Accuracy <= 1);
    assert.equal(
      confusion.flat().reduce((sum, images) => sum + images),
      1000,
    );
    assert(calibration.error >= 0 && calibration.error < 1);
    assert.equal(mostWrong.length, 12);
  }
});

test('export and model.initFrom are inverses: a run that begins with an export and does not move has its weights', async () => {
  const { runDir } = await runTraining(1, ['train.maxSteps=2']);
  const out = path.join(temporaryFolder(), 'weights.safetensors');
  const { tensors, bytes } = await exportCheckpoint({ checkpoint: runDir, format: 'safetensors', out, fold: false });
  assert.equal(bytes, fs.statSync(out).size);
  assert.equal(tensors, 59 + 2 * 19);
  const still = ['train.maxSteps=1', 'schedule.learningRate=1e-30', `model.initFrom=${out}`];
  const again = await runTraining(1, still);
  const before = decodeSafetensors(fs.readFileSync(out), out);
  const afterwards = decodeSafetensors(lastCheckpointFile(again.runDir, 'weights.safetensors'), again.runDir);
  assert.deepEqual([...afterwards.keys()], [...before.keys()]);
  const moved = [...before.keys()].filter((name) => !sameValues(before.get(name)!, afterwards.get(name)!));
  assert.deepEqual(
    moved,
    [...before.keys()].filter((name) => name.includes('running_')),
  ); // a step moves the running statistics
});

function sameValues(a: StoredTensor, b: StoredTensor): boolean {
  return Buffer.from(a.values.buffer).equals(Buffer.from(b.values.buffer));
}
