/** The searches for a learning rate and a batch: their rules on made-up figures, and each once for real. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { loadConfig } from '../src/config/load.js';
import { DtrainError, ExitCode } from '../src/core/errors.js';
import { findBatch, isTooMuch, searchLargest } from '../src/run/find-batch.js';
import { findLearningRate, suggestedRates } from '../src/run/find-learning-rate.js';
import { runCommand } from './support/run-command.js';
import { SMALL_RUN } from './support/train-run.js';

// ——— the learning rate ———

test('a loss that falls at 0.1 and rises after 1', () => {
  const points = Array.from({ length: 121 }, (_, i) => {
    const learningRate = 1e-5 * 10 ** (i / 20);
    const fall = 2 / (1 + Math.exp(-4 * (Math.log10(learningRate) + 1)));
    return { step: i + 1, learningRate, loss: 2.3 - fall + (learningRate > 1 ? learningRate : 0) };
  });
  const { suggestion, steepest } = suggestedRates(points);
  assert(steepest! > 0.07 && steepest! < 0.15, `${steepest}`);
  assert(suggestion! > 0.4 && suggestion! < 1.2, `${suggestion}`);
});

test('no suggestion where the loss never falls, or there is no point', () => {
  const rising = Array.from({ length: 20 }, (_, i) => ({ step: i + 1, learningRate: 10 ** (i - 10), loss: 2 + i }));
  for (const points of [rising, []]) assert.deepEqual(suggestedRates(points), { suggestion: null, steepest: null });
});

test('find lr, for real: rates grow by a constant factor, the loss falls, and a rate that is far too high ends it', async () => {
  const config = loadConfig({ overrides: [...SMALL_RUN] });
  const options = {
    config,
    configName: 'test',
    devices: { kind: 'cpu', count: 1 },
    min: 1e-4,
    max: 1e4,
    steps: 40,
  } as const;
  const seen: number[] = [];
  const { points, suggestion, diverged, ...rest } = await findLearningRate({
    ...options,
    onProgress: ({ step }) => seen.push(step),
  });
  assert.deepEqual(
    { find: rest.find, config: rest.config, globalBatch: rest.globalBatch },
    { find: 'lr', config: 'test', globalBatch: 32 },
  );
  assert.equal(diverged, true);
  assert(points.length > 15 && points.length < 40, `${points.length} points`);
  assert.deepEqual(
    seen,
    points.map(({ step }) => step),
  );
  assert.equal(points[0]!.learningRate, 1e-4);
  for (let i = 1; i < points.length; i++) {
    assert(Math.abs(points[i]!.learningRate / points[i - 1]!.learningRate / 1e8 ** (1 / 39) - 1) < 1e-9);
  }
  assert(suggestion === null || (suggestion > 1e-4 && suggestion < 0.1), `${suggestion}`);
});

const SWEEP = {
  find: 'lr' as const,
  config: 'resnet20',
  globalBatch: 128,
  points: [
    { step: 1, learningRate: 0.001, loss: 2.4 },
    { step: 2, learningRate: 0.1, loss: 1.2 },
    { step: 3, learningRate: 10, loss: 9 },
  ],
  suggestion: 0.1,
  steepest: 0.001,
  diverged: true,
};

test('find lr: a picture for people, the object for programs', async () => {
  const calls: unknown[] = [];
  const findLearningRate = async (options: { min: number; max: number; steps: number }) => {
    calls.push([options.min, options.max, options.steps]);
    return SWEEP;
  };
  const words = ['find', 'lr', '--config', 'resnet20', '--cpus', '1'];
  const { stdout, exitCode } = await runCommand(words, { findLearningRate });
  assert.equal(exitCode, 0);
  assert.deepEqual(stdout.split('\n'), [
    'learning rate   loss',
    `0.001          2.400  ${'█'.repeat(20)}`,
    `0.1            1.200  ${'█'.repeat(10)}`,
    `10             9.000  ${'█'.repeat(40)}`,
    'The loss rose without bounds at 10. The loss falls up to 0.1, fastest at 0.001.',
    'try: schedule.learningRate=0.1 (the highest of a schedule that falls)',
    '',
  ]);
  const json = await runCommand([...words, '--min', '1e-6', '--max', '.5', '--steps', '20', '--json'], {
    findLearningRate,
  });
  assert.deepEqual(JSON.parse(json.stdout), SWEEP);
  assert.deepEqual(calls, [
    [1e-4, 10, 100],
    [1e-6, 0.5, 20],
  ]);
  const never = async () => ({ ...SWEEP, suggestion: null, steepest: null, diverged: false });
  assert.match(
    (await runCommand(words, { findLearningRate: never })).stdout,
    /\nThe loss never fell: try a lower --min, or more --steps\.\n$/,
  );
});

test('find: words that make no sense', async () => {
  for (const [words, expected] of [
    [['find'], 'find: expected lr, batch, got nothing.'],
    [['find', 'lr'], '--config is missing: for instance --config resnet20'],
    [['find', 'lr', '--config', 'resnet20', '--min', '-1'], '--min: expected a number above 0, got "-1".'],
    [['find', 'lr', '--config', 'resnet20', '--min', '20'], '--min: expected a rate below --max (10), got 20.'],
    [
      ['find', 'batch', '--config', 'resnet20', '--max', '64'],
      '--max: expected at least train.globalBatch (128), got 64.',
    ],
  ] as const) {
    const { exitCode, stderr } = await runCommand(words);
    assert.deepEqual([exitCode, stderr.split('\n')[0]], [2, expected]);
  }
});

// ——— the batch ———

test('the search ends within an eighth of the largest that fits, without trying much', async () => {
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 1, max: 64 }), fc.integer({ min: 0, max: 5000 }), async (unit, most) => {
      const tried: number[] = [];
      const { largest, limit } = await searchLargest({ unit, first: unit, max: 4096 }, async (batch) => {
        tried.push(batch);
        return batch <= most;
      });
      assert.equal(new Set(tried).size, tried.length, 'nothing is tried twice');
      assert(tried.every((batch) => batch % unit === 0 && batch <= 4096));
      if (most < unit) return assert.deepEqual([largest, limit, tried], [null, 'memory', [unit]]);
      assert(largest! <= most);
      if (limit === 'max') assert(2 * largest! > 4096);
      else assert(most < largest! + Math.max(unit, largest! / 8) + 1, `${largest} of ${most}`);
    }),
  );
});

test('a batch that would take the memory of the machine is not tried', () => {
  const at = (globalBatch: number, gigabytes: number, devices: 'cpu' | 'gpu' = 'cpu') => ({
    devices,
    globalBatch,
    peakRssBytes: gigabytes * 1e9,
  });
  assert.equal(isTooMuch([at(128, 1)], 256, 1e9), false, 'one trial says nothing');
  assert.equal(isTooMuch([at(128, 1), at(256, 2)], 512, 6e9), false);
  assert.equal(isTooMuch([at(128, 1), at(256, 2)], 512, 4.9e9), true);
  assert.equal(isTooMuch([at(256, 2), at(128, 1)], 512, 4.9e9), true, 'in any order');
  assert.equal(isTooMuch([at(128, 1, 'gpu'), at(256, 2, 'gpu')], 512, 1e9), false, 'a GPU says itself what it has');
});

test('find batch, for real', async () => {
  const config = loadConfig({ overrides: [...SMALL_RUN, 'model={name: speednet}'] });
  const said: string[] = [];
  const found = await findBatch({
    config,
    configName: 'test',
    devices: { kind: 'cpu', count: 1 },
    max: 64,
    steps: 1,
    say: (line) => said.push(line),
  });
  const { points, fastest, ...rest } = found;
  assert.deepEqual(rest, {
    find: 'batch',
    config: 'test',
    devices: 'cpu',
    workers: 1,
    precision: 'float32',
    largest: 64,
    limit: 'max',
  });
  assert.deepEqual(
    points.map(({ globalBatch }) => globalBatch),
    [32, 64],
  );
  assert(points.every(({ imagesPerSecond, peakRssBytes }) => imagesPerSecond > 0 && peakRssBytes > 1e8));
  assert([32, 64].includes(fastest) && said.length === 2);
  await assert.rejects(
    findBatch({
      config: loadConfig({ overrides: ['data.name=image-folder', 'data.path=nowhere'] }),
      configName: 'test',
      devices: { kind: 'cpu', count: 1 },
      max: 256,
      steps: 1,
    }),
    (error: unknown) =>
      error instanceof DtrainError &&
      error.code === 'DTRAIN_BENCH_FAILED' &&
      error.message.startsWith('find batch, batch 128: data.path: nowhere: '),
  );
});

test('find batch: a table for people', async () => {
  const points = [
    { globalBatch: 128, imagesPerSecond: 600.4, peakRssBytes: 5e8 },
    { globalBatch: 256, imagesPerSecond: 580, peakRssBytes: 7e8 },
  ];
  const found = {
    find: 'batch',
    config: 'resnet20',
    devices: 'cpu',
    workers: 2,
    precision: 'float32',
    points,
    largest: 256,
    limit: 'memory',
    fastest: 128,
  } as const;
  const { stdout } = await runCommand(['find', 'batch', '--config', 'resnet20'], { findBatch: async () => found });
  assert.equal(
    stdout,
    'batch  images/s  memory\n128         600  500 MB\n256         580  700 MB\nlargest: train.globalBatch=256 (the largest that fits into memory)\nfastest: train.globalBatch=128\n',
  );
  const failing = async () => {
    throw new DtrainError('DTRAIN_OUT_OF_MEMORY', ExitCode.outOfMemory, 'find batch: too large.');
  };
  assert.equal((await runCommand(['find', 'batch', '--config', 'resnet20'], { findBatch: failing })).exitCode, 9);
});
