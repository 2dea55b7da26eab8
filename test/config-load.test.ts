import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { configName, loadConfig, shippedConfigs } from '../src/config/load.js';
import { originOf } from '../src/config/origin.js';
import { DtrainError } from '../src/core/errors.js';

const home = process.cwd();
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'dtrain-load-'));
process.chdir(folder);
after(() => {
  process.chdir(home);
  fs.rmSync(folder, { recursive: true });
});

/** Loads `text` as the file run.yaml, with overrides; the message of the error. */
function refusal(
  text: string | Uint8Array | null,
  overrides: readonly string[] = [],
  code = 'DTRAIN_CONFIG_INVALID',
): string {
  if (text !== null) fs.writeFileSync('run.yaml', text);
  try {
    loadConfig(text === null ? { overrides } : { file: 'run.yaml', overrides });
  } catch (error) {
    assert.ok(error instanceof DtrainError, String(error));
    assert.deepEqual([error.code, error.exitCode], [code, 3]);
    return error.message;
  }
  return assert.fail('nothing was thrown');
}

function accepts(text: string, overrides: readonly string[] = []) {
  fs.writeFileSync('run.yaml', text);
  return loadConfig({ file: 'run.yaml', overrides });
}

const MODELS =
  'resnet20, resnet32, resnet44, resnet56, resnet110, resnet1202, resnet18, resnet34, resnet50, resnet101, resnet152, plain20, plain32, plain44, plain56, plain18, plain34, vgg16, vgg19, resnet20v2, resnet56v2, resnet110v2, resnet164v2, resnet1001v2, wrn-16-8, wrn-28-10 or speednet';
const SECTIONS = 'model, data, train, optimizer, schedule, evaluation, checkpoint, allReduce, gpu, cluster';

