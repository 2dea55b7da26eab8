/** Bad command lines: the message, the usage line, exit code 2, nothing on disk, at once. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { COMMANDS } from '../src/cli/commands.js';
import { nowSeconds } from '../src/core/clock.js';
import { runCommand } from './support/run-command.js';

const MAIN = fileURLToPath(new URL('../src/cli/main.js', import.meta.url));
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'dtrain-usage-'));
after(() => fs.rmSync(folder, { recursive: true }));

const usageOf = (command: string) => COMMANDS.find(({ name }) => name === command)!.usage;
const BENCH = 'dtrain bench step|all-reduce|scaling|data [...]';
const CONFIG = 'dtrain config print|schema|docs [...]';

/** Words of a command line, what is wrong with them, and the usage shown: of a command, or as it stands. */
const BAD_LINES: readonly (readonly [words: string, problem: string, usage: string])[] = [
  ['', '--config is missing: to begin, dtrain --config quickstart', 'train'],
  ['train', '--config is missing: to begin, dtrain --config quickstart', 'train'],
  ['--json', '--config is missing: to begin, dtrain --config quickstart', 'train'],
  ['evall x', 'unknown word "evall" (did you mean eval?)', 'train'],
  ['zebra', 'unknown word "zebra": expected a command or KEY=VALUE.', 'train'],
  ['toString', 'unknown word "toString": expected a command or KEY=VALUE.', 'train'],
  ['resnet50.yaml', 'unknown word "resnet50.yaml" (did you mean --config resnet50.yaml?)', 'train'],
  ['quickstart', 'unknown word "quickstart" (did you mean --config quickstart?)', 'train'],
  ['--config quickstart 5', 'unknown word "5": expected a command or KEY=VALUE.', 'train'],
  ['--config quickstart =5', 'unknown word "=5": expected a command or KEY=VALUE.', 'train'],
  ['--config quickstart train.seed', 'unknown word "train.seed": expected a command or KEY=VALUE.', 'train'],
  ['--config quickstart -- x', 'unknown word "x" after --.', 'train'],
  ['train --config quickstart -- x', 'unknown word "x" after --.', 'train'],
  ['--gpu 3', 'unknown flag --gpu (did you mean --gpus?)', 'train'],
  ['--zebra', 'unknown flag --zebra.', 'train'],
  ['--zebra --conifg x', 'unknown flag --zebra.\nunknown flag --conifg (did you mean --config?)', 'train'],
  ['--runDir x', 'unknown flag --runDir (did you mean --run-dir?)', 'train'],
  ['-g 3', 'unknown flag -g.', 'train'],
  ['--no-json', 'unknown flag --no-json.', 'train'],
  ['--train.seed=3', 'unknown flag --train.seed: a key of the configuration has no dashes: train.seed=VALUE', 'train'],
  [
    '--config quickstart --max-restarts many',
    '--max-restarts: expected a whole number from 0 to 1000, got "many".',
    'train',
  ],
  ['--config quickstart --host-rank 1024', '--host-rank: expected a whole number from 0 to 1023, got "1024".', 'train'],
  ['--config', '--config: expected a value, got nothing.', 'train'],
  ['--config --json', '--config: expected a value, got nothing.', 'train'],
  ['--config=', '--config: expected a value, got nothing.', 'train'],
  ['--config a --config b', '--config is given 2 times: give it once.', 'train'],
  ['--config a --json=yes', '--json takes no value.', 'train'],
  ['--config a --gpus 1 --cpus 1', '--gpus and --cpus exclude each other: choose one.', 'train'],
  ['--config a --gpus 0', '--gpus: expected a whole number from 1 to 1024, got "0".', 'train'],
  ['--config a --gpus -1', '--gpus: expected a whole number from 1 to 1024, got "-1".', 'train'],
  ['--config a --cpus 1.5', '--cpus: expected a whole number from 1 to 1024, got "1.5".', 'train'],
  ['--config a --cpus 1e2', '--cpus: expected a whole number from 1 to 1024, got "1e2".', 'train'],
  ['--config a --cpus 0x2', '--cpus: expected a whole number from 1 to 1024, got "0x2".', 'train'],
  ['--config a --cpus all', '--cpus: expected a whole number from 1 to 1024, got "all".', 'train'],
  ['--config a --cpus 1025', '--cpus: expected a whole number from 1 to 1024, got "1025".', 'train'],
  [
    '--config a --cpus 99999999999999999999',
    '--cpus: expected a whole number from 1 to 1024, got "99999999999999999999".',
    'train',
  ],
  ['--config a --cpus 1,2', '--cpus: expected a whole number from 1 to 1024, got "1,2".', 'train'],
  ['eval', 'CHECKPOINT is missing.', 'eval'],
  ['eval x y', 'unknown word "y": expected a command or KEY=VALUE.', 'eval'],
  ['eval x --config y', 'unknown flag --config.', 'eval'],
  ['bench', 'bench: expected step, all-reduce, scaling, data, got nothing.', BENCH],
  ['bench stepp --steps 3', 'unknown word "stepp" (did you mean step?)', BENCH],
  ['bench date', 'unknown word "date" (did you mean data?)', BENCH],
  ['bench data', '--config is missing: for instance --config resnet20', 'bench data'],
  ['bench step', '--config is missing: for instance --config resnet20', 'bench step'],
  [
    'bench step --config resnet20 --steps 0',
    '--steps: expected a whole number from 1 to 1000000, got "0".',
    'bench step',
  ],
  [
    'bench step --config resnet20 --warmup -1',
    '--warmup: expected a whole number from 0 to 1000000, got "-1".',
    'bench step',
  ],
  ['bench all-reduce --bytes 10', '--bytes: expected a multiple of 4, got 10.', 'bench all-reduce'],
  [
    'bench all-reduce --bytes 4GB',
    '--bytes: expected a whole number from 4 to 2147483648, got "4GB".',
    'bench all-reduce',
  ],
  ['bench all-reduce --ranks 65', '--ranks: expected a whole number from 1 to 64, got "65".', 'bench all-reduce'],
  ['bench all-reduce --rounds x', '--rounds: expected a whole number from 1 to 1000000, got "x".', 'bench all-reduce'],
  ['bench all-reduce a=1', 'a=1: expected allReduce.KEY=VALUE or gpu.KEY=VALUE.', 'bench all-reduce'],
  ['bench all-reduce --ranks 2 --cpus 2', '--ranks and --cpus exclude each other: choose one.', 'bench all-reduce'],
  ['bench all-reduce --gpus 65', '--gpus: expected at most 64, got 65.', 'bench all-reduce'],
  ['bench all-reduce --cpus 1 --bytes 4', '--bytes: expected at least 8 on devices, got 4.', 'bench all-reduce'],
  [
    'bench scaling --config resnet20',
    '--gpus or --cpus is missing: numbers of workers to compare, such as --cpus 1,2',
    'bench scaling',
  ],
  [
    'bench scaling --config resnet20 --cpus 2,1',
    '--cpus: expected increasing numbers from 1 to 1024, such as 1,2,4, got "2,1".',
    'bench scaling',
  ],
  [
    'bench scaling --config resnet20 --cpus 1,1',
    '--cpus: expected increasing numbers from 1 to 1024, such as 1,2,4, got "1,1".',
    'bench scaling',
  ],
  [
    'bench scaling --config resnet20 --gpus 1,,2',
    '--gpus: expected increasing numbers from 1 to 1024, such as 1,2,4, got "1,,2".',
    'bench scaling',
  ],
  [
    'bench scaling --config resnet20 --cpus 1 --min-efficiency 1.1',
    '--min-efficiency: expected a number from 0 to 1, got "1.1".',
    'bench scaling',
  ],
  [
    'bench scaling --config resnet20 --cpus 1 --min-efficiency .',
    '--min-efficiency: expected a number from 0 to 1, got ".".',
    'bench scaling',
  ],
  ['models resnet51', 'unknown model "resnet51" (did you mean resnet56?)', 'models'],
  ['models zebra', 'unknown model "zebra".', 'models'],
  ['models resnet20 resnet32', 'unknown word "resnet32".', 'models'],
  [
    'models --input 32x32',
    '--input: expected 3xHEIGHTxWIDTH with extents from 8 to 4096, such as 3x32x32, got "32x32".',
    'models',
  ],
  [
    'models --input 3x7x32',
    '--input: expected 3xHEIGHTxWIDTH with extents from 8 to 4096, such as 3x32x32, got "3x7x32".',
    'models',
  ],
  ['models --classes 1', '--classes: expected a whole number from 2 to 1000000, got "1".', 'models'],
  ['models --stem big', '--stem: expected cifar or imagenet, got "big".', 'models'],
  ['export', 'CHECKPOINT is missing.', 'export'],
  ['predict', 'CHECKPOINT is missing.', 'predict'],
  ['predict x', 'IMAGE is missing.', 'predict'],
  ['predict x y --top 0', '--top: expected a whole number from 1 to 1000, got "0".', 'predict'],
  ['export x', '--format is missing: safetensors, tfjs, saved-model, onnx', 'export'],
  ['export x --format safetensors', '--out is missing: for instance --out model.safetensors', 'export'],
  ['export x --format onnx', '--out is missing: for instance --out model.onnx', 'export'],
  [
    'export x --format safetensors --fold --out y',
    '--fold: not with safetensors, whose readers expect every batch norm. Leave it out.',
    'export',
  ],
  [
    'export x --format pickle --out y',
    '--format: expected safetensors, tfjs, saved-model, onnx, got "pickle".',
    'export',
  ],
  ['completion', 'SHELL is missing.', 'completion'],
  ['completion tcsh', 'SHELL: expected bash, zsh, fish, got "tcsh".', 'completion'],
  ['doctor now', 'unknown word "now".', 'doctor'],
  ['setup --cpu --gpu', '--cpu and --gpu exclude each other: choose one.', 'setup'],
  [
    'setup --bundle x --from-bundle y',
    '--bundle and --from-bundle exclude each other: one writes, the other installs.',
    'setup',
  ],
  ['setup --part-size 60M', '--part-size goes with --bundle DIR.', 'setup'],
  ['setup --with-node', '--with-node goes with --bundle DIR.', 'setup'],
  ['setup --from-bundle x --with-node', '--with-node goes with --bundle DIR.', 'setup'],
  ['setup --bundle', '--bundle: expected a value, got nothing.', 'setup'],
  ...['60', '0M', '999K', 'x', '-5M', '1e3M'].map((size): [string, string, string] => [
    `setup --bundle x --part-size=${size}`,
    `--part-size: expected a size of at least 1M, such as 60M or 1G, got "${size}".`,
    'setup',
  ]),
  ['config', 'config: expected print, schema, docs, got nothing.', CONFIG],
  ['config prin', 'unknown word "prin" (did you mean print?)', CONFIG],
  ['config print resnet20', 'unknown word "resnet20" (did you mean --config resnet20?)', 'config print'],
  ['config schema x', 'unknown word "x".', 'config schema'],
];

