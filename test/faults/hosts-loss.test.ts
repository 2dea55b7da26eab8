/** Hosts that are late, differ, die or hang: who notices, when, with which exit code; and that the run goes on with the same bits. */
import assert from 'node:assert/strict';
import net from 'node:net';
import path from 'node:path';
import { test } from 'node:test';
import { nowSeconds } from '../../src/core/clock.js';
import { openCheckpoint } from '../../src/train/checkpoint.js';
import { smallTree, writeFiles } from '../support/data-fixtures.js';
import {
  type EndedHost,
  endsOf,
  groupText,
  type HostProcess,
  KINDS,
  loopbackHosts,
  startHost,
  startHosts,
} from '../support/host-processes.js';
import { lastCheckpointFile, runTraining, SMALL_RUN, temporaryFolder } from '../support/train-run.js';
import { recordRow } from './record.js';

const ALARM = { timeout: 240_000 };
const TRUSTED = 'cluster.trustedNetwork=true';
const SHARDS = ['train.logicalShards=2', 'train.threadsPerWorker=1'];

interface LongRun {
  readonly hosts: readonly HostProcess[];
  readonly runDir: string;
  readonly words: readonly string[];
}

/** Two hosts that have trained for a while, with a checkpoint. */
async function longRun(kind: (typeof KINDS)[number] = 'shared-memory'): Promise<LongRun> {
  const runDir = path.join(temporaryFolder(), 'run');
  const words = [
    ...SMALL_RUN,
    ...SHARDS,
    `allReduce.kind=${kind}`,
    TRUSTED,
    '--run-dir',
    runDir,
    '--max-restarts',
    '0',
  ];
  const hosts = await startHosts(2, [...words, 'train.maxSteps=5000', 'checkpoint.everySteps=2', '--json']);
  await hosts[0]!.tells('"event":"checkpoint"');
  return { hosts, runDir, words };
}

/** Seconds until `host` ended with 12, naming `lost`. */
async function secondsToLoss(host: HostProcess, begun: number, lost: RegExp): Promise<number> {
  const { exitCode, stdout, stderr, endedAt } = await host.ended;
  assert.equal(exitCode, 12, stdout + stderr);
  assert.match(stdout + stderr, lost);
  return endedAt - begun;
}

/** Resumes on two hosts, two steps beyond the last checkpoint, and compares with one process that nothing disturbed. */
async function assertGoesOn({ runDir, words }: LongRun): Promise<void> {
  const last = openCheckpoint(runDir).state.step + 2;
  const ends = await endsOf(await startHosts(2, [...words, `train.maxSteps=${last}`, '--resume']));
  assert.deepEqual(exitCodes(ends), [0, 0], textOf(ends));
  const one = await runTraining(2, [...SHARDS, `train.maxSteps=${last}`]);
  for (const file of ['weights.safetensors', 'optimizer.safetensors']) {
    assert(lastCheckpointFile(runDir, file).equals(lastCheckpointFile(one.runDir, file)), file);
  }
}

function exitCodes(ends: readonly EndedHost[]): (number | null)[] {
  return ends.map(({ exitCode }) => exitCode);
}

function textOf(ends: readonly EndedHost[]): string {
  return ends.map(({ stdout, stderr }) => stdout + stderr).join('\n');
}

for (const [rank, kind] of [
  [1, 'shared-memory'],
  [0, 'shared-memory'],
  [1, 'tensorflow'],
] as const) {
  test(
    `${kind}: host ${rank} of two is killed: the other ends with 12 within 15 s; resumed, the bits are those of an undisturbed run`,
    ALARM,
    async () => {
      const run = await longRun(kind);
      const begun = nowSeconds();
      run.hosts[rank]!.signalAll('SIGKILL');
      const seconds = await secondsToLoss(run.hosts[1 - rank]!, begun, new RegExp(`host ${rank} \\(127\\.0\\.0\\.1:`));
      assert(seconds < 15, `${seconds} s`);
      await assertGoesOn(run);
      recordRow({
        row: 29,
        fault: `host ${rank} of two${groupText(kind)} killed`,
        injected: 'kill -9 while both train',
        observed: `the other named it; both resumed to the bits of an undisturbed run`,
        code: 12,
        seconds,
        lost: 'steps since the last checkpoint, done again',
        pass: true,
      });
    },
  );
}

