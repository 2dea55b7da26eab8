/** Rows 18 and 22 to 26 of the fault matrix: data, versions, configurations, command lines and libraries that are not what they should be. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { DtrainError } from '../../src/core/errors.js';
import { CIFAR10_FILE_BYTES, CIFAR10_FILES, readCifar10, readCifar10Folder } from '../../src/data/cifar10.js';
import { openCheckpoint } from '../../src/train/checkpoint.js';
import { decodeManifest, encodeManifest } from '../../src/train/manifest.js';
import { saveCheckpoint } from '../../src/train/save-checkpoint.js';
import { saveOptions } from '../support/checkpoints.js';
import { type DtrainResult, dtrain } from '../support/run-dtrain.js';
import { temporaryFolder } from '../support/train-run.js';
import { recordRow } from './record.js';

const DEADLINE_FACTOR = 5;
const CURE = 'Get it again.';

/** The worst of some processes, and whether all ended as they should: code, message, and within five times the bound. */
function judged(results: readonly (readonly [DtrainResult, RegExp])[], code: number, boundSeconds: number) {
  for (const [result, message] of results) {
    assert.equal(result.code, code, result.stderr);
    assert.match(result.stderr, message);
    assert.doesNotMatch(result.stderr, /\n {4}at /, 'no stack');
    assert(result.stderr.split('\n').length <= 24, 'one screen');
    assert(result.seconds < DEADLINE_FACTOR * boundSeconds + 10, `${result.seconds} s`);
  }
  return { code, seconds: Math.max(...results.map(([{ seconds }]) => seconds)), pass: true, lost: 'nothing' };
}

/** Six files of the official size; sparse, their labels all 0. */
function officialFolder(): string {
  const folder = temporaryFolder();
  for (const name of CIFAR10_FILES) {
    fs.writeFileSync(path.join(folder, name), '');
    fs.truncateSync(path.join(folder, name), CIFAR10_FILE_BYTES);
  }
  return folder;
}

test('row 18: a data file that is cut, too long, altered, or replaced after the look at its size', () => {
  const folder = officialFolder();
  const file = path.join(folder, 'data_batch_3.bin');
  const record = 3073;
  let injections = 0;
  const refused = (code: string, message: string) => {
    injections++;
    const expected = { code, exitCode: 5, message: `${file}: ${message}. ${CURE}` };
    assert.throws(() => readCifar10Folder(folder, CURE), expected);
  };
  for (const cut of [0, 1, record - 1, record, record + 1, CIFAR10_FILE_BYTES - record, CIFAR10_FILE_BYTES - 1]) {
    fs.truncateSync(file, cut);
    refused('DTRAIN_DATA_TRUNCATED', `expected 30,730,000 bytes, got ${cut.toLocaleString('en-US')}`);
  }
  for (const more of [1, record]) {
    fs.truncateSync(file, CIFAR10_FILE_BYTES + more);
    const got = (CIFAR10_FILE_BYTES + more).toLocaleString('en-US');
    refused('DTRAIN_DATA_TOO_LONG', `expected 30,730,000 bytes, got ${got}`);
  }
  fs.truncateSync(file, CIFAR10_FILE_BYTES);
  for (const label of [10, 0x80, 0xff]) {
    const descriptor = fs.openSync(file, 'r+');
    fs.writeSync(descriptor, Buffer.of(label), 0, 1, 9999 * record);
    fs.closeSync(descriptor);
    refused('DTRAIN_DATA_CORRUPT', `record 9999: expected a label from 0 to 9, got ${label}`);
  }
  const swapped = Buffer.alloc(CIFAR10_FILE_BYTES - 1);
  assert.throws(() => readCifar10(() => swapped, 'set', CURE), { code: 'DTRAIN_DATA_TRUNCATED', exitCode: 5 });
  fs.truncateSync(file, record);
  const run = dtrain(['--config', 'resnet20', '--cpus', '1', `data.path=${folder}`, 'train.maxSteps=1']);
  const verdict = judged([[run, /data_batch_3\.bin: expected 30,730,000 bytes, got 3,073\./]], 5, 3);
  const observed = `${injections + 1} refused, each with file, expected and got; as a command: ${lastLine(run)}`;
  recordRow({
    row: 18,
    fault: 'data file truncated, too long, corrupt, replaced after the check',
    injected: 'cuts at record edges ± 1, bytes added, labels changed, another file after the look at the size',
    observed,
    ...verdict,
  });
});

test('row 22: checkpoints of another format version', () => {
  const folder = saveCheckpoint(saveOptions(temporaryFolder()));
  const manifest = path.join(folder, 'manifest.json');
  const facts = decodeManifest(fs.readFileSync(manifest), manifest);
  const messages = [0, 1, 3, 1000].map((formatVersion) => {
    fs.writeFileSync(manifest, encodeManifest({ ...facts, formatVersion }));
    try {
      openCheckpoint(folder);
      return assert.fail(`version ${formatVersion} was read`);
    } catch (error) {
      assert(error instanceof DtrainError && error.code === 'DTRAIN_CHECKPOINT_VERSION' && error.exitCode === 6);
      return error.message.slice(manifest.length + 2);
    }
  });
  assert.equal(messages[2], 'expected checkpoint format 2, got 3. Use a newer dtrain.');
  recordRow({
    row: 22,
    fault: 'checkpoint of another format version',
    injected: 'manifests of versions 0, 1, 3 and 1000, their sums right',
    observed: `refused: ${messages[1]} / ${messages[2]}`,
    code: 6,
    seconds: null,
    lost: 'nothing',
    pass: true,
  });
});

