/** Two hosts in network namespaces of their own, on a line that is slow, loses packets, or is cut. Needs Linux, `ip`, `tc` and root. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { after, test } from 'node:test';
import { nowSeconds } from '../../src/core/clock.js';
import { endsOf, type HostProcess, startHost } from '../support/host-processes.js';
import { lastCheckpointFile, runTraining, SMALL_RUN, temporaryFolder } from '../support/train-run.js';
import { recordProof, recordRow } from './record.js';

const SHARDS = ['train.logicalShards=2', 'train.threadsPerWorker=1'];
const NAMES = [0, 1].map((rank) => `dtrain-${process.pid}-${rank}`);
const ADDRESSES = ['10.213.77.1', '10.213.77.2'];
const HOSTS = ADDRESSES.map((address) => `${address}:8888`).join(',');

/** Runs a command; whether it went well. */
function did(command: string): boolean {
  const [file, ...words] = command.split(' ');
  return spawnSync(file!, words, { stdio: 'ignore' }).status === 0;
}

/** Two namespaces and a line between them, with `eth` in each. */
function makeNetwork(): boolean {
  const [first, second] = NAMES;
  return (
    NAMES.every((name) => did(`ip netns add ${name}`)) &&
    did(`ip -n ${first} link add eth type veth peer name eth netns ${second}`) &&
    NAMES.every(
      (name, rank) =>
        did(`ip -n ${name} address add ${ADDRESSES[rank]}/24 dev eth`) &&
        did(`ip -n ${name} link set eth up`) &&
        did(`ip -n ${name} link set lo up`),
    )
  );
}

after(() => {
  for (const name of NAMES) did(`ip netns delete ${name}`);
});

const hasNetwork = makeNetwork();
const canShape =
  hasNetwork && NAMES.every((name) => did(`ip netns exec ${name} tc qdisc add dev eth root netem delay 1ms`));
const options = (possible: boolean, needed: string) => ({
  timeout: 240_000,
  skip: possible ? false : `needs ${needed}`,
});

function start(words: readonly string[]): HostProcess[] {
  const all = [...SMALL_RUN, ...SHARDS, 'cluster.trustedNetwork=true', ...words];
  return NAMES.map((name, rank) => startHost(HOSTS, rank, all, ['ip', 'netns', 'exec', name]));
}

test('a slow line that loses packets costs time, not bits', options(canShape, 'tc with netem'), async () => {
  for (const name of NAMES)
    assert(did(`ip netns exec ${name} tc qdisc change dev eth root netem delay 20ms 5ms loss 1%`));
  const runDir = path.join(temporaryFolder(), 'run');
  const ends = await endsOf(start(['train.maxSteps=3', '--run-dir', runDir]));
  for (const { exitCode, stderr } of ends) assert.equal(exitCode, 0, stderr);
  const one = await runTraining(2, [...SHARDS, 'train.maxSteps=3']);
  for (const file of ['weights.safetensors', 'optimizer.safetensors']) {
    assert(lastCheckpointFile(runDir, file).equals(lastCheckpointFile(one.runDir, file)), file);
  }
  for (const name of NAMES) assert(did(`ip netns exec ${name} tc qdisc change dev eth root netem delay 1ms`));
  recordProof({
    name: 'two hosts on a line with 20 ms (± 5 ms) each way and 1 % of packets lost',
    goal: 'the bytes of one process',
    observed: 'equal after 3 steps of ResNet-20',
    pass: true,
  });
});

test('a cut line: both hosts end with 12 within 30 s', options(hasNetwork, 'root and ip netns'), async () => {
  const hosts = start(['train.maxSteps=5000', 'checkpoint.everySteps=2', '--json', '--run-dir', temporaryFolder()]);
  await hosts[0]!.tells('"event":"checkpoint"');
  const begun = nowSeconds();
  assert(did(`ip -n ${NAMES[0]} link set eth down`));
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
});
