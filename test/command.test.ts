/** The built command with nothing made up: real processes, TensorFlow, threads. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { nowSeconds } from '../src/core/clock.js';
import type { ErrorEvent, TrainEvent } from '../src/core/events.js';
import { isUsable, QUICK_RUN, SupervisedRun } from './support/supervised-run.js';
import { lastCheckpointFile, SMALL_RUN, temporaryFolder } from './support/train-run.js';

const MAIN = fileURLToPath(new URL('../src/cli/main.js', import.meta.url));
const ALARM = { timeout: 60_000 };

interface Finished {
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;
  readonly events: readonly TrainEvent[];
}

interface Running {
  readonly child: ChildProcess;
  readonly finished: Promise<Finished>;
}

function start(words: readonly string[], env: NodeJS.ProcessEnv = {}): Running {
  const child = spawn(process.execPath, [MAIN, ...words], { env: { ...process.env, ...env }, cwd: temporaryFolder() });
  const texts = { stdout: '', stderr: '' };
  child.stdout.on('data', (chunk: Buffer) => (texts.stdout += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (texts.stderr += chunk.toString()));
  const finished = once(child, 'close').then(([exitCode]) => {
    const lines = texts.stdout.trim().split('\n');
    const events = words.includes('--json') ? lines.map((line) => JSON.parse(line) as TrainEvent) : [];
    return { exitCode: exitCode as number | null, ...texts, events };
  });
  return { child, finished };
}

const TRAIN = ['--config', 'resnet20', ...SMALL_RUN];

test(
  'asked for four GPUs with the CPU library: exit code 4, what is there and the commands that would run',
  ALARM,
  async () => {
    const { exitCode, stdout, stderr } = await start(['--gpus', '4', '--config', 'resnet50.yaml']).finished;
    const cure = 'Install the GPU library: dtrain setup --gpu. Or run on the CPU: dtrain --config resnet50 --cpus 4';
    const found = 'only the CPU library of TensorFlow is installed, which finds none';
    assert.deepEqual(
      [exitCode, stdout, stderr],
      [4, '', `dtrain: starting resnet50.yaml\nasked for 4 GPUs, but ${found}. ${cure}\n`],
    );
  },
);

test('a run from the command line to the exported weights', ALARM, async () => {
  const folder = temporaryFolder();
  const runDir = path.join(folder, 'run');
  const { exitCode, stderr, events } = await start([...TRAIN, '--cpus', '2', '--run-dir', runDir, '--json']).finished;
  assert.equal(exitCode, 0, stderr);
  assert.equal(events[0]?.event, 'run');
  assert.equal(events.at(-1)?.event, 'end');

  const evaluation = await start(['eval', runDir, '--cpus', '2', '--json']).finished;
  assert.equal(evaluation.exitCode, 0, evaluation.stderr);
  assert.equal(evaluation.events.at(-1)?.event, 'evaluation');

  const out = path.join(folder, 'weights.safetensors');
  const exported = await start(['export', runDir, '--format', 'safetensors', '--out', out]).finished;
  assert.equal(exported.exitCode, 0, exported.stderr);
  const saved = fs.readFileSync(path.join(runDir, 'checkpoints', 'last', 'weights.safetensors'));
  assert(fs.readFileSync(out).equals(saved));
});

test('ResNet-50 on four ranks takes a step', ALARM, async () => {
  const words = ['--config', 'resnet50.yaml', '--cpus', '4', '--json', 'data.name=synthetic', 'train.maxSteps=1'];
  const { exitCode, stderr, events } = await start([...words, 'train.globalBatch=8']).finished;
  assert.equal(exitCode, 0, stderr);
  const [run] = events;
  assert(run?.event === 'run');
  assert.deepEqual([run.workers, run.parameters], [4, 23_520_842]);
});

test(
  'a worker that throws ends the process within two seconds, with an error event as the last line',
  ALARM,
  async () => {
    const env = { DTRAIN_FAULT: 'throw:rank=1,step=2,phase=compute' };
    const { child, finished } = start(
      [...TRAIN, '--cpus', '2', '--json', '--max-restarts', '0', 'checkpoint.everySteps=1'],
      env,
    );
    let lastOutput = Number.NaN;
    child.stdout!.on('data', () => (lastOutput = nowSeconds()));
    const { exitCode, events } = await finished;
    assert.equal(exitCode, 10);
    const error = events.at(-1) as ErrorEvent;
    assert.deepEqual(error, {
      event: 'error',
      code: 'DTRAIN_WORKER_FAILED',
      exitCode: 10,
      message: 'rank 1, step 2, compute: fault injected by DTRAIN_FAULT. Last good checkpoint: step 1.',
      rank: 1,
      step: 2,
    });
    assert(nowSeconds() - lastOutput < 5 * 2);
  },
);

test('SIGTERM finishes the step, saves, and ends with exit code 75', ALARM, async () => {
  const { child, finished } = start([...TRAIN, '--cpus', '2', '--json', 'train.maxSteps=null']);
  await once(child.stdout!, 'data'); // the run event
  child.kill('SIGTERM');
  const { exitCode, events } = await finished;
  assert.equal(exitCode, 75);
  const [checkpoint, error] = events.slice(-2);
  assert(checkpoint?.event === 'checkpoint' && error?.event === 'error');
  assert.equal(error.code, 'DTRAIN_STOPPED');
});

test(
  'a native abort: the supervisor, which has no native code, goes on from the checkpoint to the same bits',
  ALARM,
  async () => {
    const [whole, aborted] = [path.join(temporaryFolder(), 'run'), path.join(temporaryFolder(), 'run')];
    assert.equal((await new SupervisedRun([...QUICK_RUN, '--run-dir', whole]).ended).code, 0);
    const fault = { DTRAIN_FAULT: 'abort:rank=1,step=9,phase=compute,life=1' };
    const run = new SupervisedRun([...QUICK_RUN, '--run-dir', aborted], fault);
    await run.says(/epoch 1/);
    const maps = fs.readFileSync(`/proc/${run.pid}/maps`, 'utf8');
    assert.match(maps, /node/);
    assert.doesNotMatch(maps, /\.node\b|libtensorflow|libvips/);
    assert.equal((await run.ended).code, 0, run.stderr);
    assert.match(
      run.stderr,
      /^engine \(process \d+\): ended by SIGABRT, in native code\.\nLast seen .*\n.* Last good checkpoint: step [468]\.\nRestart 1 of 3 in 1 s, from step [468]\.$/m,
    );
    for (const file of ['weights.safetensors', 'optimizer.safetensors']) {
      assert(lastCheckpointFile(aborted, file).equals(lastCheckpointFile(whole, file)), file);
    }
    await run.nothingLeft(5 * 1);
  },
);

test('a second SIGINT ends a run at once, with the last checkpoint intact', ALARM, async () => {
  const runDir = path.join(temporaryFolder(), 'run');
  // A step that takes for ever does not hear the first one.
  const fault = { DTRAIN_FAULT: 'stall:rank=0,step=4,phase=compute' };
  const run = new SupervisedRun([...QUICK_RUN, '--json', '--run-dir', runDir], fault);
  while (!fs.existsSync(path.join(runDir, 'checkpoints', 'step-2'))) await delay(20);
  run.kill('SIGINT');
  await run.says(/Once more/);
  const sent = nowSeconds();
  run.kill('SIGINT');
  const { code, at } = await run.ended;
  assert.equal(code, 130, run.stderr);
  assert(at - sent < 5 * 1, `${at - sent} s`);
  const error = JSON.parse(run.stdout.trim().split('\n').at(-1)!) as ErrorEvent;
  assert.deepEqual([error.code, error.exitCode], ['DTRAIN_INTERRUPTED', 130]);
  assert.equal(error.message, 'ended at once by a second SIGINT; nothing new was saved. Last good checkpoint: step 2.');
  await run.nothingLeft(5 * 1);
  assert.equal(await isUsable(runDir), 2);
});