test('row 23: a configuration with mistakes, all told at once', () => {
  const text = [
    'train: {epochs: 010, globalBatch: 0, seed: .nan}',
    'modle: {name: resnet20}',
    'optimizer: {nesterov: yes, momentum: "0.9"}',
    'data: {shuffle: true, shuffle: false}',
  ];
  const run = dtrain(['--config', 'bad.yaml'], { files: { 'bad.yaml': text.slice(0, 3).join('\n') } });
  const twice = dtrain(['--config', 'bad.yaml'], { files: { 'bad.yaml': text[3]! } });
  const mistakes = run.stderr.split('\n').filter((line) => /^bad\.yaml:\d+:\d+ /.test(line));
  assert.equal(mistakes.length, 6, run.stderr);
  const verdict = judged(
    [
      [run, /^bad\.yaml:1:17 train\.epochs: expected a whole number from 1 to 100000, got 010\./m],
      [run, /^bad\.yaml:2:1 unknown key modle \(did you mean model\?\)/m],
      [twice, /^bad\.yaml:1:23 duplicate key data\.shuffle, first at line 1\./m],
    ],
    3,
    0.5,
  );
  recordRow({
    row: 23,
    fault: 'YAML: unknown key, wrong type, out of bounds, duplicate, NaN, yes, octal',
    injected: 'six mistakes in one file; a duplicate key in another',
    observed: `all six told at once with line and column: ${mistakes[0]}`,
    ...verdict,
  });
});

test('row 24: YAML made to harm', () => {
  const bombs: readonly [string, string | Uint8Array, RegExp][] = [
    ['alias', 'a: &a [1]\nb: *a\n', /anchors \(&\) are not allowed/],
    ['merge key', 'train:\n  <<: {epochs: 1}\n', /merge keys \(<<\) are not allowed/],
    ['tag', 'train: !!js/function "x"\n', /tags \(!\) are not allowed/],
    ['100,000 brackets', '['.repeat(100_000), /nested deeper than 32 levels/],
    ['100 MB', Buffer.alloc(100 * 2 ** 20, ' '), /expected at most 262144 bytes, got 104857600/],
    ['control character', 'train: {epochs: 1\u0001}\n', /control character U\+0001 is not allowed/],
    ['invalid UTF-8', Buffer.from([0x61, 0xff, 0x0a]), /expected UTF-8, got the byte 0xff/],
    ['two documents', '{}\n---\n{}\n', /a second document \(---\) is not allowed/],
  ];
  const results = bombs.map(([, content, message]) => {
    return [dtrain(['--config', 'bomb.yaml'], { files: { 'bomb.yaml': content } }), message] as const;
  });
  recordRow({
    row: 24,
    fault: 'YAML: aliases, merge keys, deep nesting, 100 MB, control characters, invalid UTF-8',
    injected: bombs.map(([name]) => name).join(', '),
    observed: `all refused, the last: ${lastLine(results.at(-1)![0])}`,
    ...judged(results, 3, 1),
  });
});

test('row 25: bad command lines create nothing', () => {
  const lines: readonly [string, RegExp][] = [
    ['trian', /unknown word "trian" \(did you mean train\?\)/],
    ['--config quickstart --gpu 1', /unknown flag --gpu \(did you mean --gpus\?\)/],
    ['--config quickstart --cpus 0', /--cpus: expected a whole number from 1 to 1024, got "0"\./],
    ['--config quickstart --cpus 1 --gpus 1', /--gpus and --cpus exclude each other/],
    ['', /--config is missing/],
  ];
  const results = lines.map(([line, message]) => [dtrain(line.split(' ').filter(Boolean)), message] as const);
  for (const [{ created, stderr }] of results) {
    assert.deepEqual(created, []);
    assert.match(stderr, /Usage: dtrain /);
  }
  recordRow({
    row: 25,
    fault: 'bad command line',
    injected: lines.map(([line]) => `\`dtrain ${line}\``.replace(' `', '`')).join(', '),
    observed: 'usage line and suggestion each; nothing created on disk',
    ...judged(results, 2, 0.3),
  });
});

test('row 26: the library is missing, is another, is none', () => {
  const words = ['--config', 'quickstart', '--cpus', '1'];
  const libm = ['/lib/x86_64-linux-gnu/libm.so.6', '/lib64/libm.so.6', '/usr/lib/libm.so.6'].find((file) =>
    fs.existsSync(file),
  );
  assert(libm !== undefined);
  const text = path.join(temporaryFolder(), 'text.so');
  fs.writeFileSync(text, 'no library');
  const withLibrary = (file: string) => dtrain(words, { env: { DTRAIN_TENSORFLOW_LIB: file } });
  const results = [
    [
      withLibrary(`${text}.not`),
      /text\.so\.not, which does not exist\. Correct the variable, or unset it and run dtrain setup\./,
    ],
    [
      withLibrary(libm),
      /it has no function TF_Version\. Expected version 2\.21\.0 for x86-64 Linux\. Run: dtrain setup/,
    ],
    [withLibrary(text), /text\.so: file too short\. Expected version 2\.21\.0/],
  ] as const;
  recordRow({
    row: 26,
    fault: 'library missing, wrong architecture, symbol missing',
    injected: 'no file; a library without the symbols; a file that is no library',
    observed: 'what was looked for, what the loader said, the version wanted, the command that cures',
    ...judged(results, 4, 5),
  });
});

function lastLine({ stderr }: DtrainResult): string {
  return stderr
    .trim()
    .split('\n')
    .at(-1)!
    .replace(/\S*dtrain-test-\w+\//g, '');
}