/** A file and what is said about it: every kind of mistake. */
const BAD_FILES: readonly (readonly [title: string, text: string, messages: readonly string[]])[] = [
  [
    'unknown key',
    'schedule:\n  learningrate: 0.1\n',
    ['run.yaml:2:3 unknown key schedule.learningrate (did you mean schedule.learningRate?)'],
  ],
  ['unknown section', 'optimiser: {name: sgd}\n', ['run.yaml:1:1 unknown key optimiser (did you mean optimizer?)']],
  [
    'key of another section',
    'train:\n  learningRate: 0.1\n',
    ['run.yaml:2:3 unknown key train.learningRate (did you mean schedule.learningRate?)'],
  ],
  [
    'key without its section',
    'momentum: 0.9\n',
    ['run.yaml:1:1 unknown key momentum (did you mean optimizer.momentum?)'],
  ],
  ['unlike any section', 'zebra: 1\n', [`run.yaml:1:1 unknown key zebra. Sections: ${SECTIONS}.`]],
  [
    'unlike any key',
    'checkpoint: {zebra: 1}\n',
    ['run.yaml:1:14 unknown key checkpoint.zebra. Keys of checkpoint: everyEpochs, everySteps, keep.'],
  ],
  ['dotted key', 'model.name: resnet20\n', ['run.yaml:1:1 unknown key "model.name": write name under model.']],
  ['key of every object', '__proto__: 1\n', [`run.yaml:1:1 unknown key __proto__. Sections: ${SECTIONS}.`]],
  [
    'wrong type',
    'train: {epochs: many}\n',
    ['run.yaml:1:17 train.epochs: expected a whole number from 1 to 100000, got "many".'],
  ],
  [
    'number in quotes',
    'train: {epochs: "3"}\n',
    ['run.yaml:1:17 train.epochs: expected a whole number from 1 to 100000, got "3".'],
  ],
  [
    'fraction',
    'train: {globalBatch: 12.5}\n',
    ['run.yaml:1:22 train.globalBatch: expected a whole number from 1 to 1048576, got 12.5.'],
  ],
  [
    'too small',
    'train: {maxSteps: 0}\n',
    ['run.yaml:1:19 train.maxSteps: expected a whole number from 1 to 1000000000, or null, got 0.'],
  ],
  [
    'too large',
    'train: {seed: 4294967296}\n',
    ['run.yaml:1:15 train.seed: expected a whole number from 0 to 4294967295, got 4294967296.'],
  ],
  [
    'exclusive bound',
    'optimizer: {momentum: 1}\n',
    ['run.yaml:1:23 optimizer.momentum: expected a number from 0 to below 1, got 1.'],
  ],
  [
    'not above',
    'schedule: {learningRate: 0}\n',
    ['run.yaml:1:26 schedule.learningRate: expected a number above 0, at most 1000, got 0.'],
  ],
  [
    'NaN',
    'schedule: {learningRate: .nan}\n',
    ['run.yaml:1:26 schedule.learningRate: expected a number above 0, at most 1000, got .nan.'],
  ],
  [
    'infinity',
    'schedule: {factor: -.inf}\n',
    ['run.yaml:1:20 schedule.factor: expected a number above 0, at most 1, got -.inf.'],
  ],
  ['yes', 'data: {shuffle: yes}\n', ['run.yaml:1:17 data.shuffle: expected true or false, got "yes". Write true.']],
  ['off', 'data: {shuffle: Off}\n', ['run.yaml:1:17 data.shuffle: expected true or false, got "Off". Write false.']],
  ['1 for true', 'data: {shuffle: 1}\n', ['run.yaml:1:17 data.shuffle: expected true or false, got 1.']],
  [
    'old octal',
    'train: {epochs: 010}\n',
    [
      'run.yaml:1:17 train.epochs: expected a whole number from 1 to 100000, got 010. Write numbers in decimal, without leading zeros.',
    ],
  ],
  [
    'octal',
    'train: {epochs: 0o10}\n',
    [
      'run.yaml:1:17 train.epochs: expected a whole number from 1 to 100000, got 0o10. Write numbers in decimal, without leading zeros.',
    ],
  ],
  [
    'hexadecimal',
    'train: {epochs: 0x10}\n',
    [
      'run.yaml:1:17 train.epochs: expected a whole number from 1 to 100000, got 0x10. Write numbers in decimal, without leading zeros.',
    ],
  ],
  [
    'underscores',
    'train: {maxSteps: 1_000}\n',
    ['run.yaml:1:19 train.maxSteps: expected a whole number from 1 to 1000000000, or null, got "1_000".'],
  ],
  [
    'null where none fits',
    'train: {epochs: null}\n',
    ['run.yaml:1:17 train.epochs: expected a whole number from 1 to 100000, got null.'],
  ],
  [
    'nothing',
    'train:\n  epochs:\n',
    ['run.yaml:2:10 train.epochs: expected a whole number from 1 to 100000, got nothing.'],
  ],
  [
    'section without keys',
    'train:\n',
    [
      'run.yaml:1:7 train: expected keys (epochs, maxSteps, globalBatch, logicalShards, threadsPerWorker, precision, compile, seed, labelSmoothing, ema, accumulate), got nothing.',
    ],
  ],
  [
    'value for a section',
    'data: {augment: none}\n',
    ['run.yaml:1:17 data.augment: expected keys (crop, flip, cutout, brightness, contrast, mixup), got "none".'],
  ],
  [
    'list for a section',
    'evaluation: [1]\n',
    ['run.yaml:1:13 evaluation: expected keys (everyEpochs, flip), got [1].'],
  ],
  [
    'keys for a value',
    'train: {seed: {a: 1}}\n',
    ['run.yaml:1:15 train.seed: expected a whole number from 0 to 4294967295, got a mapping.'],
  ],
  [
    'mistyped word',
    'model: {name: resnet_50}\n',
    [`run.yaml:1:15 model.name: expected ${MODELS}, got "resnet_50" (did you mean resnet50?).`],
  ],
  [
    'wrong case',
    'train: {precision: BFloat16}\n',
    ['run.yaml:1:20 train.precision: expected float32 or bfloat16, got "BFloat16" (did you mean bfloat16?).'],
  ],
  [
    'number for a path',
    'data: {path: 5}\n',
    ['run.yaml:1:14 data.path: expected a path, or null, got 5. Put it in quotes.'],
  ],
  ['empty path', 'data: {path: ""}\n', ['run.yaml:1:14 data.path: expected a path, or null, got "".']],
  ['NUL in a path', 'data: {path: "a\\0b"}\n', ['run.yaml:1:14 data.path: expected a path, or null, got "a\\u{0}b".']],
  [
    'not a list',
    'schedule: {milestones: 82}\n',
    ['run.yaml:1:24 schedule.milestones: expected increasing epochs above 0, such as [82, 123], got 82.'],
  ],
  [
    'not increasing',
    'schedule: {milestones: [123, 82]}\n',
    ['run.yaml:1:24 schedule.milestones: expected increasing epochs above 0, such as [82, 123], got [123, 82].'],
  ],
  [
    'odd item',
    'schedule: {milestones: [82, x, [1], {}]}\n',
    [
      'run.yaml:1:24 schedule.milestones: expected increasing epochs above 0, such as [82, 123], got [82, "x", [1], a mapping].',
    ],
  ],
  [
    'all-reduce',
    'allReduce: {kind: tensorflo, dtype: half}\n',
    [
      'run.yaml:1:19 allReduce.kind: expected shared-memory or tensorflow, got "tensorflo" (did you mean tensorflow?).',
      'run.yaml:1:37 allReduce.dtype: expected float32 or bfloat16, got "half".',
    ],
  ],
  [
    'gpu',
    'gpu: {memoryGrowth: 1, memoryFraction: 0, workersPerCard: 17}\n',
    [
      'run.yaml:1:21 gpu.memoryGrowth: expected true or false, got 1.',
      'run.yaml:1:40 gpu.memoryFraction: expected a number above 0, at most 1, or null, got 0.',
      'run.yaml:1:59 gpu.workersPerCard: expected a whole number from 1 to 16, got 17.',
    ],
  ],
  [
    'hosts',
    'cluster: {hosts: [a], hostRank: -1, trustedNetwork: 1}\n',
    [
      'run.yaml:1:18 cluster.hosts: expected addresses such as [a:8888, b:8888], or null, got ["a"].',
      'run.yaml:1:33 cluster.hostRank: expected a whole number from 0 to 1023, or null, got -1.',
      'run.yaml:1:53 cluster.trustedNetwork: expected true or false, got 1.',
    ],
  ],
  ['duplicate', 'train:\n  epochs: 1\n  epochs: 2\n', ['run.yaml:3:3 duplicate key train.epochs, first at line 2.']],
  [
    'duplicate section',
    'train: {epochs: 1}\ntrain: {seed: 1}\n',
    ['run.yaml:2:1 duplicate key train, first at line 1.'],
  ],
  ['merge key', 'train:\n  <<: {epochs: 1}\n', ['run.yaml:2:3 merge keys (<<) are not allowed: write the keys out.']],
  ['empty file', '', ['run.yaml: expected keys, got an empty file. A file of {} takes every default.']],
  ['only a comment', '# later\n', ['run.yaml: expected keys, got an empty file. A file of {} takes every default.']],
  ['a list', '- model\n', ['run.yaml:1:1 expected keys such as "model:", got ["model"].']],
  ['a word', 'resnet20\n', ['run.yaml:1:1 expected keys such as "model:", got "resnet20".']],
  [
    'all at once, in order',
    'schedul: 4\ntrain:\n  epochs: 0\n  seed: 1\n  nope: 2\n  seed: 2\ndata:\n  shuffle: no\n',
    [
      'run.yaml:1:1 unknown key schedul (did you mean schedule?)',
      'run.yaml:3:11 train.epochs: expected a whole number from 1 to 100000, got 0.',
      'run.yaml:5:3 unknown key train.nope. Keys of train: epochs, maxSteps, globalBatch, logicalShards, threadsPerWorker, precision, compile, seed, labelSmoothing, ema, accumulate.',
      'run.yaml:6:3 duplicate key train.seed, first at line 4.',
      'run.yaml:8:12 data.shuffle: expected true or false, got "no". Write false.',
    ],
  ],
];

