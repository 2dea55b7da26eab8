/** What the commands ask of the run layer and print of its answers, with a run layer made up by the test. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import type { RunLayer } from '../src/cli/run-layer.js';
import { loadConfig } from '../src/config/load.js';
import { MODEL_NAMES } from '../src/config/schema.js';
import { DtrainError, ExitCode } from '../src/core/errors.js';
import type { DataBench } from '../src/run/bench-data.js';
import { END_EVENT, evaluationEvent, RUN_EVENT, STEP_BENCH, stepEvent } from './support/events.js';
import { runCommand } from './support/run-command.js';

/** Keeps the options of each call, gives `answer`. */
function asked<Options, Answer>(answer: Answer) {
  const calls: Options[] = [];
  const call = async (options: Options): Promise<Answer> => {
    calls.push(options);
    return answer;
  };
  return { calls, call };
}

// ——— train ———

type TrainOptions = Parameters<RunLayer['train']>[0];

function trains(calls: TrainOptions[] = [], failure?: unknown): Partial<RunLayer> {
  return {
    async *train(options) {
      calls.push(options);
      options.say?.('a line for people');
      yield RUN_EVENT;
      options.onProgress?.({
        step: 1,
        totalSteps: 782,
        epoch: 0.01,
        loss: 2,
        trainAccuracy: 0.1,
        imagesPerSecond: 600,
      });
      yield stepEvent(391, 1);
      if (failure !== undefined) throw failure;
      yield evaluationEvent(391, 1);
      yield END_EVENT;
    },
  };
}

test('train asks for what the words say', async () => {
  const calls: TrainOptions[] = [];
  const run = trains(calls);
  await runCommand(['--config', 'resnet50.yaml', '--cpus', '4', 'train.maxSteps=3', '--run-dir', 'there'], run);
  await runCommand(['train', '--config', 'resnet20', '--gpus', '2'], run);
  await runCommand(['--config', 'resnet20'], run);
  assert.deepEqual(
    calls.map(({ config, devices, runDir, configName }) => ({ config, devices, runDir, configName })),
    [
      {
        config: loadConfig({ file: 'resnet50', overrides: ['train.maxSteps=3'] }),
        devices: { kind: 'cpu', count: 4 },
        runDir: 'there',
        configName: 'resnet50',
      },
      {
        config: loadConfig({ file: 'resnet20' }),
        devices: { kind: 'gpu', count: 2 },
        runDir: null,
        configName: 'resnet20',
      },
      { config: loadConfig({ file: 'resnet20' }), devices: null, runDir: null, configName: 'resnet20' },
    ],
  );
});

test('train --json: the events on standard output, one a line, and nothing else', async () => {
  const { exitCode, stdout, stderr } = await runCommand(['--config', 'resnet20', '--json'], trains());
  const events = [RUN_EVENT, stepEvent(391, 1), evaluationEvent(391, 1), END_EVENT];
  assert.equal(stdout, events.map((event) => `${JSON.stringify(event)}\n`).join(''));
  assert.deepEqual([exitCode, stderr], [0, '']);
});

test('train: the result on standard output, the rest on standard error', async () => {
  const { exitCode, stdout, stderr } = await runCommand(['--config', 'resnet20'], trains());
  assert.equal(exitCode, 0);
  assert.match(
    stdout,
    /^test accuracy 61\.2 %, .*\n {2}run {10}runs\/quickstart-1\n {2}report {7}runs\/quickstart-1\/report.html\n/,
  );
  assert.match(
    stderr,
    /^dtrain: starting resnet20\na line for people\ndtrain 9\.9\.9: resnet20, .*\n {2}devices .*\n {2}data .*\n {2}batch .*\n {2}steps .*\n {2}run .*\nepoch 1\/\d+ {2}step .*\nepoch 1\/\d+ {2}loss .*test 57\.1 %.*\n$/,
  );
});

test('a run that fails: the message, the exit code, and under --json the error as the last event', async () => {
  const error = new DtrainError('DTRAIN_DIVERGED', ExitCode.diverged, 'step 5: loss is NaN.', {
    rank: 1,
    step: 5,
    phase: 'compute',
  });
  const plain = await runCommand(['--config', 'resnet20', '--quiet'], trains([], error));
  assert.deepEqual(plain, { exitCode: 8, stdout: '', stderr: 'step 5: loss is NaN.\n' });
  const { exitCode, stdout, stderr } = await runCommand(['--config', 'resnet20', '--json'], trains([], error));
  assert.deepEqual([exitCode, stderr], [8, 'step 5: loss is NaN.\n']);
  assert.deepEqual(JSON.parse(stdout.trimEnd().split('\n').at(-1)!), {
    event: 'error',
    code: 'DTRAIN_DIVERGED',
    exitCode: 8,
    message: 'step 5: loss is NaN.',
    rank: 1,
    step: 5,
  });
});

