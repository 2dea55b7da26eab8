/** What a run does when something goes wrong: exit code, message, nothing left behind. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { afterEach, test } from 'node:test';
import { nowSeconds } from '../src/core/clock.js';
import { PHASES } from '../src/core/events.js';
import { FAULT_KINDS } from '../src/run/fault.js';
import { openCheckpoint } from '../src/train/checkpoint.js';
import { failureOf } from './support/compare-runs.js';
import { runTraining, temporaryFolder } from './support/train-run.js';

/** Of weights.safetensors, whose tensors are sorted by name. */
const LAST_TENSOR = 'layer3.2.conv2.weight';

afterEach(() => delete process.env['DTRAIN_FAULT']);

for (const phase of PHASES) {
  test(`an exception in ${phase} ends the run with exit code 10, naming rank, step and phase`, async () => {
    process.env['DTRAIN_FAULT'] = `throw:rank=1,step=3,phase=${phase}`;
    const { exitCode, message, rank, step } = await failureOf(runTraining(3, ['train.globalBatch=33']));
    assert.equal(message, `rank 1, step 3, ${phase}: fault injected by DTRAIN_FAULT. No checkpoint was saved yet.`);
    assert.deepEqual({ exitCode, rank, step }, { exitCode: 10, rank: 1, step: 3 });
  });
}

test('a thread that dies ends the run; it is not replaced', async () => {
  process.env['DTRAIN_FAULT'] = 'exit:rank=1,step=2,phase=update';
  const { exitCode, code, message } = await failureOf(runTraining(2));
  assert.equal(exitCode, 10);
  assert.equal(code, 'DTRAIN_WORKER_DIED');
  assert.match(message, /^rank 1: its thread ended: /);
});

test('a rank that stops moving is named by those who wait for it', async () => {
  process.env['DTRAIN_FAULT'] = 'stall:rank=0,step=2,phase=compute';
  const started = nowSeconds();
  const { exitCode, message } = await failureOf(runTraining(3, ['train.globalBatch=33', 'allReduce.timeoutSeconds=2']));
  assert.equal(exitCode, 11);
  assert.equal(
    message,
    'all-reduce, step 2: rank 0 did not arrive within 2 s (last seen in compute); ranks 1, 2 waited. No checkpoint was saved yet.',
  );
  assert(nowSeconds() - started < 5 * 10);
});

test('a single rank that stops moving is found by the watchdog', async () => {
  process.env['DTRAIN_FAULT'] = 'stall:rank=0,step=2,phase=update';
  const { exitCode, message } = await failureOf(runTraining(1, ['allReduce.timeoutSeconds=2']));
  assert.equal(exitCode, 11);
  const cure = 'If a step takes this long here, raise allReduce.timeoutSeconds. No checkpoint was saved yet.';
  assert.equal(message, `rank 0, step 2, update: no progress for 2 s. ${cure}`);
});

test('a loss that is not finite ends the run with exit code 8 and saves nothing', async () => {
  process.env['DTRAIN_FAULT'] = 'nan:rank=1,step=4,phase=reduce';
  const runDir = path.join(temporaryFolder(), 'run');
  const { exitCode, message } = await failureOf(runTraining(2, [], { runDir }));
  assert.equal(exitCode, 8);
  const cure = 'Lower schedule.learningRate, or add schedule.warmupEpochs.';
  const details = `Images and gradients of the step: ${runDir}/diverged.json.`;
  assert.equal(
    message,
    `step 4: the loss is NaN: training has diverged. ${cure} ${details} No checkpoint was saved yet.`,
  );
  const { step, images, gradients } = JSON.parse(fs.readFileSync(path.join(runDir, 'diverged.json'), 'utf8'));
  assert.deepEqual([step, images.length, gradients[0].name, gradients[0].notFinite], [4, 32, 'conv1.weight', 432]);
  assert.deepEqual(fs.readdirSync(path.join(runDir, 'checkpoints')), []);
});

test('a gradient that is not finite is found in its step, while the loss still is; no weight has changed', async () => {
  process.env['DTRAIN_FAULT'] = 'inf:rank=1,step=3,phase=reduce';
  const runDir = path.join(temporaryFolder(), 'run');
  const { exitCode, message, step } = await failureOf(runTraining(2, ['checkpoint.everySteps=2'], { runDir }));
  assert.deepEqual({ exitCode, step }, { exitCode: 8, step: 3 });
  assert.match(
    message,
    /^step 3: the mean gradient is not finite, the loss still is \(\d\.\d+\): training has diverged\. /,
  );
  assert.match(message, /diverged\.json\. (Last good checkpoint: step 2|No checkpoint was saved yet)\.$/);
  const { gradients } = JSON.parse(fs.readFileSync(path.join(runDir, 'diverged.json'), 'utf8'));
  assert.deepEqual([gradients[0].name, gradients[0].notFinite, gradients[1].notFinite], ['conv1.weight', 1, 0]);
  assert(!fs.existsSync(path.join(runDir, 'checkpoints', 'step-3')));
});

test('a stop on request finishes the step, saves, and ends with exit code 75', async () => {
  const controller = new AbortController();
  const runDir = path.join(temporaryFolder(), 'run');
  const onProgress = () => controller.abort();
  const run = runTraining(2, ['train.maxSteps=null'], { runDir, signal: controller.signal, onProgress });
  const { exitCode, step, message } = await failureOf(run);
  assert.equal(exitCode, 75);
  assert.equal(openCheckpoint(runDir).state.step, step);
  assert.equal(message, `stopped on request after step ${step}; the checkpoint is ${runDir}/checkpoints/step-${step}.`);
});