for (const [title, text, messages] of BAD_FILES) {
  test(`file: ${title}`, () => assert.equal(refusal(text), messages.join('\n')));
}

/** Overrides and what is said about them. */
const BAD_OVERRIDES: readonly (readonly [override: string, message: string])[] = [
  [
    'train.globalbatch=3',
    'override train.globalbatch=3: unknown key train.globalbatch (did you mean train.globalBatch?)',
  ],
  [
    'optimiser.momentum=0',
    'override optimiser.momentum=0: unknown key optimiser.momentum (did you mean optimizer.momentum?)',
  ],
  ['__proto__=1', `override __proto__=1: unknown key __proto__. Sections: ${SECTIONS}.`],
  [
    'train.__proto__=1',
    'override train.__proto__=1: unknown key train.__proto__. Keys of train: epochs, maxSteps, globalBatch, logicalShards, threadsPerWorker, precision, compile, seed, labelSmoothing, ema, accumulate.',
  ],
  ['train.epochs=0', 'override train.epochs=0: expected a whole number from 1 to 100000, got 0.'],
  ['train.epochs=', 'override train.epochs=: expected a whole number from 1 to 100000, got nothing.'],
  [
    'train.epochs=010',
    'override train.epochs=010: expected a whole number from 1 to 100000, got 010. Write numbers in decimal, without leading zeros.',
  ],
  ['data.shuffle=yes', 'override data.shuffle=yes: expected true or false, got "yes". Write true.'],
  [
    'schedule.milestones=82,123',
    'override schedule.milestones=82,123: expected increasing epochs above 0, such as [82, 123], got "82,123".',
  ],
  ['schedule.milestones=[82', 'override schedule.milestones=[82: not valid YAML: Flow sequence must end with a ].'],
  [
    'data.augment=5',
    'override data.augment=5: expected keys (crop, flip, cutout, brightness, contrast, mixup), got 5.',
  ],
  [
    'data.augment={crop: 999}',
    'override data.augment={crop: 999}: data.augment.crop: expected a whole number from 0 to 256, got 999.',
  ],
  [
    'data.augment={zebra: 1}',
    'override data.augment={zebra: 1}: unknown key data.augment.zebra. Keys of data.augment: crop, flip, cutout, brightness, contrast, mixup.',
  ],
  ['data.augment={crop: 1, crop: 2}', 'override data.augment={crop: 1, crop: 2}: duplicate key crop, first at line 1.'],
  [
    'train.seed=1 # one',
    'override train.seed=1 # one: a comment is not allowed here: put a value that holds # in quotes.',
  ],
  ['train.seed=*a', 'override train.seed=*a: aliases (*) are not allowed: write the value out, or put it in quotes.'],
  ['train.seed=\u001b[31m1', 'override train.seed=\\u{1b}[31m1: control character U+001B is not allowed.'],
  ['train.seed', 'override train.seed: expected KEY=VALUE.'],
  ['=1', 'override =1: expected KEY=VALUE.'],
];