for (const kind of KINDS) {
  test(`${kind}: a host hangs: the other ends with 12 within 30 s`, ALARM, async () => {
    const { hosts } = await longRun(kind);
    const begun = nowSeconds();
    hosts[1]!.signalAll('SIGSTOP');
    const seconds = await secondsToLoss(hosts[0]!, begun, /lost host 1 \(127\.0\.0\.1:\d+\): no answer in 15 s/);
    hosts[1]!.signalAll('SIGKILL');
    assert(seconds < 30, `${seconds} s`);
    recordRow({
      row: 30,
      fault: `one of two hosts${groupText(kind)} hung`,
      injected: 'kill -STOP of host 1 while both train',
      observed: 'host 0 named it',
      code: 12,
      seconds,
      lost: 'steps since the last checkpoint, done again',
      pass: true,
    });
  });
}

test('hosts that differ end with 4 before the first step, and say in what', ALARM, async () => {
  const hosts = await loopbackHosts(2);
  const tree = await smallTree();
  const folders = [tree, { ...tree, 'test/cat/a.png': tree['test/dog/a.png']! }].map((files) => {
    const folder = temporaryFolder();
    writeFiles(folder, files);
    return folder;
  });
  const words = [...SMALL_RUN, ...SHARDS, TRUSTED, 'data.name=image-folder', 'train.globalBatch=2'];
  const begun = nowSeconds();
  const ends = await endsOf(
    [0, 1].map((rank) =>
      startHost(hosts, rank, [
        ...words,
        `data.path=${folders[rank]}`,
        `train.seed=${rank + 1}`,
        '--run-dir',
        temporaryFolder(),
      ]),
    ),
  );
  assert.deepEqual(exitCodes(ends), [4, 4], textOf(ends));
  for (const { stderr } of ends) {
    assert.match(stderr, /host 1 \(127\.0\.0\.1:\d+\): data [0-9a-f]{12}, not [0-9a-f]{12}\n/);
    assert.match(stderr, /host 1 \(127\.0\.0\.1:\d+\): train\.seed 2, not 1\n/);
  }
  recordRow({
    row: 33,
    fault: 'hosts differ in configuration and data',
    injected: 'another seed and one other image on host 1',
    observed: 'both named both differences before the first step',
    code: 4,
    seconds: Math.max(...ends.map(({ endedAt }) => endedAt)) - begun,
    lost: 'nothing',
    pass: true,
  });
});

test('a late host is waited for, and it is said who is missing', ALARM, async () => {
  const hosts = await loopbackHosts(2);
  const words = [...SMALL_RUN, ...SHARDS, TRUSTED, 'train.maxSteps=2', '--run-dir', temporaryFolder()];
  const first = startHost(hosts, 1, words);
  await first.tells(`cluster: still waiting for host 0 (${hosts.split(',')[0]})`);
  const begun = nowSeconds();
  const ends = await endsOf([startHost(hosts, 0, words), first]);
  assert.deepEqual(exitCodes(ends), [0, 0], textOf(ends));
  recordRow({
    row: 29,
    fault: 'host 0 late',
    injected: 'host 1 started more than 10 s before host 0',
    observed: 'host 1 said who was missing, and the run was whole',
    code: 0,
    seconds: Math.max(...ends.map(({ endedAt }) => endedAt)) - begun,
    lost: 'nothing',
    pass: true,
  });
});