test('a mistake of ours is called one, without a stack unless DTRAIN_DEBUG is set', async () => {
  const failure = new TypeError('x is undefined');
  const message = 'internal: x is undefined. This is a mistake of dtrain: DTRAIN_DEBUG=1 shows where it happened.\n';
  const quiet = ['--config', 'resnet20', '--quiet'];
  assert.deepEqual(await runCommand(quiet, trains([], failure)), { exitCode: 1, stdout: '', stderr: message });
  const { stderr } = await runCommand(quiet, trains([], failure), { DTRAIN_DEBUG: '1' });
  assert.ok(stderr.startsWith(message));
  assert.match(stderr, /TypeError: x is undefined\n\s+at /);
});

test('a batch that does not divide is refused before the run layer is asked', async () => {
  const { exitCode, stderr } = await runCommand(['--config', 'resnet20', '--gpus', '4', 'train.globalBatch=250']);
  assert.equal(exitCode, 3);
  assert.equal(
    stderr,
    'dtrain: starting resnet20\noverride train.globalBatch=250: expected a multiple of 4 ranks, got 250. Use 248 or 252, or --gpus 5.\n',
  );
});

// ——— train --dry-run ———

const CORES = os.availableParallelism();

test('--dry-run prints the plan and asks for nothing', async () => {
  const { exitCode, stdout, stderr } = await runCommand([
    '--config',
    'resnet50',
    '--gpus',
    '4',
    '--dry-run',
    'train.threadsPerWorker=1',
  ]);
  assert.deepEqual([exitCode, stderr], [0, '']);
  assert.equal(
    stdout,
    `model    resnet50, float32
devices  4 GPUs
batch    128 images: 4 x 32, in 4 logical shards of 32
threads  1 a worker, of ${CORES} cores
data     cifar10, 50,000 training images
steps    78,125: 200 epochs of 391
run      runs/resnet50-<time>
`,
  );
});

test('--dry-run --json', async () => {
  const words = [
    '--config',
    'resnet20',
    '--cpus',
    '2',
    '--dry-run',
    '--json',
    '--run-dir',
    'there',
    'train.threadsPerWorker=1',
    'train.maxSteps=10',
  ];
  const { stdout } = await runCommand(words);
  assert.deepEqual(JSON.parse(stdout), {
    dryRun: true,
    config: 'resnet20',
    model: 'resnet20',
    devices: { kind: 'cpu', count: 2 },
    world: 2,
    shards: 2,
    shardsPerRank: 1,
    shardBatch: 64,
    localBatch: 64,
    threadsPerWorker: 1,
    globalBatch: 128,
    trainImages: 50_000,
    stepsPerEpoch: 391,
    totalSteps: 10,
    runDir: 'there',
  });
});

test('--dry-run of data whose size is not known, on the devices that there are', async () => {
  const { stdout } = await runCommand([
    '--config',
    'quickstart',
    '--dry-run',
    'data.name=image-folder',
    'train.globalBatch=7',
  ]);
  const lines = stdout.split('\n');
  assert.match(lines[1]!, /^devices {2}all GPUs, else \d+ CPU workers? \(as counted below\)$/);
  assert.equal(lines[5], 'steps    2 epochs; the data say how many steps');
});

// ——— eval ———

const REPORT = {
  ...evaluationEvent(782, 2),
  classes: ['cat', 'dog'],
  perClass: [0.5, 0.642],
  top5Accuracy: 1,
  confusion: [
    [2500, 2500],
    [1790, 3210],
  ],
  calibration: { error: 0.0312, bins: [{ images: 0, confidence: null, accuracy: null }] },
  mostWrong: [{ image: 3, label: 0, predicted: 1, confidence: 0.99 }],
};