for (const [override, message] of BAD_OVERRIDES) {
  test(`override: ${JSON.stringify(override)}`, () => assert.equal(refusal(null, [override]), message));
}

test('mistakes of a file and of overrides are told together', () => {
  const messages = [
    'run.yaml:2:11 train.epochs: expected a whole number from 1 to 100000, got 0.',
    'override train.seed=-2: expected a whole number from 0 to 4294967295, got -2.',
    `override zebra=1: unknown key zebra. Sections: ${SECTIONS}.`,
  ];
  assert.equal(refusal('train:\n  epochs: 0\n  seed: -1\n', ['train.seed=-2', 'zebra=1']), messages.join('\n'));
});

test('defaults < file < overrides, and the last override of a key wins', () => {
  const config = accepts('train: {epochs: 5, seed: 7}\n', ['train.seed=8', 'train.seed=9', 'data.augment={crop: 0}']);
  assert.equal(config.train.epochs, 5);
  assert.equal(config.train.seed, 9);
  assert.deepEqual(config.data.augment, { crop: 0, flip: true, cutout: 0, brightness: 0, contrast: 0, mixup: 0 });
});

test('an override replaces a value of the file that does not fit', () => {
  assert.equal(accepts('train: {epochs: 0}\n', ['train.epochs=3']).train.epochs, 3);
});

test('the value of an override is YAML, but a path stands as it is', () => {
  const { train, schedule, data } = loadConfig({
    overrides: [
      'train.maxSteps=1e3',
      'train.precision=bfloat16',
      'schedule.milestones=[3, 4.5]',
      'data.path=/a: *b #c',
    ],
  });
  assert.deepEqual(
    [train.maxSteps, train.precision, schedule.milestones, data.path],
    [1000, 'bfloat16', [3, 4.5], '/a: *b #c'],
  );
  for (const [text, value] of [
    ['2024', '2024'],
    ['"a b"', 'a b'],
    ["'a'", 'a'],
    ['null', null],
    ['~', null],
    ['', null],
    ['~/data', '~/data'],
    ['a=b', 'a=b'],
  ] as const) {
    assert.equal(loadConfig({ overrides: [`data.path=${text}`] }).data.path, value, text);
  }
});

test('keys that the chosen schedule or optimizer does not use are allowed', () => {
  const { schedule } = accepts('schedule: {name: cosine, milestones: [1, 2], factor: 0.5}\n');
  assert.deepEqual([schedule.name, schedule.milestones], ['cosine', [1, 2]]);
});

