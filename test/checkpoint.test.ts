/** A save that fails, or dies, at any of its calls: the old checkpoint or the new one, bit for bit, and nothing else. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { DtrainError } from '../src/core/errors.js';
import { decodeSafetensors } from '../src/core/safetensors.js';
import { CHECKPOINT_FILES, openCheckpoint } from '../src/train/checkpoint.js';
import { newestCheckpoint } from '../src/train/find-checkpoint.js';
import { decodeManifest, encodeManifest } from '../src/train/manifest.js';
import { removeOldCheckpoints, saveCheckpoint, tidyCheckpoints } from '../src/train/save-checkpoint.js';
import { SMALL_MODEL, saveOptions, smallWeights } from './support/checkpoints.js';
import { FaultFs, type PlannedFault } from './support/fault-fs.js';
import { temporaryFolder } from './support/train-run.js';

/** Saves step 1, then step 2 with a fault; what the next start finds. */
function saveWith(fault: PlannedFault | null): { checkpoints: string; calls: readonly string[]; error: unknown } {
  const checkpoints = temporaryFolder();
  saveCheckpoint(saveOptions(checkpoints, SMALL_MODEL, 1));
  const faulty = new FaultFs(fault);
  let error: unknown;
  try {
    saveCheckpoint({ ...saveOptions(checkpoints, SMALL_MODEL, 2), isBest: true, fs: faulty.fs });
  } catch (caught) {
    error = caught;
  }
  return { checkpoints, calls: faulty.calls, error };
}

/** The newest checkpoint is whole and has the bits of its step; gives the step. */
function checkNewest(checkpoints: string): number {
  const opened = newestCheckpoint(checkpoints, (line) => assert.fail(line));
  assert(opened !== undefined, 'a checkpoint is gone');
  const { step } = opened.state;
  const weights = decodeSafetensors(fs.readFileSync(opened.weightsFile), '');
  assert.deepEqual(weights.get('fc.bias')!.values, smallWeights(step).parameters[2]);
  return step;
}

const { calls } = saveWith(null);

test('a save is the calls that it should be, in their order', () => {
  const file = ['create', 'write', 'sync', 'close'];
  const folder = ['open', 'sync', 'close'];
  const link = ['link', 'rename', ...folder];
  const files = [...CHECKPOINT_FILES, 'manifest.json'].flatMap(() => file);
  assert.deepEqual(calls, ['makeFolder', ...files, ...folder, 'rename', ...folder, ...link, ...link]);
});

test('dying at any call leaves the old or the new checkpoint, and the next start leaves no rest', () => {
  const committed = calls.indexOf('rename');
  for (const [at, name] of calls.entries()) {
    for (const bytes of name === 'write' ? [0, 1, 7, 8, 9, 100] : [0]) {
      const { checkpoints } = saveWith({ at, how: 'died', bytes });
      tidyCheckpoints(checkpoints);
      assert.equal(checkNewest(checkpoints), at > committed ? 2 : 1, `died at call ${at} (${name}), ${bytes} bytes`);
      const names = fs.readdirSync(checkpoints);
      assert.deepEqual(
        names.filter((rest) => rest.startsWith('.')),
        [],
      );
      assert.equal(fs.readlinkSync(path.join(checkpoints, 'last')), `step-${at > committed ? 2 : 1}`);
      if (at <= committed) saveCheckpoint(saveOptions(checkpoints, SMALL_MODEL, 2));
      assert.equal(checkNewest(checkpoints), 2);
    }
  }
});

test('an error at any call is told, or was only of a link; the old checkpoint stays and no rest', () => {
  const durable = calls.indexOf('link');
  for (const how of ['ENOSPC', 'EIO', 'EROFS'] as const) {
    for (const at of calls.keys()) {
      const { checkpoints, error } = saveWith({ at, how });
      if (at < durable) {
        assert(error instanceof DtrainError, `call ${at} (${calls[at]}) failed in silence`);
        assert.equal(error.exitCode, 7);
        assert.match(error.message, new RegExp(`step-2: cannot be written \\(${how}\\)\\.`));
      } else assert.equal(error, undefined);
      checkNewest(checkpoints);
      assert.deepEqual(
        fs.readdirSync(checkpoints).filter((rest) => rest.startsWith('.')),
        [],
      );
    }
  }
});

