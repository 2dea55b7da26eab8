import assert from 'node:assert/strict';
import fs from 'node:fs';
import { test } from 'node:test';
import { configurationPage } from '../src/config/docs.js';
import { CONFIG_KEYS, jsonSchema, listText, MODEL_NAMES, runConfigSchema } from '../src/config/schema.js';
import { MODEL_NAMES as MODELS_THERE_ARE } from '../src/model/catalogue.js';

/** The contract's configuration. A key is added here and there at once, and none is renamed. */
const CONTRACT_DEFAULTS = {
  model: { name: 'resnet20', shortcut: 'A', stem: 'cifar', initFrom: null, module: null },
  data: {
    name: 'cifar10',
    path: null,
    size: null,
    resize: null,
    memoryBytes: null,
    shuffle: true,
    augment: { crop: 4, flip: true, cutout: 0, brightness: 0, contrast: 0, mixup: 0 },
  },
  train: {
    epochs: 164,
    maxSteps: null,
    globalBatch: 128,
    logicalShards: null,
    threadsPerWorker: null,
    precision: 'float32',
    compile: 'auto',
    seed: 0,
    labelSmoothing: 0,
    ema: 0,
    accumulate: 1,
  },
  optimizer: {
    name: 'sgd',
    momentum: 0.9,
    nesterov: false,
    weightDecay: 0.0001,
    decoupled: false,
    exempt: 'none',
    clipNorm: 0,
    beta2: 0.999,
    epsilon: 1e-8,
    trust: 0.001,
  },
  schedule: { name: 'multi-step', learningRate: 0.1, warmupEpochs: 0, milestones: [82, 123], factor: 0.1, power: 1 },
  evaluation: { everyEpochs: 1, flip: false },
  checkpoint: { everyEpochs: 1, everySteps: null, keep: 3 },
  allReduce: { kind: 'shared-memory', dtype: 'float32', timeoutSeconds: 60, exact: true },
  gpu: { memoryGrowth: true, memoryFraction: null, workersPerCard: 1 },
  cluster: { hosts: null, hostRank: null, trustedNetwork: false, waitSeconds: 600 },
};

test('the keys, their order and their defaults are those of the contract', () => {
  assert.equal(JSON.stringify(runConfigSchema.parse({})), JSON.stringify(CONTRACT_DEFAULTS));
});

test('every key says what it is, what fits and its default', () => {
  assert.equal(CONFIG_KEYS.length, 60);
  for (const { path, description, expected } of CONFIG_KEYS) {
    assert.match(description, /^[A-Z].*\.$/s, path);
    assert.notEqual(expected, '', path);
  }
});

test('every number that counts something has a unit', () => {
  const units = Object.fromEntries(
    CONFIG_KEYS.filter(({ unit }) => unit !== undefined).map(({ path, unit }) => [path, unit]),
  );
  assert.deepEqual(units, {
    'data.size': 'pixels',
    'data.resize': 'pixels',
    'data.memoryBytes': 'bytes',
    'data.augment.crop': 'pixels',
    'data.augment.cutout': 'pixels',
    'train.epochs': 'epochs',
    'train.maxSteps': 'steps',
    'train.globalBatch': 'images',
    'train.logicalShards': 'shards',
    'train.threadsPerWorker': 'threads',
    'train.accumulate': 'parts',
    'schedule.warmupEpochs': 'epochs',
    'schedule.milestones': 'epochs',
    'evaluation.everyEpochs': 'epochs',
    'checkpoint.everyEpochs': 'epochs',
    'checkpoint.everySteps': 'steps',
    'checkpoint.keep': 'checkpoints',
    'allReduce.timeoutSeconds': 'seconds',
    'gpu.workersPerCard': 'workers',
    'cluster.waitSeconds': 'seconds',
  });
});

test('the schema knows the models that there are', () => {
  assert.deepEqual([...MODEL_NAMES].sort(), [...MODELS_THERE_ARE].sort());
});

test('the JSON Schema describes a file: nothing required, no other keys, bounds and choices', () => {
  const schema = jsonSchema() as {
    $schema: string;
    additionalProperties: boolean;
    required?: unknown;
    properties: Record<
      string,
      { additionalProperties: boolean; required?: unknown; properties: Record<string, Record<string, unknown>> }
    >;
  };
  assert.equal(schema.$schema, 'https://json-schema.org/draft/2020-12/schema');
  for (const section of [schema, ...Object.values(schema.properties)]) {
    assert.equal(section.additionalProperties, false);
    assert.equal(section.required, undefined);
  }
  const globalBatch = schema.properties['train']!.properties['globalBatch']!;
  assert.deepEqual(globalBatch, {
    type: 'integer',
    minimum: 1,
    maximum: 1_048_576,
    default: 128,
    description: 'Images of a step over all workers; a multiple of train.logicalShards.',
  });
  assert.deepEqual(schema.properties['model']!.properties['shortcut']!['enum'], ['A', 'B', 'C', 'none']);
});

test('docs/configuration.md is fresh (npm run docs)', () => {
  const page = fs.readFileSync(new URL('../../docs/configuration.md', import.meta.url), 'utf8');
  assert.equal(page, configurationPage());
});

test('the page names every key once', () => {
  const page = configurationPage();
  for (const { path } of CONFIG_KEYS) assert.equal(page.split(`| \`${path}\` |`).length, 2, path);
});

test('lists of words', () => {
  assert.deepEqual(
    [[], ['a'], ['a', 'b'], ['a', 'b', 'c']].map((words) => listText(words)),
    ['', 'a', 'a or b', 'a, b or c'],
  );
});