test('a configuration is frozen at every depth', () => {
  const { data, schedule } = loadConfig({ file: 'resnet20' });
  for (const value of [data, data.augment, schedule.milestones]) assert.ok(Object.isFrozen(value));
});

test('where a value came from', () => {
  const config = accepts('train:\n  epochs: 5\n', ['train.seed=8']);
  const paths = ['train.epochs', 'train.seed', 'train.globalBatch'];
  assert.deepEqual(
    paths.map((key) => originOf(config, key)),
    ['run.yaml:2:11 train.epochs', 'override train.seed=8', 'train.globalBatch'],
  );
});

test('many mistakes fit one screen of 24 lines of 80, and the rest is counted', () => {
  const keys = Array.from({ length: 500 }, (_, i) => `zebra${i}: 1`).join('\n');
  const lines = refusal(keys).split('\n');
  const rows = lines.reduce((sum, line) => sum + Math.ceil(line.length / 80), 0);
  assert.ok(rows <= 22 && rows >= 18, String(rows));
  assert.equal(lines.at(-1), `… and ${500 - (lines.length - 1)} more mistakes.`);
});

test('a text of a user is cut and escaped', () => {
  const message = refusal(`train: {precision: "${'x'.repeat(5000)}\\e[2J\\u202e"}\n`);
  assert.ok(message.length < 200);
  assert.doesNotMatch(message, /\p{C}/u);
});

// ——— which file ———

const SHIPPED = shippedConfigs().join(', ');

test('a name, with or without .yaml, is a shipped configuration', () => {
  assert.equal(loadConfig({ file: 'resnet50' }).model.name, 'resnet50');
  assert.equal(loadConfig({ file: 'resnet50.yaml' }).model.name, 'resnet50');
});

test('a path that exists wins over a shipped name; a folder of that name does not', () => {
  fs.writeFileSync('resnet18.yaml', 'model: {name: resnet34}\n');
  fs.mkdirSync('resnet32');
  assert.equal(loadConfig({ file: 'resnet18.yaml' }).model.name, 'resnet34');
  assert.equal(loadConfig({ file: 'resnet18' }).model.name, 'resnet18');
  assert.equal(loadConfig({ file: 'resnet32' }).model.name, 'resnet32');
});

for (const [title, file, code, message] of [
  [
    'missing',
    'resnet51.yaml',
    'DTRAIN_CONFIG_NOT_FOUND',
    `resnet51.yaml: no such file, and no configuration of that name ships with dtrain (did you mean resnet50?). These do: ${SHIPPED}.`,
  ],
  [
    'unlike any name',
    'a/zebra.yaml',
    'DTRAIN_CONFIG_NOT_FOUND',
    `a/zebra.yaml: no such file, and no configuration of that name ships with dtrain. These do: ${SHIPPED}.`,
  ],
  [
    'folder',
    '.',
    'DTRAIN_CONFIG_UNREADABLE',
    '.: expected a file, got a folder. --config takes a YAML file, or the name of a shipped configuration.',
  ],
  [
    'device',
    '/dev/zero',
    'DTRAIN_CONFIG_UNREADABLE',
    '/dev/zero: expected a regular file. --config takes a YAML file, or the name of a shipped configuration.',
  ],
  [
    'link to itself',
    'loop.yaml',
    'DTRAIN_CONFIG_UNREADABLE',
    'loop.yaml: cannot be read (ELOOP). --config takes a YAML file, or the name of a shipped configuration.',
  ],
  [
    'large',
    'large.yaml',
    'DTRAIN_CONFIG_UNREADABLE',
    'large.yaml: expected at most 262144 bytes, got 104857600. --config takes a YAML file, or the name of a shipped configuration.',
  ],
] as const) {
  test(`file: ${title}`, () => {
    if (title === 'link to itself') fs.symlinkSync('loop.yaml', 'loop.yaml');
    if (title === 'large') fs.closeSync(fs.openSync('large.yaml', 'w'));
    if (title === 'large') fs.truncateSync('large.yaml', 100 * 1024 * 1024);
    assert.throws(() => loadConfig({ file }), { code, exitCode: 3, message });
  });
}

test('names of configurations', () => {
  assert.deepEqual(['a/b.yaml', 'b.YML', 'c'].map(configName), ['b', 'b', 'c']);
});
