/** The frozen surface: commands, flags and events. What is here is public; a change belongs into the contract first. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { COMMANDS } from '../src/cli/commands.js';
import type { TrainEvent } from '../src/core/events.js';
import { PHASES } from '../src/core/events.js';
import { runCommand } from './support/run-command.js';

const SURFACE: Readonly<Record<string, readonly string[]>> = {
  train: [
    'config',
    'gpus',
    'cpus',
    'run-dir',
    'resume',
    'max-restarts',
    'hosts',
    'host-rank',
    'profile',
    'metrics-port',
    'metrics-host',
    'json',
    'quiet',
    'dry-run',
  ],
  eval: ['gpus', 'cpus', 'json'],
  'bench step': ['config', 'gpus', 'cpus', 'steps', 'warmup', 'json'],
  'bench all-reduce': ['bytes', 'ranks', 'gpus', 'cpus', 'rounds', 'json'],
  'bench scaling': [
    'config',
    'gpus',
    'cpus',
    'steps',
    'warmup',
    'json',
    'hosts',
    'host-rank',
    'min-efficiency',
    'chart',
  ],
  'bench data': ['config', 'gpus', 'cpus', 'steps', 'warmup', 'json'],
  'find lr': ['config', 'gpus', 'cpus', 'min', 'max', 'steps', 'json'],
  'find batch': ['config', 'gpus', 'cpus', 'max', 'steps', 'json'],
  models: ['input', 'classes', 'stem', 'json'],
  export: ['format', 'out', 'fold'],
  predict: ['top', 'json'],
  report: ['out'],
  watch: ['port'],
  doctor: ['json'],
  setup: ['cpu', 'gpu', 'bundle', 'part-size', 'with-node', 'from-bundle', 'quiet'],
  completion: [],
  'config print': ['config'],
  'config schema': [],
  'config docs': [],
};

type EventNamed<Name extends TrainEvent['event']> = Extract<TrainEvent, { readonly event: Name }>;
type Same<A, B> = [A] extends [B] ? ([B] extends [A] ? true : never) : never;

const EVENTS = {
  run: [
    'event',
    'runDir',
    'version',
    'devices',
    'workers',
    'globalBatch',
    'parameters',
    'trainImages',
    'testImages',
    'totalSteps',
    'normalization',
    'config',
  ],
  step: ['event', 'step', 'epoch', 'loss', 'trainAccuracy', 'learningRate', 'imagesPerSecond', 'seconds', 'dataWait'],
  evaluation: ['event', 'step', 'epoch', 'testLoss', 'testAccuracy', 'images'],
  checkpoint: ['event', 'step', 'path'],
  end: ['event', 'steps', 'epochs', 'finalTestAccuracy', 'bestTestAccuracy', 'imagesPerSecond', 'wallSeconds'],
  error: ['event', 'code', 'exitCode', 'message', 'rank', 'step'],
} as const;

/** Fails to compile when an event or a key of one comes, goes or changes its name. */
const eventKeysAreThese: {
  [Name in keyof typeof EVENTS]: Same<(typeof EVENTS)[Name][number], keyof EventNamed<Name>>;
} = {
  run: true,
  step: true,
  evaluation: true,
  checkpoint: true,
  end: true,
  error: true,
};
const eventNamesAreThese: Same<keyof typeof EVENTS, TrainEvent['event']> = true;

test('commands and flags', () => {
  assert.deepEqual(Object.fromEntries(COMMANDS.map(({ name, flags }) => [name, Object.keys(flags)])), SURFACE);
  assert.equal(COMMANDS[0]!.name, 'train', 'the default command');
});

test('events and phases', () => {
  assert.ok(eventNamesAreThese && Object.values(eventKeysAreThese).every(Boolean)); // the types say the rest
  assert.deepEqual(PHASES, ['feed', 'compute', 'reduce', 'update', 'report']);
});

for (const { name, usage, describe, flags } of COMMANDS) {
  test(`dtrain ${name} --help`, async () => {
    const { exitCode, stdout, stderr } = await runCommand([...name.split(' '), '--help']);
    assert.deepEqual([exitCode, stderr], [0, '']);
    const words = stdout.replace(/\s+/g, ' ');
    for (const text of [`Usage: ${usage}`, describe, ...Object.keys(flags).map((flag) => `--${flag}`)]) {
      assert.ok(words.includes(text), text);
    }
    for (const flag of Object.keys(flags)) assert.ok(usage.includes(`--${flag}`), `usage of ${name} names --${flag}`);
    for (const line of stdout.split('\n')) assert.ok(line.length <= 80, line);
  });
}

test('dtrain --help names every command', async () => {
  const { exitCode, stdout } = await runCommand(['--help']);
  assert.equal(exitCode, 0);
  for (const { name } of COMMANDS) assert.match(stdout, new RegExp(`^  dtrain ${name.split(' ')[0]}\\b`, 'm'));
});

test('dtrain --version', async () => {
  assert.deepEqual(await runCommand(['--version']), { exitCode: 0, stdout: '9.9.9\n', stderr: '' });
});