for (const [line, problem, usage] of BAD_LINES) {
  test(`dtrain ${line}`, async () => {
    const words = line === '' ? [] : line.split(' ');
    const message = `${problem}\nUsage: ${COMMANDS.some(({ name }) => name === usage) ? usageOf(usage) : usage}`;
    const { exitCode, stdout, stderr } = await runCommand(words);
    assert.equal(stderr, `${message}\n`);
    assert.equal(exitCode, 2);
    const event = { event: 'error', code: 'DTRAIN_USAGE', exitCode: 2, message, rank: null, step: null };
    assert.equal(stdout, words.includes('--json') ? `${JSON.stringify(event)}\n` : '');
  });
}

/** The built command, in an empty folder. */
function dtrain(...words: string[]) {
  const env = { ...process.env, DTRAIN_HOME: path.join(folder, 'home'), XDG_CACHE_HOME: path.join(folder, 'cache') };
  const start = nowSeconds();
  const { status, stdout, stderr } = spawnSync(process.execPath, [MAIN, ...words], {
    cwd: folder,
    env,
    encoding: 'utf8',
  });
  return { status, stdout, stderr, seconds: nowSeconds() - start };
}

/** Five times the bounds of the fault matrix. */
const USAGE_SECONDS = 5 * 0.3;
const CONFIGURATION_SECONDS = 5 * 0.5;

