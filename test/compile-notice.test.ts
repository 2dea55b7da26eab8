/** What is said while XLA compiles; and that what it compiled is kept. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { RankPhase, RankProgress } from '../src/collective/progress.js';
import { nowSeconds } from '../src/core/clock.js';
import { CompileNotice } from '../src/run/compile-notice.js';
import { findLibrary } from '../src/tensorflow/library-search.js';
import { temporaryFolder } from './support/train-run.js';

function noticeOf(phases: { value: readonly [number, RankPhase][] }): { notice: CompileNotice; said: string[] } {
  const said: string[] = [];
  const readProgress = (): RankProgress[] =>
    phases.value.map(([step, phase], rank) => ({ rank, step, phase, ageSeconds: 0 }));
  return { notice: new CompileNotice({ readProgress, firstStep: 8, say: (line) => said.push(line) }), said };
}

test('how many devices have compiled is said each ten seconds, and at the end how long it took', () => {
  const phases: { value: [number, RankPhase][] } = {
    value: [
      [0, 'start'],
      [8, 'compute'],
    ],
  };
  const { notice, said } = noticeOf(phases);
  using _ = notice;
  const now = nowSeconds();
  for (const seconds of [1, 2.5, 5, 11]) notice.look(now + seconds);
  phases.value = [
    [8, 'reduce'],
    [8, 'compute'],
  ];
  for (const seconds of [13, 20, 24]) notice.look(now + seconds);
  phases.value = [
    [8, 'reduce'],
    [8, 'reduce'],
  ];
  for (const seconds of [31, 45]) notice.look(now + seconds);
  assert.deepEqual(said, [
    'XLA: compiling the step for 2 devices at once; the next run finds it in the cache',
    'XLA: compiled for 1 of 2 devices, 13 s so far',
    'XLA: compiled for 1 of 2 devices, 24 s so far',
    'XLA: compiled in 31 s',
  ]);
});

test('where it takes no time nothing is said; nor of a run that failed before', () => {
  const phases: { value: [number, RankPhase][] } = { value: [[8, 'compute']] };
  const { notice, said } = noticeOf(phases);
  notice.look(nowSeconds() + 1);
  phases.value = [[9, 'feed']];
  notice.look(nowSeconds() + 30);
  notice[Symbol.dispose]();
  assert.deepEqual(said, []);
});

const PROCESS = fileURLToPath(new URL('./support/xla-process.js', import.meta.url));

function compileApart(env: NodeJS.ProcessEnv): { flags: string; result: number[] } {
  const { stdout, stderr, status } = spawnSync(process.execPath, [PROCESS], { encoding: 'utf8', env });
  assert.equal(status, 0, stderr);
  return JSON.parse(stdout) as { flags: string; result: number[] };
}

test('what XLA compiled is kept in the cache folder, and found there by the next process', () => {
  const home = path.join(temporaryFolder(), 'cache');
  const env = { ...process.env, DTRAIN_TENSORFLOW_LIB: findLibrary(process.env).path, DTRAIN_HOME: home };
  const first = compileApart(env);
  const [name] = fs.readdirSync(path.join(home, 'xla'));
  assert.match(name!, /^2\.21\.0-[0-9a-f]{8}$/); // this machine's
  const folder = path.join(home, 'xla', name!);
  assert.equal(first.flags, `--tf_xla_persistent_cache_directory=${folder}`);
  const files = fs.readdirSync(folder).filter((entry) => entry !== 'autotune');
  assert.equal(files.length, 1);
  const file = path.join(folder, files[0]!);
  const { ino, mtimeMs } = fs.statSync(file);
  assert.deepEqual(compileApart(env).result, first.result);
  assert.deepEqual(fs.readdirSync(folder).sort(), ['autotune', ...files].sort());
  const after = fs.statSync(file);
  assert.deepEqual([after.ino, after.mtimeMs], [ino, mtimeMs], 'not compiled and written again');
});

test("flags of the user's own, and a cache that cannot be written, are left alone", () => {
  const env = { ...process.env, DTRAIN_TENSORFLOW_LIB: findLibrary(process.env).path };
  const own = compileApart({ ...env, TF_XLA_FLAGS: '--tf_xla_auto_jit=0' });
  assert.equal(own.flags, '--tf_xla_auto_jit=0');
  const file = path.join(temporaryFolder(), 'file');
  fs.writeFileSync(file, '');
  assert.equal(compileApart({ ...env, DTRAIN_HOME: file }).flags, '');
});
