/** Two hosts on the loopback interface, as real processes: the same bits as one process; and what is refused before anything runs. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import type { TrainEvent } from '../src/core/events.js';
import { endsOf, HostProcess, loopbackHosts, startHosts } from './support/host-processes.js';
import { lastCheckpointFile, runTraining, SMALL_RUN, temporaryFolder } from './support/train-run.js';

const ALARM = { timeout: 120_000 };
const BITS = ['train.logicalShards=2', 'train.threadsPerWorker=1', 'train.maxSteps=3', 'train.ema=0.9'];

test('two hosts train as one process, bit for bit, and host 0 alone keeps the run', ALARM, async () => {
  const runDir = path.join(temporaryFolder(), 'run');
  const words = [...SMALL_RUN, ...BITS, 'cluster.trustedNetwork=true', '--run-dir', runDir, '--json'];
  const hosts = await startHosts(2, words);
  const ends = await endsOf(hosts);
  assert.deepEqual(
    ends.map(({ exitCode }) => exitCode),
    [0, 0],
    ends.map(({ stderr }) => stderr).join('\n'),
  );
  const one = await runTraining(2, BITS);
  for (const file of ['weights.safetensors', 'optimizer.safetensors']) {
    assert(lastCheckpointFile(runDir, file).equals(lastCheckpointFile(one.runDir, file)), file);
  }
  const events = ends.map(({ stdout }) =>
    stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as TrainEvent),
  );
  const trained = (all: readonly TrainEvent[]) =>
    all.flatMap((event) =>
      event.event === 'step' ? [[event.step, event.loss, event.trainAccuracy, event.learningRate]] : [],
    );
  assert.deepEqual(trained(events[0]!), trained(one.events));
  assert.deepEqual(trained(events[1]!), trained(one.events), 'host 1 sees the same');
  const runs = events.map((all) => all.find((event) => event.event === 'run')!);
  assert.deepEqual(
    runs.map(({ runDir: told, workers }) => [told, workers]),
    [
      [runDir, 2],
      [runDir, 2],
    ],
  );
});

test('several hosts without a trusted network are refused, with the reason', ALARM, async () => {
  const hosts = 'a:8888,b:8889';
  const { exitCode, stderr } = await new HostProcess([
    '--config',
    'quickstart',
    '--hosts',
    hosts,
    '--host-rank',
    '1',
    '--quiet',
  ]).ended;
  assert.equal(exitCode, 3);
  assert.equal(
    stderr,
    'cluster.trustedNetwork: expected true, got false. On several hosts TensorFlow listens on port 8889 of every network interface, ' +
      'with no authentication and no encryption: who reaches that port can run code here. Let only these hosts reach it ' +
      '(docs/cluster.md says how), then add cluster.trustedNetwork=true.\n',
  );
});

/** Empty where the process has ended meanwhile. */
function readIfThere(file: string): string {
  try {
    return fs.readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}

/** Inodes of the sockets of a process that listen, on TCP of either family. */
function listeningSockets(pid: number): string[] {
  const listening = ['tcp', 'tcp6'].flatMap((family) =>
    readIfThere(`/proc/${pid}/net/${family}`)
      .split('\n')
      .slice(1)
      .map((line) => line.trim().split(/\s+/))
      .filter((words) => words[3] === '0A')
      .map((words) => words[9]!),
  );
  if (!fs.existsSync(`/proc/${pid}/fd`)) return [];
  const own = fs.readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
    try {
      return [fs.readlinkSync(`/proc/${pid}/fd/${fd}`)];
    } catch {
      return []; // closed meanwhile
    }
  });
  return listening.filter((inode) => own.includes(`socket:[${inode}]`));
}

test('a run on one host listens nowhere', { ...ALARM, skip: !fs.existsSync('/proc/net/tcp') }, async () => {
  const words = ['--config', 'resnet20', '--cpus', '1', ...SMALL_RUN, 'train.maxSteps=2'];
  const alone = new HostProcess([...words, '--json', '--run-dir', path.join(temporaryFolder(), 'run')]);
  await alone.tells('"event":"step"');
  for (const pid of [alone.child.pid!, alone.enginePid()]) assert.deepEqual(listeningSockets(pid), []);
  assert.equal((await alone.ended).exitCode, 0);

  const hosts = await loopbackHosts(2);
  const waiting = new HostProcess([...words, 'cluster.trustedNetwork=true', '--hosts', hosts, '--host-rank', '1']);
  await waiting.tells('waiting for the others');
  assert.equal(listeningSockets(waiting.enginePid()).length, 1, 'the test sees a socket where there is one');
  waiting.signalAll('SIGKILL');
  await waiting.ended;
});
