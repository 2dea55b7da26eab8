import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import fc from 'fast-check';
import { loadConfig } from '../src/config/load.js';
import { printConfig, printValue } from '../src/config/print-config.js';
import { MODEL_NAMES, type RunConfig, runConfigSchema } from '../src/config/schema.js';

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'dtrain-print-'));
after(() => fs.rmSync(folder, { recursive: true }));

function reload(config: RunConfig): RunConfig {
  const file = path.join(folder, 'printed.yaml');
  fs.writeFileSync(file, printConfig(config));
  return loadConfig({ file });
}

const bigInteger = (min: number, max: number) => fc.integer({ min, max });
const fraction = fc.double({ min: 0, max: 1, noNaN: true });
const below1 = fraction.filter((value) => value < 1);
const above0 = (max: number) => fc.double({ min: 0, max, noNaN: true, minExcluded: true });
const paths = fc.oneof(
  fc.constantFrom(
    'null',
    '~',
    'true',
    'yes',
    '12',
    '0x10',
    '.nan',
    '- a',
    'a: b',
    'a #b',
    '[a]',
    '"',
    "'",
    '*a',
    '&a',
    '!a',
    ' a ',
    '\u2028',
    '\ufeff',
    '%a',
    '|',
  ),
  fc.string({ unit: 'binary', minLength: 1, maxLength: 40 }).filter((text) => /^[^\p{Cc}\p{Cs}]*$/u.test(text)),
);

/** Any configuration that the schema takes. */
const configs = fc
  .record({
    model: fc.record({
      name: fc.constantFrom(...MODEL_NAMES),
      shortcut: fc.constantFrom('A', 'B', 'C', 'none'),
      stem: fc.constantFrom('cifar', 'imagenet'),
      initFrom: fc.option(paths),
    }),
    data: fc.record({
      name: fc.constantFrom('cifar10', 'image-folder', 'synthetic'),
      path: fc.option(paths),
      shuffle: fc.boolean(),
      augment: fc.record({
        crop: bigInteger(0, 256),
        flip: fc.oneof(fc.boolean(), fc.constant('alternating')),
        cutout: bigInteger(0, 256),
      }),
    }),
    train: fc.record({
      epochs: bigInteger(1, 100_000),
      maxSteps: fc.option(bigInteger(1, 1_000_000_000)),
      globalBatch: bigInteger(1, 1_048_576),
      logicalShards: fc.option(bigInteger(1, 1024)),
      threadsPerWorker: fc.option(bigInteger(1, 1024)),
      precision: fc.constantFrom('float32', 'bfloat16'),
      compile: fc.constantFrom('auto', 'xla', 'graph'),
      seed: bigInteger(0, 4_294_967_295),
      labelSmoothing: below1,
    }),
    optimizer: fc.record({ momentum: below1, nesterov: fc.boolean(), weightDecay: fraction }),
    schedule: fc.record({
      name: fc.constantFrom('constant', 'multi-step', 'cosine', 'one-cycle'),
      learningRate: above0(1000),
      warmupEpochs: fc.double({ min: 0, max: 100_000, noNaN: true }),
      milestones: fc.uniqueArray(above0(100_000), { maxLength: 5 }).map((epochs) => epochs.sort((a, b) => a - b)),
      factor: above0(1),
    }),
    evaluation: fc.record({ everyEpochs: bigInteger(0, 100_000) }),
    checkpoint: fc.record({
      everyEpochs: bigInteger(0, 100_000),
      everySteps: fc.option(bigInteger(1, 1_000_000_000)),
      keep: bigInteger(1, 1_000_000),
    }),
    allReduce: fc.record({ timeoutSeconds: above0(86_400), exact: fc.boolean() }),
  })
  .map((values) => runConfigSchema.parse(values));

test('a printed configuration loads as the same one, and prints the same', () => {
  fc.assert(
    fc.property(configs, (config) => {
      const loaded = reload(config);
      assert.deepEqual(loaded, config);
      assert.equal(printConfig(loaded), printConfig(config));
    }),
    { numRuns: 300 },
  );
});

test('words stand bare; what YAML would read as something else stands in quotes', () => {
  const values = ['one-cycle', 'A', 'yes', 'null', '12', '/a b', '', 'a"b', [82, 0.5], null, true, 1e-7, 1e21];
  assert.deepEqual(values.map(printValue), [
    'one-cycle',
    'A',
    '"yes"',
    '"null"',
    '"12"',
    '"/a b"',
    '""',
    '"a\\"b"',
    '[82, 0.5]',
    'null',
    'true',
    '1e-7',
    '1e+21',
  ]);
});
