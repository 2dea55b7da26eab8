/** Optimizers with other state, averages, accumulation and clipping in whole runs: the same bits for any number of workers, all of it saved. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { loadConfig } from '../src/config/load.js';
import type { EvaluationEvent } from '../src/core/events.js';
import { decodeSafetensors } from '../src/core/safetensors.js';
import { startEngine } from '../src/graph/engine.js';
import { makeModel } from '../src/model/catalogue.js';
import { optimizerSlots } from '../src/optim/optimizer-options.js';
import { evaluateCheckpoint } from '../src/run/evaluate.js';
import { openCheckpoint } from '../src/train/checkpoint.js';
import { allocateState } from '../src/train/replica-state.js';
import { rowLayout } from '../src/train/row-layout.js';
import { saveCheckpoint } from '../src/train/save-checkpoint.js';
import { checkpointTensors, readState } from '../src/train/state-transfer.js';
import { saveOptions, smallContent } from './support/checkpoints.js';
import { CPU_0, testRuntime } from './support/test-runtime.js';
import { lastCheckpointFile, runTraining, temporaryFolder, tinyImages } from './support/train-run.js';

const SHORT = ['train.maxSteps=3', 'train.threadsPerWorker=1'];
const FILES = ['weights.safetensors', 'optimizer.safetensors'];

for (const [title, overrides] of [
  [
    'adamw, averages, clipping, exemption',
    [
      'optimizer={name: adamw, weightDecay: 0.05, exempt: norms-and-biases, clipNorm: 1}',
      'train.ema=0.9',
      'schedule.learningRate=0.001',
    ],
  ],
  ['muon with decay', ['optimizer={name: muon, momentum: 0.6, nesterov: true, weightDecay: 0.01}']],
  ['lars', ['optimizer={name: lars, weightDecay: 0.0005}']],
] as const) {
  test(`${title}: 1 and 2 workers with the same logical shards end with the same bits`, async () => {
    const runs = [];
    for (const workers of [1, 2])
      runs.push(await runTraining(workers, [...overrides, ...SHORT, 'train.logicalShards=2']));
    for (const file of FILES) {
      const [one, two] = runs.map(({ runDir }) => lastCheckpointFile(runDir, file));
      assert(one!.equals(two!), file);
    }
  });
}

test('accumulation in two parts on one worker is two logical shards', async () => {
  const parts = await runTraining(1, [...SHORT, 'train.accumulate=2']);
  const shards = await runTraining(1, [...SHORT, 'train.logicalShards=2']);
  for (const file of FILES) {
    assert(lastCheckpointFile(parts.runDir, file).equals(lastCheckpointFile(shards.runDir, file)), file);
  }
});

test('the averages are what is evaluated and what a checkpoint holds as its weights', async () => {
  const overrides = [
    ...SHORT,
    'train.ema=0.5',
    'train.epochs=1',
    'train.maxSteps=null',
    'train.globalBatch=24',
    `data={name: image-folder, path: '${tinyImages()}'}`,
    'evaluation.flip=true',
  ];
  const { events, runDir } = await runTraining(1, overrides);
  const evaluation = events.find((event): event is EvaluationEvent => event.event === 'evaluation')!;
  const again = await evaluateCheckpoint({ checkpoint: runDir, devices: { kind: 'cpu', count: 1 }, overrides: [] });
  assert.deepEqual([again.testLoss, again.testAccuracy], [evaluation.testLoss, evaluation.testAccuracy]);
  const plain = await evaluateCheckpoint({
    checkpoint: runDir,
    devices: { kind: 'cpu', count: 1 },
    overrides: ['evaluation.flip=false'],
  });
  assert.notEqual(plain.testLoss, again.testLoss);
  const weights = decodeSafetensors(lastCheckpointFile(runDir, 'weights.safetensors'), 'weights');
  const optimizer = decodeSafetensors(lastCheckpointFile(runDir, 'optimizer.safetensors'), 'optimizer');
  assert.notDeepEqual(optimizer.get('live/fc.weight')!.values, weights.get('fc.weight')!.values);
  assert(optimizer.has('live/bn1.running_mean'));
});

test('a state passes through a checkpoint bit for bit, whatever the optimizer keeps', () => {
  const engine = startEngine(testRuntime(), CPU_0);
  const model = makeModel(engine, { name: 'resnet20', classes: 10, shortcut: 'B', stem: 'cifar' }, [32, 32]);
  const shapes = model.parameters.map(({ shape }) => shape);
  const channels = model.statistics.map((statistics) => statistics.channels);
  for (const name of ['sgd', 'adamw', 'muon'] as const) {
    for (const averages of [false, true]) {
      const layout = rowLayout(shapes, channels, { slots: optimizerSlots({ name }), averages });
      const state = allocateState(layout);
      for (let i = 0; i < state.length; i++) state[i] = i;
      const content = { ...smallContent(1, model), ...checkpointTensors(state, layout) };
      const folder = saveCheckpoint({ ...saveOptions(temporaryFolder(), model), content });
      const read = allocateState(layout);
      readState(read, layout, model, openCheckpoint(folder));
      assert.deepEqual(read, state, `${name}, averages ${averages}`);
    }
  }
});

test('a batch that the parts of accumulation do not divide is refused', async () => {
  const config = loadConfig({ overrides: ['train.accumulate=3', 'train.globalBatch=32'] });
  const { deriveBatch } = await import('../src/config/derive.js');
  assert.throws(() => deriveBatch(config, { workers: 1, cores: 2 }), {
    message:
      'override train.globalBatch=32: expected a multiple of 3 logical shards (train.accumulate times workers), got 32. Use 30 or 33.',
  });
});