test('eval: a table and the whole, or the event as the last line', async () => {
  const { calls, call } = asked<Parameters<RunLayer['evaluateCheckpoint']>[0], typeof REPORT>(REPORT);
  const { exitCode, stdout } = await runCommand(['eval', 'runs/a', '--cpus', '2', 'data.path=/x'], {
    evaluateCheckpoint: call,
  });
  const { checkpoint, devices, overrides } = calls[0]!;
  assert.deepEqual(
    [exitCode, checkpoint, devices, overrides],
    [0, 'runs/a', { kind: 'cpu', count: 2 }, ['data.path=/x']],
  );
  assert.equal(
    stdout,
    `class  images  accuracy  precision
cat     5,000    50.0 %     58.3 %
dog     5,000    64.2 %     56.2 %

label \\ given   cat   dog
cat            2500  2500
dog            1790  3210

calibration error 3.1 %
test accuracy 57.1 % of 10,000 images, loss 1.2100, step 782
`,
  );
  const json = await runCommand(['eval', 'runs/a', '--json'], { evaluateCheckpoint: call });
  assert.equal(json.stdout, `${JSON.stringify(REPORT)}\n`);
});

test('eval of many classes: the largest confusions instead of a matrix, and the top-5 accuracy', async () => {
  const names = Array.from({ length: 13 }, (_, i) => `class-${i}`);
  const confusion = names.map((_, label) => names.map((_, given) => (label === given ? 90 : (label * given) % 7)));
  const report = { ...REPORT, classes: names, perClass: names.map(() => 0.9), confusion, top5Accuracy: 0.987 };
  const { stdout } = await runCommand(['eval', 'runs/a'], { evaluateCheckpoint: async () => report });
  const lines = stdout.trimEnd().split('\n');
  assert.deepEqual(lines.slice(15, 18), [
    'largest confusions          images',
    'class-1 taken for class-6        6',
    'class-2 taken for class-3        6',
  ]);
  assert.equal(lines.at(-1), 'test accuracy 57.1 % of 10,000 images, top-5 98.7 %, loss 1.2100, step 782');
});

// ——— bench ———

test('bench step', async () => {
  const { calls, call } = asked<Parameters<RunLayer['benchStep']>[0], typeof STEP_BENCH>(STEP_BENCH);
  const { stdout } = await runCommand(
    ['bench', 'step', '--config', 'resnet20', '--cpus', '2', '--steps', '7', '--warmup', '0'],
    { benchStep: call },
  );
  assert.deepEqual(
    [calls[0]!.configName, calls[0]!.devices, calls[0]!.steps, calls[0]!.warmup],
    ['resnet20', { kind: 'cpu', count: 2 }, 7, 0],
  );
  assert.equal(
    stdout,
    `run      resnet20, 2 x cpu, batch 128, float32, 20 steps
speed    600 images/s (570 to 620)
step     210 ms
work     244 MFLOP an image, 146 GFLOP/s
start    1.4 s to the end of the first step
memory   900 MB

feed     0.4 ms   0.2 %  ▏
compute  205 ms  98.5 %  ███████████████████████████████████████▌
reduce   0.6 ms   0.3 %  ▏
update     2 ms   1.0 %  ▌
report   0.1 ms   0.0 %  ▏
`,
  );
  const json = await runCommand(['bench', 'step', '--config', 'resnet20', '--json'], { benchStep: call });
  assert.equal(json.stdout, `${JSON.stringify(STEP_BENCH)}\n`);
  assert.deepEqual([calls[1]!.devices, calls[1]!.steps, calls[1]!.warmup], [null, 20, 5]);
});

test('bench all-reduce', async () => {
  const bench = {
    bench: 'all-reduce',
    bytes: 94_371_840,
    ranks: 2,
    rounds: 20,
    seconds: { median: 0.011, min: 0.01, max: 0.013 },
    trafficBytesPerSecond: 2.6e10,
    memcpyBytesPerSecond: 3e10,
    kind: 'shared-memory',
    dtype: 'float32',
    devices: 'memory',
  } as const;
  const { calls, call } = asked<Parameters<RunLayer['benchAllReduce']>[0], typeof bench>(bench);
  const { stdout } = await runCommand(['bench', 'all-reduce'], { benchAllReduce: call });
  assert.deepEqual(calls, [{ bytes: 94_371_840, ranks: 2, rounds: 20, devices: null, config: loadConfig({}) }]);
  assert.equal(
    stdout,
    'run      94,371,840 bytes, 2 ranks, 20 rounds, shared-memory, float32 in memory\nround    11 ms (10 ms to 13 ms)\ntraffic  26.0 GB/s\nmemcpy   30.0 GB/s\n',
  );
  const json = await runCommand(['bench', 'all-reduce', '--bytes', '64', '--ranks', '4', '--rounds', '1', '--json'], {
    benchAllReduce: call,
  });
  assert.deepEqual(calls[1], { bytes: 64, ranks: 4, rounds: 1, devices: null, config: loadConfig({}) });
  assert.equal(json.stdout, `${JSON.stringify(bench)}\n`);
  const overrides = ['allReduce.kind=tensorflow'];
  await runCommand(['bench', 'all-reduce', '--gpus', '3', ...overrides], { benchAllReduce: call });
  const devices = { kind: 'gpu', count: 3 };
  assert.deepEqual(calls[2], { bytes: 94_371_840, ranks: 3, rounds: 20, devices, config: loadConfig({ overrides }) });
});

