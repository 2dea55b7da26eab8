/** Rows 15 to 17: signals at any moment, and readers that go away. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { nowSeconds } from '../../src/core/clock.js';
import { checkSecondSignals } from '../support/second-signals.js';
import { FOR_EVER, isUsable, PATIENCE_SECONDS, QUICK_RUN, SupervisedRun } from '../support/supervised-run.js';
import { lastCheckpointFile, temporaryFolder } from '../support/train-run.js';
import { recordRow } from './record.js';

const ALARM = { timeout: PATIENCE_SECONDS * 1000 };
const SECOND_SIGNALS = 25;

function newRunDir(): string {
  return path.join(temporaryFolder(), 'run');
}

interface Moment {
  readonly when: string;
  readonly words?: readonly string[];
  readonly fault?: string;
  /** What stands on standard error when the signal is sent. */
  readonly pattern: RegExp;
  readonly message: RegExp;
}

const SAVED = /^stopped on request after step (\d+); the checkpoint is .*\/checkpoints\/step-\1\.$/m;
const MOMENTS: readonly Moment[] = [
  {
    when: 'while it starts',
    pattern: /dtrain: starting/,
    message: /^stopped on request before the first step; nothing was saved, and --resume starts from the beginning\.$/m,
  },
  { when: 'before its first step', pattern: /devices:/, message: /^stopped on request / },
  { when: 'while it steps', pattern: /epoch 1/, message: SAVED },
  {
    when: 'while it evaluates',
    words: ['--json', 'train.globalBatch=500', 'train.epochs=2', 'checkpoint.everySteps=100'],
    pattern: /"event":"step","step":8,/, // eight steps are an epoch of the generated set
    message: SAVED,
  },
  { when: 'while it saves', words: ['checkpoint.everySteps=1'], pattern: /epoch 1/, message: SAVED },
  {
    when: 'in the pause before a restart',
    fault: 'kill:rank=0,step=5,phase=compute',
    pattern: /Restart 2 of 3/,
    message: /^stopped on request before a step; the checkpoint is .*\/checkpoints\/step-[24]\.$/m,
  },
];

for (const [i, { when, words = [], fault, pattern, message }] of MOMENTS.entries()) {
  const signal = i % 2 === 0 ? 'SIGTERM' : 'SIGINT';
  test(
    `row 15: the first ${signal} ${when}: exit code 75 within a step and 10 s, and --resume goes on`,
    ALARM,
    async () => {
      const runDir = newRunDir();
      const env = fault === undefined ? {} : { DTRAIN_FAULT: fault };
      const run = new SupervisedRun([...QUICK_RUN, FOR_EVER, ...words, '--run-dir', runDir], env);
      await run.says(pattern);
      run.kill(signal);
      const sent = nowSeconds();
      const { code, at } = await run.ended;
      assert.equal(code, 75, run.stderr);
      assert.match(
        run.stderr.slice(run.stderr.indexOf('Once more')),
        new RegExp(message.source.replace('^', '\n?'), 'm'),
      );
      assert(at - sent < 5 * 11, `${at - sent} s`);
      await run.nothingLeft(5 * 1);
      if (/checkpoint is/.test(run.stderr)) assert((await isUsable(runDir)) > 0);
      recordRow({
        row: 15,
        fault: `the first signal ${when}`,
        injected: signal,
        observed: run.stderr.trimEnd().split('\n').at(-1)!.replaceAll(runDir, 'RUN'),
        code,
        seconds: at - sent,
        lost: 'nothing',
        pass: true,
      });
    },
  );
}