test('the built command: a usage error at once, and nothing on disk', () => {
  for (const words of [[], ['evall'], ['--gpu', '3'], ['bench'], ['--config', 'x', '--gpus', '0']]) {
    const { status, stdout, stderr, seconds } = dtrain(...words);
    assert.deepEqual([status, stdout], [2, '']);
    assert.match(stderr, /\nUsage: dtrain .*\n$/);
    assert.ok(seconds < USAGE_SECONDS, `${seconds} s`);
  }
  assert.deepEqual(fs.readdirSync(folder), []);
});

test('the built command: a configuration error at once, as event and message, and nothing on disk', () => {
  const { status, stdout, stderr, seconds } = dtrain('--json', '--config', 'resnet20', '--cpus', '3', 'train.epochs=1');
  const message = `expected a multiple of 3 ranks, got 128. Use 126 or 129, or --cpus 2.`;
  assert.equal(status, 3);
  const event = JSON.parse(stdout) as { code: string; exitCode: number; message: string };
  assert.deepEqual([event.code, event.exitCode], ['DTRAIN_BATCH_NOT_DIVISIBLE', 3]);
  assert.equal(stderr, `${event.message}\n`);
  assert.match(
    stderr,
    new RegExp(`configs/resnet20\\.yaml:\\d+:16 train\\.globalBatch: ${message.replaceAll('.', '\\.')}`),
  );
  assert.ok(seconds < CONFIGURATION_SECONDS, `${seconds} s`);
  assert.equal(dtrain('--config', 'nope').status, 3);
  assert.equal(dtrain('--config', 'resnet20', 'nope=1').status, 3);
  assert.deepEqual(fs.readdirSync(folder), []);
});

test('the built command: help and version of the package, in any language', () => {
  const { version } = JSON.parse(fs.readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
    version: string;
  };
  assert.equal(dtrain('--version').stdout, `${version}\n`);
  assert.match(dtrain('--help').stdout, /^Usage: dtrain \[train\] --config/);
  assert.equal(fs.readFileSync(MAIN, 'utf8').split('\n')[0], '#!/usr/bin/env node');
});

test('the built command: what is resolved, its schema and its page', () => {
  assert.match(
    dtrain('config', 'print', '--config', 'resnet18', 'train.seed=5').stdout,
    /^model:\n {2}name: resnet18\n.*\n {2}seed: 5\n/s,
  );
  assert.equal((JSON.parse(dtrain('config', 'schema').stdout) as { title: string }).title, 'Configuration of dtrain');
  const page = fs.readFileSync(new URL('../../docs/configuration.md', import.meta.url), 'utf8');
  assert.equal(dtrain('config', 'docs').stdout, page);
});