test('bench scaling: the gate is checked after all figures are out', async () => {
  const bench = {
    bench: 'scaling',
    config: 'resnet20',
    devices: 'cpu',
    precision: 'float32',
    points: [
      { workers: 1, imagesPerSecond: 310, efficiency: 1, seconds: STEP_BENCH.seconds },
      { workers: 2, imagesPerSecond: 540, efficiency: 0.871, seconds: STEP_BENCH.seconds },
    ],
  } as const;
  const { calls, call } = asked<Parameters<RunLayer['benchScaling']>[0], typeof bench>(bench);
  const words = ['bench', 'scaling', '--config', 'resnet20', '--cpus', '1,2'];
  const table =
    'resnet20, cpu, float32\nworkers  images/s  efficiency\n1             310     100.0 %\n2             540      87.1 %\n';
  assert.deepEqual(await runCommand(words, { benchScaling: call }), { exitCode: 0, stdout: table, stderr: '' });
  assert.deepEqual([calls[0]!.kind, calls[0]!.counts], ['cpu', [1, 2]]);
  assert.equal((await runCommand([...words, '--min-efficiency', '0.87'], { benchScaling: call })).exitCode, 0);
  assert.deepEqual(await runCommand([...words, '--min-efficiency', '0.9', '--json'], { benchScaling: call }), {
    exitCode: 1,
    stdout: `${JSON.stringify(bench)}\n`,
    stderr: 'bench scaling: 2 workers: expected an efficiency of at least 0.9, got 0.871.\n',
  });
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'dtrain-test-'));
  after(() => fs.rmSync(folder, { recursive: true }));
  const chart = path.join(folder, 'scaling.svg');
  const { stderr } = await runCommand([...words, '--chart', chart], { benchScaling: call });
  assert.equal(stderr, `chart: ${chart}\n`);
  assert.match(fs.readFileSync(chart, 'utf8'), /^<svg xmlns=.*<title>resnet20, cpu, float32<\/title>.*<\/svg>\n$/s);
  const nowhere = await runCommand([...words, '--chart', '/nowhere/scaling.svg'], { benchScaling: call });
  assert.deepEqual([nowhere.exitCode, nowhere.stdout], [7, table], 'the figures come first');
  assert.match(nowhere.stderr, /^\/nowhere\/scaling\.svg: cannot be written \(ENOENT\)\. /);
});

test('bench data: both paths, the waits of real steps, and which one a run takes', async () => {
  const training = { imagesPerSecond: 560, dataWait: 0, waitSeconds: { median: 0, max: 0 }, stepsThatWaited: 0 };
  const memory = { imagesPerSecond: 1_200_000, training };
  const stream = { imagesPerSecond: 18_000, training, threads: 1, stepsAhead: 8, peakSteps: 8 };
  const head = { config: 'resnet20', devices: 'cpu', workers: 2, globalBatch: 128, steps: 20 } as const;
  const bench = { bench: 'data', ...head, imagesPerSecond: 1_200_000, path: 'memory', memory, stream } as const;
  const { calls, call } = asked<Parameters<RunLayer['benchData']>[0], DataBench>(bench);
  const words = ['bench', 'data', '--config', 'resnet20', '--cpus', '2', 'data.memoryBytes=0'];
  const { stdout } = await runCommand(words, { benchData: call });
  assert.deepEqual([calls[0]!.devices, calls[0]!.config.data.memoryBytes], [{ kind: 'cpu', count: 2 }, 0]);
  assert.equal(
    stdout,
    [
      'run      resnet20, 2 x cpu, batch 128, 20 steps',
      'memory   1,200,000 images/s fed, trains at 560 images/s',
      'stream   18,000 images/s fed, trains at 560 images/s',
      'ahead    1 thread, 8 of 8 batches',
      'waits    0 of 20 steps, 0.0 % of the time',
      'taken    memory',
      '',
    ].join('\n'),
  );
  const json = await runCommand(['bench', 'data', '--config', 'resnet20', '--json'], { benchData: call });
  assert.equal(json.stdout, `${JSON.stringify(bench)}\n`);

  const waited = { ...training, dataWait: 0.25, waitSeconds: { median: 0, max: 0.0123 }, stepsThatWaited: 7 };
  const slow = { ...bench, path: 'stream', memory: null, stream: { ...stream, threads: 2, training: waited } } as const;
  const { call: callSlow } = asked<Parameters<RunLayer['benchData']>[0], DataBench>(slow);
  const lines = (await runCommand(words, { benchData: callSlow })).stdout.split('\n');
  assert.deepEqual(lines.slice(1), [
    'memory   the set does not fit',
    'stream   18,000 images/s fed, trains at 560 images/s',
    'ahead    2 threads, 8 of 8 batches',
    'waits    7 of 20 steps, 25.0 % of the time, 12.3 ms at most',
    'taken    stream',
    '',
  ]);
  const { call: callOther } = asked<Parameters<RunLayer['benchData']>[0], DataBench>({ ...bench, stream: null });
  const other = (await runCommand(words, { benchData: callOther })).stdout.split('\n');
  assert.deepEqual(other.slice(2), ['stream   the set cannot be streamed', 'taken    memory', '']);
});

