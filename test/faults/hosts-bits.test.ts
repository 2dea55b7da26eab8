/** Several hosts on the loopback interface: the bits of one process with as many shards, also after a stop; and the ring, close to them. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { nowSeconds } from '../../src/core/clock.js';
import { decodeSafetensors } from '../../src/core/safetensors.js';
import type { ScalingBench } from '../../src/run/bench-scaling.js';
import { endsOf, groupText, HostProcess, KINDS, loopbackHosts, startHosts } from '../support/host-processes.js';
import { lastCheckpointFile, runTraining, SMALL_RUN, temporaryFolder, tinyImages } from '../support/train-run.js';
import { recordProof, recordRow } from './record.js';

const ALARM = { timeout: 240_000 };
const TRUSTED = 'cluster.trustedNetwork=true';
const STATE_FILES = ['weights.safetensors', 'optimizer.safetensors'];
const SHARDS = ['train.logicalShards=2', 'train.threadsPerWorker=1'];
const FOUR = ['train.logicalShards=4', 'train.threadsPerWorker=1', 'train.maxSteps=3', 'train.ema=0.9'];

async function runHosts(count: number, words: readonly string[]): Promise<string> {
  const runDir = path.join(temporaryFolder(), 'run');
  const ends = await endsOf(await startHosts(count, [...SMALL_RUN, TRUSTED, ...words, '--run-dir', runDir]));
  const texts = ends.map(({ stdout, stderr }) => stdout + stderr).join('\n');
  for (const { exitCode } of ends) assert.equal(exitCode, 0, texts);
  return runDir;
}

function differingFiles(a: string, b: string): string[] {
  return STATE_FILES.filter((file) => !lastCheckpointFile(a, file).equals(lastCheckpointFile(b, file)));
}

test('four hosts have the bits of one process; the ring is within 1e-5 of them', ALARM, async () => {
  const one = await runTraining(2, FOUR);
  assert.deepEqual(differingFiles(await runHosts(4, FOUR), one.runDir), []);
  recordProof({
    name: 'four hosts against one process, same logical shards',
    goal: 'the same bytes of weights and optimizer',
    observed: 'equal after 3 steps of ResNet-20',
    pass: true,
  });

  const ring = await runHosts(4, [...FOUR, 'allReduce.exact=false']);
  const [weights, expected] = [ring, one.runDir].map((runDir) =>
    decodeSafetensors(lastCheckpointFile(runDir, 'weights.safetensors'), 'weights'),
  );
  let [difference, size] = [0, 0];
  for (const [name, { values }] of expected!) {
    const others = weights!.get(name)!.values;
    for (let i = 0; i < values.length; i++) {
      difference += (Number(others[i]) - Number(values[i])) ** 2;
      size += Number(values[i]) ** 2;
    }
  }
  const relative = Math.sqrt(difference / size);
  assert(relative < 1e-5, `${relative}`);
  recordProof({
    name: 'four hosts with allReduce.exact=false against one process',
    goal: 'a relative difference below 1e-5 after 3 steps',
    observed: relative.toExponential(1),
    pass: true,
  });
});

test('two hosts of two workers that are one group of TensorFlow have the bits of one process', ALARM, async () => {
  const one = await runTraining(2, FOUR);
  const words = ['--cpus', '2', ...FOUR, 'allReduce.kind=tensorflow'];
  assert.deepEqual(differingFiles(await runHosts(2, words), one.runDir), []);
  recordProof({
    name: 'two hosts of two workers with allReduce.kind=tensorflow against one process, same logical shards',
    goal: 'the same bytes of weights and optimizer',
    observed: 'equal after 3 steps of ResNet-20',
    pass: true,
  });
});

test('two hosts that stream their images have the bits of one process with the set in memory', ALARM, async () => {
  const set = ['data.name=image-folder', `data.path=${tinyImages()}`, 'data.augment={crop: 1, mixup: 0.3}'];
  const train = ['train={epochs: 1, maxSteps: null, globalBatch: 32, logicalShards: 4, threadsPerWorker: 1}'];
  const one = await runTraining(1, [...set, ...train]);
  const streamed = await runHosts(2, [...set, ...train, 'data.memoryBytes=0']);
  assert.deepEqual(differingFiles(streamed, one.runDir), []);
  const evaluations = [streamed, one.runDir].map((folder) =>
    fs.readFileSync(path.join(folder, 'evaluation.json'), 'utf8'),
  );
  assert.equal(evaluations[0], evaluations[1]);
  recordProof({
    name: 'two hosts that stream their images against one process with the set in memory',
    goal: 'the same bytes of weights, optimizer and evaluation',
    observed: 'equal after one epoch with mixtures',
    pass: true,
  });
});

for (const kind of KINDS) {
  test(
    `${kind}: SIGTERM on one host stops both after the same step; resumed, they end with the bits of one undisturbed process`,
    ALARM,
    async () => {
      const runDir = path.join(temporaryFolder(), 'run');
      const words = [...SMALL_RUN, TRUSTED, ...SHARDS, `allReduce.kind=${kind}`, '--run-dir', runDir];
      const hosts = await startHosts(2, [...words, 'train.maxSteps=5000', 'checkpoint.everySteps=2', '--json']);
      await hosts[0]!.tells('"event":"checkpoint"');
      const begun = nowSeconds();
      hosts[1]!.child.kill('SIGTERM');
      const stopped = await endsOf(hosts);
      const seconds = Math.max(...stopped.map(({ endedAt }) => endedAt)) - begun;
      assert.deepEqual(
        stopped.map(({ exitCode }) => exitCode),
        [75, 75],
        stopped.map(({ stdout, stderr }) => stdout + stderr).join('\n'),
      );
      const steps = stopped.map(({ stdout }) => Number(/stopped on request after step (\d+)/.exec(stdout)?.[1]));
      assert.equal(steps[0], steps[1], 'the same step');

      const last = steps[0]! + 2;
      const resumed = await endsOf(await startHosts(2, [...words, `train.maxSteps=${last}`, '--resume']));
      assert.deepEqual(
        resumed.map(({ exitCode }) => exitCode),
        [0, 0],
        resumed.map(({ stderr }) => stderr).join('\n'),
      );
      const one = await runTraining(2, [...SHARDS, `train.maxSteps=${last}`]);
      assert.deepEqual(differingFiles(runDir, one.runDir), []);

      // Nothing is left to do: both end at once.
      const finished = await endsOf(await startHosts(2, [...words, `train.maxSteps=${last}`, '--resume']));
      assert.deepEqual(
        finished.map(({ exitCode }) => exitCode),
        [0, 0],
        finished.map(({ stderr }) => stderr).join('\n'),
      );
      assert.deepEqual(differingFiles(runDir, one.runDir), []);
      recordRow({
        row: 15,
        fault: `SIGTERM on one of two hosts${groupText(kind)}`,
        injected: 'kill -TERM of host 1 while both train; then --resume on both',
        observed: 'both stopped after the same step; resumed to the bits of one undisturbed process',
        code: 75,
        seconds,
        lost: 'nothing',
        pass: true,
      });
    },
  );
}

test('bench scaling on two hosts: host 0 alone, then both; every host has its figures', ALARM, async () => {
  const hosts = await loopbackHosts(2);
  const small = [
    '--config',
    'resnet20',
    '--cpus',
    '1',
    '--steps',
    '2',
    '--warmup',
    '1',
    '--json',
    'data.name=synthetic',
  ];
  const batch = ['train.globalBatch=8', 'train.threadsPerWorker=1', TRUSTED];
  const ends = await endsOf(
    [0, 1].map(
      (rank) => new HostProcess(['bench', 'scaling', ...small, ...batch, '--hosts', hosts, '--host-rank', `${rank}`]),
    ),
  );
  const points = ends.map(({ exitCode, stdout, stderr }) => {
    assert.equal(exitCode, 0, stdout + stderr);
    return (JSON.parse(stdout) as ScalingBench).points;
  });
  assert.deepEqual(
    points.map((all) => all.map(({ workers, hosts: count }) => [workers, count])),
    [
      [
        [1, 1],
        [2, 2],
      ],
      [[2, 2]],
    ],
  );
  const [alone, both] = points[0]!;
  assert.equal(alone!.efficiency, 1);
  const expected = both!.imagesPerSecond / (2 * alone!.imagesPerSecond);
  assert(Math.abs(both!.efficiency - expected) < 1e-3, JSON.stringify(points));
});