test('row 15: stopped in an evaluation and resumed, a run is the undisturbed one', ALARM, async () => {
  const words = [...QUICK_RUN, 'train={epochs: 1, maxSteps: null, globalBatch: 500}', 'evaluation.everyEpochs=1'];
  const [whole, stopped] = [newRunDir(), newRunDir()];
  assert.equal((await new SupervisedRun([...words, '--run-dir', whole]).ended).code, 0);
  const first = new SupervisedRun([...words, '--run-dir', stopped, '--json']);
  await first.says(/"event":"step"/);
  first.kill('SIGTERM');
  const { code } = await first.ended;
  const last = JSON.parse(first.stdout.trim().split('\n').at(-1)!);
  if (code !== 0) assert.equal(last.code, 'DTRAIN_STOPPED', first.stderr);
  const second = new SupervisedRun([...words, '--run-dir', stopped, '--resume', '--json']);
  assert.equal((await second.ended).code, 0, second.stderr);
  for (const file of ['weights.safetensors', 'optimizer.safetensors']) {
    assert(lastCheckpointFile(stopped, file).equals(lastCheckpointFile(whole, file)), file);
  }
  assert.deepEqual(evaluationsOf(stopped), evaluationsOf(whole));
});

function evaluationsOf(runDir: string): unknown[] {
  const lines = fs.readFileSync(path.join(runDir, 'metrics.jsonl'), 'utf8').trim().split('\n');
  return lines.map((line) => JSON.parse(line)).filter(({ event }) => event === 'evaluation');
}

test(`row 16: a second signal at ${SECOND_SIGNALS} random moments: exit code 130 or 143 within a second, the last checkpoint intact`, {
  timeout: 900_000,
}, async () => {
  const found = await checkSecondSignals(SECOND_SIGNALS);
  recordRow({
    row: 16,
    fault: 'a second signal',
    injected: `at ${SECOND_SIGNALS} random moments of start, steps and saves of runs that go on with --resume`,
    observed: found.observed,
    code: 130,
    seconds: found.seconds,
    lost: 'steps since the last checkpoint',
    pass: true,
  });
});

test('row 17: a closed terminal, and readers that go away: training goes on, one warning', ALARM, async () => {
  const gone = new SupervisedRun([...QUICK_RUN, '--json', '--run-dir', newRunDir()]);
  gone.child.stdout!.once('data', () => gone.child.stdout!.destroy());
  await gone.says(/"event":"run"/);
  gone.kill('SIGHUP');
  const first = await gone.ended;
  assert.equal(first.code, 0, gone.stderr);
  assert.equal(gone.stderr, 'standard output takes nothing more (EPIPE); the run goes on without it.\n');

  const silent = new SupervisedRun([...QUICK_RUN, '--run-dir', newRunDir()]);
  silent.child.stderr!.once('data', () => silent.child.stderr!.destroy());
  const second = await silent.ended;
  assert.equal(second.code, 0, silent.stdout);
  assert.match(silent.stdout, /^ {2}run {2,}/m);

  const runDir = newRunDir();
  fs.mkdirSync(path.join(runDir, 'metrics.jsonl'), { recursive: true });
  const unwritable = new SupervisedRun([...QUICK_RUN, '--json', '--run-dir', runDir]);
  const third = await unwritable.ended;
  assert.equal(third.code, 0, unwritable.stderr);
  const text = `${runDir}/metrics.jsonl: cannot be written (EISDIR).`;
  assert.equal(unwritable.stderr.split(text).length, 2, unwritable.stderr);
  for (const run of [gone, silent, unwritable]) await run.nothingLeft(5 * 1);
  for (const [fault, injected, observed] of [
    ['SIGHUP; closed standard output', 'dtrain --json | head -1, and SIGHUP', gone.stderr.trim()],
    ['closed standard error', 'its reader goes away after the first line', 'the result on standard output'],
    [
      'metrics file not writable',
      'a folder in the place of metrics.jsonl',
      unwritable.stderr.trim().split('\n')[0]!.replaceAll(runDir, 'RUN'),
    ],
  ] as const) {
    recordRow({
      row: 17,
      fault,
      injected,
      observed,
      code: 0,
      seconds: null,
      lost: 'nothing of the training',
      pass: true,
    });
  }
});