// ——— models, export ———

test('models: the stem follows the size of the images', async () => {
  const answer = [{ model: 'resnet20', parameters: 272_474, multiplyAdds: 40_560_000, layers: 20 }];
  const { calls, call } = asked<Parameters<RunLayer['describeModels']>[0], typeof answer>(answer);
  const run = { describeModels: call };
  const { stdout } = await runCommand(['models'], run);
  assert.equal(stdout, 'model     parameters  multiply-adds  layers\nresnet20     272,474     40,560,000      20\n');
  await runCommand(['models', 'resnet50', '--input', '3x224x224', '--classes', '1000'], run);
  await runCommand(['models', 'resnet50', '--input', '3x64x63'], run);
  await runCommand(['models', 'resnet50', '--input', '3x64x64', '--stem', 'cifar'], run);
  assert.deepEqual(calls, [
    { names: MODEL_NAMES, input: { height: 32, width: 32 }, classes: 10, stem: 'cifar' },
    { names: ['resnet50'], input: { height: 224, width: 224 }, classes: 1000, stem: 'imagenet' },
    { names: ['resnet50'], input: { height: 64, width: 63 }, classes: 10, stem: 'cifar' },
    { names: ['resnet50'], input: { height: 64, width: 64 }, classes: 10, stem: 'cifar' },
  ]);
  assert.equal((await runCommand(['models', '--json'], run)).stdout, `${JSON.stringify(answer[0])}\n`);
});

test('export', async () => {
  const { calls, call } = asked<Parameters<RunLayer['exportCheckpoint']>[0], { tensors: number; bytes: number }>({
    tensors: 65,
    bytes: 1_100_000,
  });
  const { stdout } = await runCommand(['export', 'runs/a', '--format', 'safetensors', '--out', 'a.safetensors'], {
    exportCheckpoint: call,
  });
  assert.deepEqual(calls, [{ checkpoint: 'runs/a', format: 'safetensors', out: 'a.safetensors', fold: false }]);
  assert.equal(stdout, 'a.safetensors: 65 tensors, 1,100,000 bytes\n');
  await runCommand(['export', 'runs/a', '--format', 'onnx', '--out', 'a.onnx', '--fold'], { exportCheckpoint: call });
  assert.deepEqual(calls[1], { checkpoint: 'runs/a', format: 'onnx', out: 'a.onnx', fold: true });
});

test('predict: the most probable classes, and all of them under --json', async () => {
  const answer = {
    classes: ['cat', 'dog', 'frog'],
    predictions: [
      {
        image: 'a.png',
        logits: Float32Array.of(0, 1, 2),
        probabilities: Float64Array.of(0.125, 0.25, 0.625),
      },
    ],
  };
  const { calls, call } = asked<Parameters<RunLayer['predictImages']>[0], typeof answer>(answer);
  const plain = await runCommand(['predict', 'runs/a', 'a.png', '--top', '2'], { predictImages: call });
  assert.deepEqual(plain, { exitCode: 0, stdout: 'a.png: frog 62.5 %, dog 25.0 %\n', stderr: '' });
  assert.deepEqual(calls, [{ checkpoint: 'runs/a', images: ['a.png'] }]);
  const { stdout } = await runCommand(['predict', 'runs/a', 'a.png', '--json'], { predictImages: call });
  assert.deepEqual(JSON.parse(stdout), {
    image: 'a.png',
    predicted: 'frog',
    probabilities: { cat: 0.125, dog: 0.25, frog: 0.625 },
  });
});
