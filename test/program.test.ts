/** dtrain as a library: typed, the same bits as the command, and the examples run. */
import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { compile, DtrainError, type EndEvent, loadConfig, openTfjs, type StepEvent, train } from '../src/index.js';
import { lastCheckpointFile, temporaryFolder } from './support/train-run.js';

const root = fileURLToPath(new URL('../../', import.meta.url));
const WORDS = ['data.name=synthetic', 'train.globalBatch=32', 'train.maxSteps=3', 'train.threadsPerWorker=1'];

test('train(config) yields typed events and makes the bits of the command', async () => {
  const folder = temporaryFolder();
  const [runDir, other] = [path.join(folder, 'program'), path.join(folder, 'command')];
  const steps: StepEvent[] = [];
  let end: EndEvent | undefined;
  const config = loadConfig({ file: 'resnet20', overrides: WORDS });
  for await (const event of train(config, { devices: { kind: 'cpu', count: 1 }, runDir })) {
    if (event.event === 'step') steps.push(event);
    if (event.event === 'end') end = event;
  }
  assert.equal(end?.steps, 3);
  assert.ok(steps.every(({ loss }) => loss > 0));
  const command = [
    'dist/src/cli/main.js',
    '--config',
    'resnet20',
    '--cpus',
    '1',
    '--run-dir',
    other,
    '--quiet',
    ...WORDS,
  ];
  execFileSync(process.execPath, command, { cwd: root, stdio: 'pipe' });
  for (const name of ['weights.safetensors', 'optimizer.safetensors'])
    assert.deepEqual(lastCheckpointFile(runDir, name), lastCheckpointFile(other, name), name);
});

test('an aborted signal ends the run with a checkpoint', async () => {
  const runDir = path.join(temporaryFolder(), 'run');
  const stop = new AbortController();
  const config = loadConfig({
    file: 'resnet20',
    overrides: [...WORDS, 'train.maxSteps=1000', 'checkpoint.everySteps=2'],
  });
  const run = async () => {
    for await (const { event } of train(config, { devices: { kind: 'cpu', count: 1 }, runDir, signal: stop.signal }))
      if (event === 'step') stop.abort();
  };
  await assert.rejects(run, (error) => error instanceof DtrainError && error.code === 'DTRAIN_STOPPED');
  assert.ok(fs.existsSync(path.join(runDir, 'checkpoints', 'last', 'manifest.json')));
});

test('compile takes the tfjs that is open', () => {
  const tf = openTfjs({ device: 'cpu', threads: 1 });
  const double = compile((x: ReturnType<typeof tf.tensor1d>) => tf.mul(x, 2));
  assert.deepEqual(
    tf.tidy(() => [...double(tf.tensor1d([1, 2])).dataSync()] as never),
    [2, 4],
  );
});

test('the examples run', async () => {
  const run = async (name: string) =>
    (
      await promisify(execFile)(process.execPath, [path.join(root, 'examples', `${name}.mjs`)], {
        cwd: temporaryFolder(),
      })
    ).stdout;
  assert.match(await run('compile'), /step 300: loss 0\.\d{3}\npredicted: 0 1 1 0\n$/);
  assert.match(
    await run('stop-early'),
    /step 20: loss \d\.\d{3}\n.*stopped on request after step \d+; the checkpoint is .*\n$/s,
  );
});