test('a folder that holds the checkpoints of another run is refused', async () => {
  const { runDir } = await runTraining(1, ['train.maxSteps=1']);
  const { exitCode, message } = await failureOf(runTraining(1, [], { runDir }));
  assert.equal(exitCode, 7);
  const text = 'expected a new or empty folder, got one that holds checkpoints of an earlier run.';
  assert.equal(message, `${runDir}: ${text} Go on with it by --resume, choose another with --run-dir, or remove it.`);
});

test('a checkpoint that was altered, torn or is missing is refused', async () => {
  const { runDir } = await runTraining(1, ['train.maxSteps=1']);
  const weights = fs.realpathSync(path.join(runDir, 'checkpoints', 'last', 'weights.safetensors'));
  const bytes = fs.readFileSync(weights);
  bytes[bytes.length - 1]! ^= 1;
  fs.writeFileSync(weights, bytes);
  const cure = "Take another one of the run's checkpoints.";
  assert.throws(() => openCheckpoint(runDir), {
    exitCode: 6,
    message: `${weights}: the checkpoint is damaged: its SHA-256 is not the one in manifest.json (tensor ${LAST_TENSOR}). ${cure}`,
  });
  fs.truncateSync(weights, 100);
  assert.throws(() => openCheckpoint(runDir), {
    exitCode: 6,
    message: `${weights}: the checkpoint is damaged: expected ${bytes.length} bytes, got 100. ${cure}`,
  });
  const nowhere = path.join(runDir, 'nowhere');
  const expected = 'Expected a run folder, RUN/checkpoints/last, RUN/checkpoints/best or RUN/checkpoints/step-N.';
  assert.throws(() => openCheckpoint(nowhere), {
    exitCode: 6,
    message: `${nowhere}: no checkpoint there. ${expected}`,
  });
});

test('replicas that differ are named, and nothing is saved', async () => {
  process.env['DTRAIN_FAULT'] = 'flip:rank=1,step=2,phase=report';
  const runDir = path.join(temporaryFolder(), 'run');
  const { exitCode, code, message, rank } = await failureOf(runTraining(2, ['checkpoint.everySteps=2'], { runDir }));
  assert.deepEqual({ exitCode, code, rank }, { exitCode: 10, code: 'DTRAIN_REPLICAS_DIFFER', rank: 1 });
  const text =
    'the weights of rank 1 differ from those of rank 0, though all made the same updates. Nothing was saved.';
  assert.equal(message, `step 2: ${text} Check the machine's memory. No checkpoint was saved yet.`);
  assert.deepEqual(fs.readdirSync(path.join(runDir, 'checkpoints')), []);
});

test('the disk fails: training goes on, and the third failure in a row ends the run with exit code 7', async () => {
  const runDir = path.join(temporaryFolder(), 'run');
  const checkpoints = path.join(runDir, 'checkpoints');
  const warned: string[] = [];
  const breakDisk = () => {
    fs.rmSync(checkpoints, { recursive: true });
    fs.writeFileSync(checkpoints, '');
  };
  const run = runTraining(2, ['checkpoint.everySteps=2', 'train.maxSteps=12'], {
    runDir,
    warn: (line) => warned.push(line),
    onEvent: ({ event }) => event === 'checkpoint' && breakDisk(),
  });
  const { exitCode, message } = await failureOf(run);
  assert.equal(exitCode, 7);
  const cure = 'Check the disk, or choose another folder with --run-dir.';
  assert.match(
    message,
    /step-\d+: cannot be written \(ENOTDIR\)\. Check the disk, .* Last good checkpoint: step \d+\.$/,
  );
  const texts = warned.map((line) => line.replace(/step-\d+/, 'step-N').replace(/step \d+/, 'step N'));
  const text = (n: number) =>
    `${checkpoints}/step-N: cannot be written (ENOTDIR). ${cure} The checkpoint of step N was not saved (failure ${n} of 3 in a row); training goes on.`;
  assert.deepEqual(texts, [text(1), text(2)]);
});

test('metrics that cannot be written end no run', async () => {
  const runDir = path.join(temporaryFolder(), 'run');
  fs.mkdirSync(path.join(runDir, 'metrics.jsonl'), { recursive: true });
  const warned: string[] = [];
  const { events } = await runTraining(1, ['train.maxSteps=1'], { runDir, warn: (line) => warned.push(line) });
  assert.equal(events.at(-1)?.event, 'end');
  const text = 'cannot be written (EISDIR). Check the disk, or choose another folder with --run-dir.';
  assert.equal(warned[0], `${runDir}/metrics.jsonl: ${text} Training goes on without it.`);
});

test('DTRAIN_FAULT that cannot be read is a usage error', async () => {
  process.env['DTRAIN_FAULT'] = 'explode';
  const { exitCode, message } = await failureOf(runTraining(1));
  assert.equal(exitCode, 2);
  const expected = `${FAULT_KINDS.join('|')}:rank=R,step=S,phase=feed|compute|reduce|update|report`;
  assert.equal(message, `DTRAIN_FAULT: expected ${expected}, got explode.`);
});