test('removing old checkpoints: the newest stay and the best; dying in it loses none of these', () => {
  const checkpoints = temporaryFolder();
  for (const step of [1, 2, 3, 4, 5])
    saveCheckpoint({ ...saveOptions(checkpoints, SMALL_MODEL, step), isBest: step === 2 });
  for (let at = 0; at < 8; at++) {
    removeOldCheckpoints(checkpoints, 2, new FaultFs({ at, how: 'died' }).fs);
    for (const step of [2, 4, 5]) openCheckpoint(path.join(checkpoints, `step-${step}`));
  }
  tidyCheckpoints(checkpoints);
  removeOldCheckpoints(checkpoints, 2);
  assert.deepEqual(fs.readdirSync(checkpoints).sort(), ['best', 'last', 'step-2', 'step-4', 'step-5']);
});

test('any change of any file of a checkpoint is found', () => {
  const checkpoints = temporaryFolder();
  const folder = saveCheckpoint(saveOptions(checkpoints));
  for (const name of [...CHECKPOINT_FILES, 'manifest.json']) {
    const file = path.join(folder, name);
    const whole = fs.readFileSync(file);
    for (let at = 0; at < whole.length; at += Math.max(1, Math.floor(whole.length / 100))) {
      const altered = Buffer.from(whole);
      altered[at]! ^= 1;
      fs.writeFileSync(file, altered);
      assert.throws(() => openCheckpoint(folder), { exitCode: 6 }, `${name}, byte ${at}`);
      fs.writeFileSync(file, whole.subarray(0, at));
      assert.throws(() => openCheckpoint(folder), { exitCode: 6 }, `${name}, cut at ${at}`);
    }
    fs.writeFileSync(file, whole);
    openCheckpoint(folder);
  }
});

test('a manifest of brackets within brackets is refused before anything descends', () => {
  const folder = saveCheckpoint(saveOptions(temporaryFolder()));
  const manifest = path.join(folder, 'manifest.json');
  const whole = fs.readFileSync(manifest, 'utf8');
  const brackets = '['.repeat(100_000) + ']'.repeat(100_000);
  fs.writeFileSync(manifest, whole.replace('{', `{"a":${brackets},`));
  assert.throws(() => openCheckpoint(folder), {
    code: 'DTRAIN_CHECKPOINT_DAMAGED',
    message: `${manifest}: the checkpoint is damaged: expected at most 4 levels of objects and arrays. Take another one of the run's checkpoints.`,
  });
});

test('a link in the place of a file, and another version of the format, are refused', () => {
  const folder = saveCheckpoint(saveOptions(temporaryFolder()));
  const manifest = path.join(folder, 'manifest.json');
  const facts = decodeManifest(fs.readFileSync(manifest), manifest);
  const cures = { 1: 'Export it with the version of dtrain that wrote it.', 3: 'Use a newer dtrain.' };
  for (const [version, cure] of Object.entries(cures)) {
    fs.writeFileSync(manifest, encodeManifest({ ...facts, formatVersion: Number(version) }));
    assert.throws(() => openCheckpoint(folder), {
      code: 'DTRAIN_CHECKPOINT_VERSION',
      message: `${manifest}: expected checkpoint format 2, got ${version}. ${cure}`,
    });
  }
  fs.writeFileSync(manifest, encodeManifest(facts));
  const config = path.join(folder, 'config.yaml');
  fs.renameSync(config, path.join(folder, 'elsewhere'));
  fs.symlinkSync('elsewhere', config);
  assert.throws(() => openCheckpoint(folder), /config\.yaml: the checkpoint is damaged: expected a regular file\./);
});

test('weights that are no numbers are not saved; a lost lock stops a save', () => {
  const checkpoints = temporaryFolder();
  const options = saveOptions(checkpoints);
  options.content.weights.parameters[2]![3] = Number.NaN;
  assert.throws(() => saveCheckpoint(options), { exitCode: 8, code: 'DTRAIN_DIVERGED' });
  const lock = { file: path.join(checkpoints, 'lock'), inode: 1 };
  assert.throws(() => saveCheckpoint({ ...saveOptions(checkpoints), lock }), { exitCode: 7, code: 'DTRAIN_LOCK_LOST' });
  assert.deepEqual(fs.readdirSync(checkpoints), []);
});

test('too little space is told before anything is written', () => {
  const checkpoints = temporaryFolder();
  const { fs: real } = new FaultFs(null);
  const full = { ...real, freeBytes: () => 1000 };
  assert.throws(() => saveCheckpoint({ ...saveOptions(checkpoints), fs: full }), {
    code: 'DTRAIN_DISK_FULL',
    message: `${checkpoints}: a checkpoint needs 0.0 MiB of free space, got 0.0 MiB. The disk is full: free space, or choose another folder with --run-dir.`,
  });
  assert.deepEqual(fs.readdirSync(checkpoints), []);
});
