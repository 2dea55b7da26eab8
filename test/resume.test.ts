/** Going on from a checkpoint: bit for bit, from the right one, and only with the same configuration. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { DtrainError } from '../src/core/errors.js';
import { lastCheckpointFile, runTraining, temporaryFolder } from './support/train-run.js';

const SHARDS = ['train.logicalShards=2', 'train.threadsPerWorker=1', 'checkpoint.keep=9'];
const FILES = ['weights.safetensors', 'optimizer.safetensors'] as const;

/** Stops after `steps` of a run of 6, then goes on with `workers`. */
async function interrupted(steps: number, workers: number, overrides: readonly string[] = []) {
  const runDir = path.join(temporaryFolder(), 'run');
  await runTraining(2, [...SHARDS, ...overrides, `train.maxSteps=${steps}`], { runDir });
  const resume = { from: null };
  return runTraining(workers, [...SHARDS, ...overrides], { runDir, resume });
}

async function failureOf(run: Promise<unknown>): Promise<DtrainError> {
  const error = await run.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  assert(error instanceof DtrainError, `expected a DtrainError, got ${error}`);
  return error;
}

test('a run that was stopped and goes on ends with the same bits, also on another number of workers', async () => {
  const whole = await runTraining(2, SHARDS);
  for (const workers of [1, 2]) {
    const { runDir, events } = await interrupted(4, workers);
    for (const file of FILES) {
      assert(lastCheckpointFile(runDir, file).equals(lastCheckpointFile(whole.runDir, file)), `${file}, ${workers}`);
    }
    assert.deepEqual(
      events.flatMap((event) => (event.event === 'step' ? [event.step] : [])),
      [6],
    );
  }
});

test('the same with averages and an optimizer of two slots', async () => {
  const more = ['optimizer.name=adamw', 'schedule.learningRate=0.001', 'train.ema=0.9'];
  const whole = await runTraining(2, [...SHARDS, ...more]);
  const { runDir } = await interrupted(3, 2, more);
  for (const file of FILES)
    assert(lastCheckpointFile(runDir, file).equals(lastCheckpointFile(whole.runDir, file)), file);
});

test('metrics.jsonl goes on where the checkpoint was: no line twice, none lost', async () => {
  const runDir = path.join(temporaryFolder(), 'run');
  await runTraining(1, ['checkpoint.everySteps=2', 'checkpoint.keep=9'], { runDir });
  const from = path.join(runDir, 'checkpoints', 'step-4');
  await runTraining(1, ['checkpoint.everySteps=2', 'checkpoint.keep=9'], { runDir, resume: { from } });
  const lines = fs.readFileSync(path.join(runDir, 'metrics.jsonl'), 'utf8').trim().split('\n');
  const told = lines.map((line) => JSON.parse(line) as { event: string; step?: number });
  assert.deepEqual(
    told.map(({ event, step }) => (step === undefined ? event : `${event} ${step}`)),
    ['run', 'step 2', 'checkpoint 2', 'step 4', 'checkpoint 4', 'step 6', 'checkpoint 6', 'end'],
  );
});

test('a damaged checkpoint is passed over with a warning, or refused where it was named', async () => {
  const runDir = path.join(temporaryFolder(), 'run');
  const overrides = ['checkpoint.everySteps=2', 'checkpoint.keep=9', 'train.maxSteps=4'];
  await runTraining(1, overrides, { runDir });
  const newest = path.join(runDir, 'checkpoints', 'step-4');
  fs.truncateSync(path.join(newest, 'weights.safetensors'), 100);
  const { exitCode } = await failureOf(runTraining(1, overrides, { runDir, resume: { from: newest } }));
  assert.equal(exitCode, 6);
  const { said, events } = await runTraining(1, overrides, { runDir, resume: { from: null } });
  assert(
    said.some((line) => line.startsWith(`warning: ${fs.realpathSync(newest)}`)),
    said.join('\n'),
  );
  assert(
    said.some((line) => line.endsWith('step-2')),
    said.join('\n'),
  );
  assert.equal(events.at(-1)?.event, 'end');
});

test('another configuration is refused with what differs; the run stays as it was', async () => {
  const runDir = path.join(temporaryFolder(), 'run');
  await runTraining(1, ['train.maxSteps=1'], { runDir });
  const before = fs.readFileSync(path.join(runDir, 'metrics.jsonl'), 'utf8');
  const other = ['train.seed=2', 'train.globalBatch=16', 'train.maxSteps=9', 'train.logicalShards=2'];
  const { exitCode, message } = await failureOf(runTraining(1, other, { runDir, resume: { from: null } }));
  assert.equal(exitCode, 6);
  const folder = fs.realpathSync(path.join(runDir, 'checkpoints', 'last'));
  assert.equal(
    message,
    `${folder}: cannot be resumed with another configuration:\n` +
      '  train.globalBatch: 32 then, 16 now\n' +
      '  train.seed: 1 then, 2 now\n' +
      '  logical shards: 1 then, 2 now (set train.logicalShards=1)\n' +
      'Use the values of then, or begin a new run without --resume.',
  );
  assert.equal(fs.readFileSync(path.join(runDir, 'metrics.jsonl'), 'utf8'), before);
});

test('with nothing to go on from the run begins, and says so; a finished one ends at once', async () => {
  const runDir = path.join(temporaryFolder(), 'run');
  const first = await runTraining(1, ['train.maxSteps=2'], { runDir, resume: { from: null } });
  assert(first.said.includes('resume: no checkpoint yet: starting from the beginning'));
  const second = await runTraining(1, ['train.maxSteps=2'], { runDir, resume: { from: null } });
  assert.deepEqual(
    second.events.map(({ event }) => event),
    ['run', 'end'],
  );
});