test(
  'host 0 dies before it opens its port: the other says for how long it waits, and ends with 12, once',
  ALARM,
  async () => {
    const hosts = await loopbackHosts(2);
    const [address] = hosts.split(',');
    // Host 0 ends with 3 before it opens anything; host 1 would be started three times again after any other lost host.
    const broken = startHost(hosts, 0, ['train.globalBatch=0', TRUSTED]);
    const words = [...SMALL_RUN, ...SHARDS, TRUSTED, 'cluster.waitSeconds=12'];
    const begun = nowSeconds();
    const [zero, one] = await endsOf([broken, startHost(hosts, 1, words)]);
    assert.deepEqual(exitCodes([zero!, one!]), [3, 12], textOf([zero!, one!]));
    assert.match(one!.stderr, /waiting for the others \(.*\) for at most 12 s\n/);
    assert(one!.stderr.includes(`cluster: still waiting for host 0 (${address}), 10 s of at most 12 s\n`), one!.stderr);
    const seconds = one!.endedAt - begun;
    assert(one!.stderr.includes(`cluster: host 0 (${address}) did not come within 12 s. `), one!.stderr);
    assert.doesNotMatch(one!.stderr, /Restart/);
    assert(seconds < 12 * 5, `${seconds} s`);
    recordRow({
      row: 29,
      fault: 'host 0 ends before it opens its port',
      injected: 'a configuration that host 0 refuses; host 1 has cluster.waitSeconds=12',
      observed:
        'host 1 said every 10 s for whom it waited and for how long, and ended after that time, without a restart',
      code: 12,
      seconds,
      lost: 'nothing',
      pass: true,
    });
  },
);

for (const { rank, exitCode, words, told } of [
  // Before it would open its port: a folder that holds another run's checkpoints.
  { rank: 0, exitCode: 7, words: (run: string) => ['--run-dir', run], told: /\n {2}.*checkpoints/ },
  {
    rank: 1,
    exitCode: 5,
    words: () => ['data.path=/nowhere', 'data.name=cifar10'],
    told: /\n {2}data\.path: \/nowhere: /,
  },
]) {
  test(
    `host ${rank} cannot begin (${exitCode}): the other reads why within seconds, and does not try again`,
    ALARM,
    async () => {
      const { runDir } = await runTraining(1, ['train.maxSteps=1']);
      const hosts = await loopbackHosts(2);
      const begun = nowSeconds();
      const own = (host: number) => (host === rank ? words(runDir) : []);
      const ends = await endsOf(
        [0, 1].map((host) => startHost(hosts, host, [...SMALL_RUN, ...SHARDS, TRUSTED, ...own(host)])),
      );
      const [failed, other] = [ends[rank]!, ends[1 - rank]!];
      assert.deepEqual([failed.exitCode, other.exitCode], [exitCode, 12], textOf(ends));
      const line = `cluster: host ${rank} (${hosts.split(',')[rank]}) cannot take part and ended with exit code ${exitCode}:\n`;
      assert(other.stderr.includes(line), other.stderr);
      assert.match(other.stderr, told);
      assert.doesNotMatch(other.stderr, /Restart/);
      const seconds = other.endedAt - begun;
      assert(seconds < 60, `${seconds} s`);
      recordRow({
        row: 29,
        fault: `host ${rank} cannot begin`,
        injected: rank === 0 ? "its folder holds another run's checkpoints" : 'its data are not there',
        observed: "the other told that host's own message, and did not try again",
        code: 12,
        seconds,
        lost: 'nothing',
        pass: true,
      });
    },
  );
}

test('a rank of host 1 hangs: host 1 ends with 11, and host 0 tells its words', ALARM, async () => {
  const hosts = await loopbackHosts(2);
  const words = [
    ...SMALL_RUN,
    ...SHARDS,
    TRUSTED,
    'allReduce.timeoutSeconds=4',
    '--max-restarts',
    '0',
    '--run-dir',
    temporaryFolder(),
  ];
  const fault = { DTRAIN_FAULT: 'stall:rank=0,step=3,phase=compute' };
  const begun = nowSeconds();
  const ends = await endsOf([startHost(hosts, 0, words), startHost(hosts, 1, words, [], fault)]);
  assert.deepEqual(exitCodes(ends), [12, 11], textOf(ends));
  const [, address] = hosts.split(',');
  const line = `step 3: lost host 1 (${address}): rank 0, step 3, compute: no progress for 4 s. `;
  assert(ends[0]!.stderr.includes(line), ends[0]!.stderr);
  recordRow({
    row: 30,
    fault: 'a rank of host 1 hung, its process alive',
    injected: 'a stall in step 3, allReduce.timeoutSeconds=4',
    observed: 'host 1 ended by its own watchdog, and host 0 told its words',
    code: 12,
    seconds: ends[0]!.endedAt - begun,
    lost: 'steps since the last checkpoint',
    pass: true,
  });
});

