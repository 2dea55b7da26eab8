/** Two hosts in network namespaces of their own, on a line that is slow, loses packets, is narrow, or is cut. Needs Linux, `ip`, `tc`, python3 and root. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { nowSeconds } from '../../src/core/clock.js';
import { endsOf, type HostProcess, startHost } from '../support/host-processes.js';
import { did, networkHosts, SlowLine } from '../support/network-namespaces.js';
import { lastCheckpointFile, runTraining, SMALL_RUN, temporaryFolder } from '../support/train-run.js';
import { recordProof, recordRow } from './record.js';

const SHARDS = ['train.logicalShards=2', 'train.threadsPerWorker=1'];
const network = networkHosts(['a', 'b']);
const HOSTS = (network ?? []).map(({ address }) => `${address}:8888`).join(',');

/** Gives both ends of the line a queue, as `tc qdisc` has it. */
function shape(queue: string): boolean {
  return (network ?? []).every(({ namespace }) =>
    did(`ip netns exec ${namespace} tc qdisc replace dev eth root ${queue}`),
  );
}

const canTap = network !== undefined && fs.existsSync('/dev/net/tun') && did('python3 --version');
const canNarrow = network !== undefined && shape('tbf rate 1gbit burst 100kb latency 100ms');
const options = (possible: boolean, needed: string) => ({
  timeout: 240_000,
  skip: possible ? false : `needs ${needed}`,
});

function start(words: readonly string[], hosts = HOSTS): HostProcess[] {
  const all = [...SMALL_RUN, ...SHARDS, 'cluster.trustedNetwork=true', ...words];
  return network!.map(({ launcher }, rank) => startHost(hosts, rank, all, launcher));
}

/** Trains over the line as it is, and compares with one process. */
async function assertSameBits(hosts = HOSTS): Promise<void> {
  const runDir = path.join(temporaryFolder(), 'run');
  const ends = await endsOf(start(['train.maxSteps=3', '--run-dir', runDir], hosts));
  for (const { exitCode, stderr } of ends) assert.equal(exitCode, 0, stderr);
  const one = await runTraining(2, [...SHARDS, 'train.maxSteps=3']);
  for (const file of ['weights.safetensors', 'optimizer.safetensors']) {
    assert(lastCheckpointFile(runDir, file).equals(lastCheckpointFile(one.runDir, file)), file);
  }
}

test('a slow line that loses packets costs time, not bits', options(canTap, '/dev/net/tun and python3'), async () => {
  const line = await SlowLine.between(network!, 20, 0.01);
  assert(line);
  await assertSameBits(line.addresses.map((address) => `${address}:8889`).join(','));
  const { frames, lost } = await line.end();
  assert(lost > 0 && frames > 1000, `${lost} of ${frames}`);
  recordProof({
    name: 'two hosts on a line with 20 ms each way and 1 % of frames lost',
    goal: 'the bytes of one process',
    observed: `equal after 3 steps of ResNet-20; ${lost} of ${frames} frames lost`,
    pass: true,
  });
});

test('a narrow line whose queue overflows costs time, not bits', options(canNarrow, 'tc with tbf'), async () => {
  assert(shape('tbf rate 50mbit burst 20kb limit 40kb'));
  await assertSameBits();
  const told = spawnSync('ip', [
    'netns',
    'exec',
    network![0]!.namespace,
    'tc',
    '-s',
    'qdisc',
    'show',
    'dev',
    'eth',
  ]).stdout.toString();
  const dropped = Number(/dropped (\d+)/.exec(told)?.[1]);
  assert(dropped > 0, told);
  recordProof({
    name: 'two hosts on a line of 50 Mbit/s with a queue of 40 kB, which drops packets',
    goal: 'the bytes of one process',
    observed: `equal after 3 steps of ResNet-20; ${dropped} packets of host 0 dropped`,
    pass: true,
  });
});

test(
  'a cut line: both hosts end with 12 within 30 s',
  options(network !== undefined, 'root and ip netns'),
  async () => {
    const hosts = start([
      'train.maxSteps=5000',
      'checkpoint.everySteps=2',
      '--json',
      '--run-dir',
      temporaryFolder(),
      '--max-restarts',
      '0',
    ]);
    await hosts[0]!.tells('"event":"checkpoint"');
    const begun = nowSeconds();
    assert(did(`ip -n ${network![0]!.namespace} link set eth down`));
    const ends = await endsOf(hosts);
    for (const [rank, { exitCode, stdout, stderr }] of ends.entries()) {
      assert.equal(exitCode, 12, stdout + stderr);
      assert.match(stdout + stderr, new RegExp(`host ${1 - rank} \\(10\\.213\\.77\\.`));
    }
    const seconds = Math.max(...ends.map(({ endedAt }) => endedAt)) - begun;
    assert(seconds < 30, `${seconds} s`);
    recordRow({
      row: 30,
      fault: 'line between two hosts cut',
      injected: 'ip link set down in a network namespace while both train',
      observed: 'each named the other',
      code: 12,
      seconds,
      lost: 'steps since the last checkpoint, done again',
      pass: true,
    });
  },
);
