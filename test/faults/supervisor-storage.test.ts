/** Rows 12, 13 and 34: disks that are full or read-only, and two runs in one folder, with real processes and file systems. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { gone, isUsable, PATIENCE_SECONDS, QUICK_RUN, SupervisedRun } from '../support/supervised-run.js';
import { temporaryFolder } from '../support/train-run.js';
import { recordRow } from './record.js';

const ALARM = { timeout: PATIENCE_SECONDS * 1000 };
const FOR_EVER = 'train.maxSteps=null';
/** As root without it, the mounts would be everybody's. */
const OWN_MOUNTS = ['unshare', '--mount', '--map-root-user', '--user'];
const canMount =
  spawnSync(OWN_MOUNTS[0]!, [...OWN_MOUNTS.slice(1), 'mount', '-t', 'tmpfs', 'tmpfs', '/mnt']).status === 0;
const MOUNTS = { ...ALARM, skip: canMount ? false : 'this machine does not let a user mount' };

/** What stands before a command that first runs `script`, in mounts of its own. */
function after(script: string): string[] {
  return [...OWN_MOUNTS, 'sh', '-c', `${script}\nexec "$@"`, 'sh'];
}

test('row 12: too little space for checkpoints is found before the first step: exit code 7', MOUNTS, async () => {
  const runDir = path.join(temporaryFolder(), 'run');
  fs.mkdirSync(runDir);
  const mount = `mount -t tmpfs -o size=20m tmpfs ${runDir}`;
  const run = new SupervisedRun([...QUICK_RUN, '--run-dir', runDir], {}, after(mount));
  const { code, seconds } = await run.ended;
  assert.equal(code, 7, run.stderr);
  assert.match(
    run.stderr,
    /checkpoints: a checkpoint needs \d+\.\d MiB of free space, got 20\.0 MiB\. The disk is full: .* No checkpoint was saved yet\.$/m,
  );
  await run.nothingLeft(5 * 1);
  recordRow({
    row: 12,
    fault: 'disk full at the start',
    injected: 'a tmpfs of 20 MiB, checkpoints of 16 MB',
    observed: run.stderr.trimEnd().split('\n').at(-1)!.replaceAll(runDir, 'RUN'),
    code,
    seconds,
    lost: 'nothing',
    pass: true,
  });
});

test(
  'row 12: a disk that fills while training: the save fails, training goes on, later saves succeed',
  MOUNTS,
  async () => {
    const runDir = path.join(temporaryFolder(), 'run');
    fs.mkdirSync(runDir);
    const goOn = path.join(path.dirname(runDir), 'go-on');
    // Fills the disk once there is a checkpoint, and frees it when told; ends by itself, whatever becomes of the run.
    const waitFor = (file: string) => `for i in $(seq 2000); do [ -e ${file} ] && break; sleep 0.05; done`;
    const fill = `head -c 200m /dev/zero > ${runDir}/filler`;
    const filler = `(${waitFor(`${runDir}/checkpoints/step-2`)}; ${fill}; ${waitFor(goOn)}; rm ${runDir}/filler) 2>/dev/null &`;
    const mount = `mount -t tmpfs -o size=80m tmpfs ${runDir}\n${filler}`;
    const words = [...QUICK_RUN, 'train.maxSteps=40', '--run-dir', runDir];
    const run = new SupervisedRun(words, { DTRAIN_FAULT: 'slow:rank=0,step=3,phase=feed' }, after(mount));
    await run.says(/was not saved \(failure 1 of 3 in a row\); training goes on\./);
    fs.writeFileSync(goOn, '');
    const { code } = await run.ended;
    assert.equal(code, 0, run.stderr);
    assert.match(
      run.stderr,
      /checkpoints: a checkpoint needs \d+\.\d MiB of free space, got \d+\.\d MiB\. .* The checkpoint of step \d+ was not saved/,
    );
    await run.nothingLeft(5 * 1);
    recordRow({
      row: 12,
      fault: 'disk full while training',
      injected: 'a tmpfs of 80 MiB is filled after the first checkpoint, and freed after the first failure',
      observed: run.stderr
        .split('\n')
        .find((line) => line.includes('was not saved'))!
        .replaceAll(runDir, 'RUN'),
      code,
      seconds: null,
      lost: 'one checkpoint, nothing of the training',
      pass: true,
    });
  },
);

test('row 13: a read-only folder is found before the first step: exit code 7', MOUNTS, async () => {
  const runDir = path.join(temporaryFolder(), 'run');
  fs.mkdirSync(runDir);
  const mount = `mount --bind ${runDir} ${runDir} && mount -o remount,bind,ro ${runDir}`;
  const run = new SupervisedRun([...QUICK_RUN, '--run-dir', runDir], {}, after(mount));
  const { code, seconds } = await run.ended;
  assert.equal(code, 7, run.stderr);
  assert.match(
    run.stderr,
    /cannot be written \(EROFS\)\. The file system is read-only: choose another folder with --run-dir\.$/m,
  );
  assert.deepEqual(fs.readdirSync(runDir), []);
  await run.nothingLeft(5 * 1);
  recordRow({
    row: 13,
    fault: 'read-only folder',
    injected: 'a read-only bind mount',
    observed: run.stderr.trimEnd().split('\n').at(-1)!.replaceAll(runDir, 'RUN'),
    code,
    seconds,
    lost: 'nothing',
    pass: true,
  });
});

test(
  'row 34: a second run in a folder refuses, naming the first; what kill -9 leaves is taken over',
  ALARM,
  async () => {
    const runDir = path.join(temporaryFolder(), 'run');
    const holder = new SupervisedRun([...QUICK_RUN, FOR_EVER, '--run-dir', runDir]);
    await holder.says(/epoch 1/);
    const engine = await holder.engine();
    const second = new SupervisedRun([...QUICK_RUN, FOR_EVER, '--run-dir', path.join(runDir, '..', 'run'), '--resume']);
    const refused = await second.ended;
    assert.equal(refused.code, 7, second.stderr);
    assert.match(
      second.stderr,
      new RegExp(
        `^.*run: expected a folder that no run is using, got one in use by process ${engine} on .* since .*Z\\. Wait for it, `,
        'm',
      ),
    );
    for (const pid of [holder.pid, engine]) process.kill(pid, 'SIGKILL');
    await gone(engine);
    const third = new SupervisedRun([...QUICK_RUN, '--run-dir', runDir, '--resume']);
    assert.equal((await third.ended).code, 0, third.stderr);
    const step = await isUsable(runDir);
    assert(step >= 12);
    for (const run of [holder, second, third]) await run.nothingLeft(5 * 1);
    recordRow({
      row: 34,
      fault: 'two runs in one folder',
      injected: 'a second command with --resume; then kill -9 of both processes of the first, and a third',
      observed: second.stderr
        .trimEnd()
        .split('\n')
        .at(-1)!
        .replaceAll(path.dirname(runDir), '')
        .replaceAll(/process \d+ on .* since \S+Z/g, 'process N on HOST since TIME'),
      code: 7,
      seconds: refused.seconds,
      lost: 'nothing; of the killed one the steps since its last checkpoint',
      pass: true,
    });
  },
);
