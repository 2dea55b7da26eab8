/** kill -9 at hundreds of points of a save: the next start finds the old state or the new one, bit for bit. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { test } from 'node:test';
import { saveCheckpoint } from '../../src/train/save-checkpoint.js';
import { saveOptions } from '../support/checkpoints.js';
import { bitsOfStep, checkAfterKill, killAtAll, killPoints, signalOfSave } from '../support/kill-points.js';
import { KILLED_MODEL } from '../support/killed-save.js';
import { temporaryFolder } from '../support/train-run.js';
import { recordProof, recordRow } from './record.js';

test('SIGKILL at every call of a save and in its writes, 0 torn', async () => {
  const points = killPoints(2048, [0]);
  assert(points.length >= 500, String(points.length));
  const found = await killAtAll(points);
  const observed = `${found.points} points: ${found.old} times the old state, ${found.new} times the new one, bit for bit; 0 torn, no rest`;
  recordRow({
    row: 1,
    fault: 'kill -9 of the engine at any byte of a save',
    injected: 'SIGKILL before each call, at header edges ± 1 and each 2048th byte of each file',
    observed,
    code: null,
    seconds: null,
    lost: 'the save in flight',
    pass: true,
  });
  recordProof({ name: 'Kill points of a save', goal: '500 or more, 0 torn', observed, pass: true });
});

/** System calls of a save, and how often it makes each. */
const SYSTEM_CALLS = { fsync: 10, rename: 4, mkdir: 1, symlink: 2, unlink: 5 };
const canTrace = spawnSync('strace', ['-o', '/dev/null', 'true']).status === 0;

test('SIGKILL at the system calls themselves (strace), 0 torn', {
  skip: !canTrace && 'strace cannot run here',
}, async () => {
  const expected = [1, 2].map(bitsOfStep);
  let kills = 0;
  for (const [name, times] of Object.entries(SYSTEM_CALLS)) {
    for (let when = 1; when <= times + 1; when++) {
      const checkpoints = path.join(temporaryFolder());
      saveCheckpoint({ ...saveOptions(checkpoints, KILLED_MODEL, 1), isBest: true });
      const tracer = ['strace', '-f', '-o', '/dev/null'];
      const inject = ['-e', `trace=${name}`, '-e', `inject=${name}:signal=SIGKILL:when=${when}`];
      const signal = await signalOfSave(checkpoints, null, [...tracer, ...inject]);
      assert.equal(signal, when <= times ? 'SIGKILL' : 0, `${name}, call ${when}`);
      const step = checkAfterKill(checkpoints, expected, `${name}, call ${when}`);
      if (when > times) assert.equal(step, 2);
      else kills++;
    }
  }
  recordProof({
    name: 'Kill at system calls (strace -e inject)',
    goal: '0 torn; the save makes the calls that it says it makes',
    observed: `${kills} kills at ${Object.keys(SYSTEM_CALLS).join(', ')}: 0 torn`,
    pass: true,
  });
});