test('host 0 came and dies before the run begins: the other does not wait for ten minutes', ALARM, async () => {
  const hosts = await loopbackHosts(3); // host 2 never comes
  const words = [
    ...SMALL_RUN,
    TRUSTED,
    'allReduce.exact=false',
    'train.globalBatch=33',
    '--max-restarts',
    '0',
    '--run-dir',
    temporaryFolder(),
  ];
  const [zero, one] = [0, 1].map((rank) => startHost(hosts, rank, words));
  await one!.tells(`cluster: still waiting for host 2 (${hosts.split(',')[2]})`);
  const begun = nowSeconds();
  zero!.signalAll('SIGKILL');
  const seconds = await secondsToLoss(one!, begun, /host 0 \(127\.0\.0\.1:\d+\)/);
  assert(seconds < 20, `${seconds} s`);
  recordRow({
    row: 29,
    fault: 'host 0 killed before all had come',
    injected: 'kill -9 of host 0 while host 2 of three was missing',
    observed: 'host 1 named host 0',
    code: 12,
    seconds,
    lost: 'nothing',
    pass: true,
  });
});

test('bytes that are no message of TensorFlow do not disturb a run', ALARM, async () => {
  const { hosts, runDir, words } = await longRun();
  const address = /--hosts ([^ ]+)/.exec(hosts[0]!.child.spawnargs.join(' '))![1]!.split(',')[0]!;
  const port = Number(address.split(':')[1]);
  for (let i = 0; i < 20; i++) {
    const socket = net.connect(port, '127.0.0.1');
    socket.on('error', () => undefined); // the server hangs up
    socket.end(Buffer.alloc(1 << 16, i * 11));
  }
  await hosts[0]!.tells(`"step":${openCheckpoint(runDir).state.step + 8},`);
  hosts[0]!.child.kill('SIGTERM');
  const ends = await endsOf(hosts);
  assert.deepEqual(exitCodes(ends), [75, 75], textOf(ends));
  await assertGoesOn({ hosts, runDir, words });
  recordRow({
    row: 37,
    fault: 'malformed messages to the port of a host',
    injected: '20 connections of 64 KiB of noise to host 0 while both train',
    observed: 'training went on to the bits of an undisturbed run',
    code: 75,
    seconds: null,
    lost: 'nothing',
    pass: true,
  });
});

test(
  'an engine that is killed: the supervisors of all hosts go on from the checkpoint, together, to the bits of an undisturbed run',
  ALARM,
  async () => {
    const runDir = path.join(temporaryFolder(), 'run');
    const words = [
      ...SMALL_RUN,
      ...SHARDS,
      TRUSTED,
      'train.maxSteps=60',
      'checkpoint.everySteps=5',
      '--run-dir',
      runDir,
    ];
    const hosts = await startHosts(2, [...words, '--json']);
    await hosts[0]!.tells('"event":"checkpoint"');
    const begun = nowSeconds();
    process.kill(hosts[1]!.enginePid(), 'SIGKILL');
    const ends = await endsOf(hosts);
    assert.deepEqual(exitCodes(ends), [0, 0], textOf(ends));
    assert.match(ends[0]!.stderr, /Restart 1 of 3 in 1 s, from step \d+\./);
    assert.match(ends[1]!.stderr, /Restart 1 of 3 in 1 s, from where host 0 goes on\./);
    const one = await runTraining(2, [...SHARDS, 'train.maxSteps=60']);
    for (const file of ['weights.safetensors', 'optimizer.safetensors']) {
      assert(lastCheckpointFile(runDir, file).equals(lastCheckpointFile(one.runDir, file)), file);
    }
    recordRow({
      row: 29,
      fault: 'engine of one of two hosts killed',
      injected: 'kill -9 of the engine of host 1 while both train',
      observed: 'both supervisors started again, together; the bits of an undisturbed run',
      code: 0,
      seconds: Math.max(...ends.map(({ endedAt }) => endedAt)) - begun,
      lost: 'steps since the last checkpoint, done again',
      pass: true,
    });
  },
);
