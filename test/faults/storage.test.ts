/** Rows 14, 19, 34 and 41 of the fault matrix: I/O errors, damaged checkpoints, two runs in one folder, removal of old checkpoints. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import readline from 'node:readline';
import { test } from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { nowSeconds } from '../../src/core/clock.js';
import { DtrainError } from '../../src/core/errors.js';
import { realFs } from '../../src/core/file-system.js';
import { CHECKPOINT_FILES, openCheckpoint } from '../../src/train/checkpoint.js';
import { newestCheckpoint } from '../../src/train/find-checkpoint.js';
import { removeOldCheckpoints, saveCheckpoint, tidyCheckpoints } from '../../src/train/save-checkpoint.js';
import { stepFolders } from '../../src/train/step-folders.js';
import { FEW_BLOCKS_MODEL, SMALL_MODEL, saveOptions } from '../support/checkpoints.js';
import { FaultFs } from '../support/fault-fs.js';
import { signalOfSave } from '../support/kill-points.js';
import { KILLED_MODEL } from '../support/killed-save.js';
import { SeededRandom } from '../support/seeded-random.js';
import { temporaryFolder } from '../support/train-run.js';
import { recordRow } from './record.js';

test('row 14: an I/O error at any call; a file whose sync failed is never synced again', async () => {
  const healthy = new FaultFs(null);
  saveCheckpoint({ ...saveOptions(temporaryFolder(), SMALL_MODEL, 2), isBest: true, fs: healthy.fs });
  const durable = healthy.calls.indexOf('link');
  for (let at = 0; at < durable; at++) {
    const checkpoints = temporaryFolder();
    saveCheckpoint(saveOptions(checkpoints, SMALL_MODEL, 1));
    const faulty = new FaultFs({ at, how: 'EIO' });
    const save = () => saveCheckpoint({ ...saveOptions(checkpoints, SMALL_MODEL, 2), isBest: true, fs: faulty.fs });
    assert.throws(save, (error: unknown) => error instanceof DtrainError && error.exitCode === 7, `call ${at}`);
    const after = faulty.calls.slice(at + 1);
    assert(!after.includes('sync'), `call ${at} (${faulty.calls[at]}): synced again`);
    save(); // into new files
    assert.equal(newestCheckpoint(checkpoints, (line) => assert.fail(line))!.state.step, 2);
  }
  const canTrace = spawnSync('strace', ['-o', '/dev/null', 'true']).status === 0;
  let traced = 0;
  for (let when = 1; canTrace && when <= 7; when++) {
    const checkpoints = temporaryFolder();
    saveCheckpoint({ ...saveOptions(checkpoints, KILLED_MODEL, 1), isBest: true });
    const inject = ['-e', 'trace=fsync', '-e', `inject=fsync:error=EIO:when=${when}`];
    assert.equal(await signalOfSave(checkpoints, null, ['strace', '-f', '-o', '/dev/null', ...inject]), 7);
    tidyCheckpoints(checkpoints);
    const { step } = newestCheckpoint(checkpoints, (line) => assert.fail(line))!.state;
    assert.equal(step, when < 7 ? 1 : 2, 'the seventh is of the folder, after the rename');
    traced++;
  }
  recordRow({
    row: 14,
    fault: 'EIO on write, fsync, close',
    injected: `an error at each of ${durable} calls of a save; at ${traced} fsync calls by strace`,
    observed:
      'the save fails with exit code 7, no file is synced twice, the next save goes into new files and succeeds',
    code: 7,
    seconds: null,
    lost: 'that save',
    pass: true,
  });
});

test('row 19: any byte of the newest checkpoint changed, any cut: the one before is used, with a warning; named, an error', () => {
  const checkpoints = temporaryFolder();
  saveCheckpoint(saveOptions(checkpoints, FEW_BLOCKS_MODEL, 1));
  const folder = saveCheckpoint(saveOptions(checkpoints, FEW_BLOCKS_MODEL, 2));
  const random = new SeededRandom(19);
  let injections = 0;
  const isFound = (where: string) => {
    injections++;
    assert.throws(() => openCheckpoint(folder), { exitCode: 6 }, where);
    const warned: string[] = [];
    const newest = newestCheckpoint(checkpoints, (line) => warned.push(line));
    assert.equal(newest?.state.step, 1, where);
    assert.equal(warned.length, 1);
    assert.match(warned[0]!, /The one before it is used\.$/);
    const bad = fs.readdirSync(checkpoints).find((name) => name.startsWith('.bad-step-2-'));
    fs.renameSync(path.join(checkpoints, bad!), folder);
  };
  for (const name of [...CHECKPOINT_FILES, 'manifest.json']) {
    const file = path.join(folder, name);
    const whole = fs.readFileSync(file);
    const header = name.endsWith('.safetensors') ? 8 + Number(whole.readBigUInt64LE(0)) : whole.length;
    const tensorBytes = header === whole.length ? 0 : 500;
    const places = [
      ...Array(header).keys(),
      ...Array.from({ length: tensorBytes }, () => header + random.below(whole.length - header)),
    ];
    for (const at of places) {
      const altered = Buffer.from(whole);
      altered[at]! ^= 1 << random.below(8);
      fs.writeFileSync(file, altered);
      isFound(`${name}, byte ${at}`);
    }
    for (let cut = whole.length - 1; cut >= 0; cut -= cut < header ? 7 : 97) {
      fs.writeFileSync(file, whole.subarray(0, cut));
      isFound(`${name}, cut at ${cut}`);
    }
    fs.writeFileSync(file, whole);
  }
  openCheckpoint(folder);
  recordRow({
    row: 19,
    fault: 'newest checkpoint corrupt',
    injected: `${injections} changes: each byte of headers, state, configuration and manifest, 1,000 bytes of tensors, cuts`,
    observed: 'found each time; the one before is used with a warning, the damaged one set aside; named, exit code 6',
    code: 6,
    seconds: null,
    lost: 'the damaged checkpoint',
    pass: true,
  });
});

const LOCK_PROCESS = fileURLToPath(new URL('../support/lock-process.js', import.meta.url));

class LockProcess {
  readonly child: ChildProcess;
  readonly #answers: AsyncIterator<string>;

  constructor() {
    this.child = spawn(process.execPath, [LOCK_PROCESS], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#answers = readline.createInterface({ input: this.child.stdout! })[Symbol.asyncIterator]();
  }

  async ask(line: string): Promise<string> {
    this.child.stdin!.write(`${line}\n`);
    return this.answer();
  }

  async answer(): Promise<string> {
    return (await this.#answers.next()).value;
  }
}

test('row 34: two runs in one folder: one is refused and told of the other; a dead holder gives way', async () => {
  const pair = [new LockProcess(), new LockProcess()];
  try {
    for (const one of pair) assert.equal(await one.answer(), 'ready');
    const folder = temporaryFolder();
    const wins = [0, 0];
    for (let i = 0; i < 100; i++) {
      const answers = await Promise.all(pair.map((one) => one.ask(`take ${folder}`)));
      const winner = answers.indexOf('taken');
      assert.notEqual(winner, -1, answers.join());
      wins[winner]!++;
      const holder = pair[winner]!.child.pid;
      assert.match(
        answers[1 - winner]!,
        /^DTRAIN_RUN_IN_USE: .*: expected a folder that no run is using, got one in use by /,
      );
      if (i === 0)
        assert.match(await pair[1 - winner]!.ask(`take ${folder}`), new RegExp(`process ${holder} on .* since `));
      await pair[winner]!.ask('give');
    }
    await pair[0]!.ask(`take ${folder}`);
    pair[0]!.child.kill('SIGKILL');
    const start = nowSeconds();
    while ((await pair[1]!.ask(`take ${folder}`)) !== 'taken') assert(nowSeconds() - start < 5);
    const seconds = nowSeconds() - start;
    assert.notEqual(fs.readFileSync(path.join(folder, 'lock'), 'utf8').indexOf(String(pair[1]!.child.pid)), -1);
    recordRow({
      row: 34,
      fault: 'two runs in one directory',
      injected: '100 pairs of processes that take the lock at the same time; kill -9 of a holder',
      observed: `one of each pair has it, the other is told process, host and start; the dead one's lock is taken over in ${seconds.toFixed(2)} s`,
      code: 7,
      seconds,
      lost: 'nothing',
      pass: true,
    });
  } finally {
    for (const { child } of pair) child.kill('SIGKILL');
  }
});

test('mutant: a lock that is not taken lets both in', async () => {
  const source = fileURLToPath(new URL('../../src/run/run-lock.js', import.meta.url));
  const absolute = (text: string) =>
    text.replace(/from '(\.[^']+)'/g, (_, name) => `from '${new URL(name, pathToFileURL(source)).href}'`);
  const text = absolute(fs.readFileSync(source, 'utf8'));
  const mutant = text.replace('!lockDescriptor(descriptor)', 'false');
  assert.notEqual(mutant, text);
  const file = path.join(temporaryFolder(), 'mutant.mjs');
  fs.writeFileSync(file, mutant);
  const { RunLock } = (await import(pathToFileURL(file).href)) as typeof import('../../src/run/run-lock.js');
  const folder = temporaryFolder();
  const first = await RunLock.take(folder, 0);
  const second = await RunLock.take(folder, 0);
  for (const lock of [first, second]) lock[Symbol.dispose]();
});

test('row 41: the removal of old checkpoints fails or dies at any call: nothing that stays is touched', () => {
  let injections = 0;
  for (const how of ['EIO', 'EROFS', 'died'] as const) {
    for (let at = 0; ; at++) {
      const checkpoints = temporaryFolder();
      for (const step of [1, 2, 3, 4]) {
        saveCheckpoint({ ...saveOptions(checkpoints, SMALL_MODEL, step), isBest: step === 2 });
      }
      const faulty = new FaultFs({ at, how });
      removeOldCheckpoints(checkpoints, 1, faulty.fs);
      for (const name of stepFolders(realFs, checkpoints)) openCheckpoint(path.join(checkpoints, name));
      for (const step of [2, 4]) openCheckpoint(path.join(checkpoints, `step-${step}`));
      tidyCheckpoints(checkpoints);
      removeOldCheckpoints(checkpoints, 1);
      assert.deepEqual(fs.readdirSync(checkpoints).sort(), ['best', 'last', 'step-2', 'step-4']);
      if (faulty.calls.length <= at) break;
      injections++;
    }
  }
  recordRow({
    row: 41,
    fault: 'deletion of old checkpoints fails or is killed; restart while an old save still runs',
    injected: `${injections} errors and deaths, one at each call of a removal; a lock that another takes during a save`,
    observed:
      'newest and best stay whole, no half of one is listed, the next start removes the rest; the old writer does not commit',
    code: null,
    seconds: null,
    lost: 'nothing',
    pass: injections > 6,
  });
  assert(injections > 6);
});
