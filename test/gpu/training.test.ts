/**
 * Training on one and on several devices: N workers against one with the same logical shards, every kind of all-reduce, a resumed run against an
 * undisturbed one. On CPU devices the bits must be the same. On GPUs scripts/test-gpu.mjs asks for deterministic kernels; what differs all the same is
 * recorded, and bounded.
 */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import type { DtrainError } from '../../src/core/errors.js';
import { decodeSafetensors } from '../../src/core/safetensors.js';
import { recordProof } from '../faults/record.js';
import { relativeL2 } from '../support/assert-close.js';
import { type FinishedRun, lastCheckpointFile, runTraining, temporaryFolder } from '../support/train-run.js';
import { devicesText, first, isOnGpu, type TestDevices, testDevices } from './test-devices.js';

const STEPS = first.short ? 3 : 8;
/** As many shards as there are devices at most. */
const shards = Math.max(...testDevices.map(({ count }) => count));
const WORDS = [
  `train.logicalShards=${shards}`,
  'train.threadsPerWorker=1',
  `train.maxSteps=${STEPS}`,
  'checkpoint.everySteps=1',
  `train.globalBatch=${8 * shards}`,
];
/** Of weights after so few steps, where kernels may add in any order. */
const GPU_TOLERANCE = 1e-4;
const FILES = ['weights.safetensors', 'optimizer.safetensors'];

const runs = new Map<string, Promise<FinishedRun>>();

/** Runs once for the same words. */
function runOn(devices: TestDevices, ...words: readonly string[]): Promise<FinishedRun> {
  const key = [devicesText(devices), ...words].join(' ');
  const { kind, count, workersPerCard } = devices;
  const all = [...WORDS, `gpu.workersPerCard=${workersPerCard}`, ...words];
  if (!runs.has(key)) runs.set(key, runTraining(count, all, { devices: { kind, count } }));
  return runs.get(key)!;
}

/** `the same bits`, or how far the weights are apart. */
function compared(a: FinishedRun, b: FinishedRun): string {
  const isSame = FILES.every((file) => lastCheckpointFile(a.runDir, file).equals(lastCheckpointFile(b.runDir, file)));
  if (isSame) return 'the same bits';
  assert(isOnGpu, 'on CPU devices the bits are the same');
  const [one, other] = [a, b].map(({ runDir }) => {
    const tensors = decodeSafetensors(lastCheckpointFile(runDir, FILES[0]!), runDir);
    return [...tensors.values()].flatMap(({ values }) => [...(values as Float32Array)]);
  });
  const difference = relativeL2(one!, other!);
  assert(difference < GPU_TOLERANCE, `weights differ by ${difference}`);
  return `a relative difference of ${difference.toExponential(1)}`;
}

function recordCompared(name: string, a: FinishedRun, b: FinishedRun): void {
  const observed = compared(a, b);
  recordProof({ name, goal: 'the same bytes of weights and optimizer', observed, pass: true });
}

for (const devices of testDevices) {
  for (const words of [[], ['allReduce.kind=tensorflow'], ['train.compile=graph']]) {
    const what = [devicesText(devices), ...words].join(', ');
    if (devices === first && words[0] !== 'allReduce.kind=tensorflow') continue; // it is the one device
    test(`${what}: the training of one device`, async () => {
      const base = words.filter((word) => !word.startsWith('allReduce'));
      recordCompared(`${what}, against one device`, await runOn(devices, ...words), await runOn(first, ...base));
    });
  }

  if (devices !== first)
    test(`${devicesText(devices)}, gradients in bfloat16: the same for any number of devices`, async () => {
      const low = 'allReduce.dtype=bfloat16';
      const [many, one] = [await runOn(devices, low), await runOn(first, low)];
      recordCompared(`${devicesText(devices)}, ${low}, against one device`, many, one);
    });

  test(`${devicesText(devices)}: a resumed run is the undisturbed one`, async () => {
    const undisturbed = await runOn(devices);
    const runDir = path.join(temporaryFolder(), 'run');
    const { kind, count, workersPerCard } = devices;
    const words = [...WORDS, `gpu.workersPerCard=${workersPerCard}`];
    const controller = new AbortController();
    const stopped = runTraining(count, words, {
      devices: { kind, count },
      runDir,
      signal: controller.signal,
      onEvent: ({ event }) => event === 'checkpoint' && controller.abort(),
    });
    await stopped.catch((error: unknown) => assert.equal((error as DtrainError).exitCode, 75));
    const other = testDevices[0]!; // another number of devices goes on
    const again = [...WORDS, `gpu.workersPerCard=${other.workersPerCard}`];
    const options = { devices: { kind: other.kind, count: other.count }, runDir, resume: { from: null } };
    const resumed = await runTraining(other.count, again, options);
    recordCompared(`${devicesText(devices)}, stopped, gone on with ${devicesText(other)}`, resumed, undisturbed);
  });
}

test('XLA and the executor train alike; bfloat16 follows float32', async () => {
  const lossesOf = ({ runDir }: FinishedRun) =>
    fs
      .readFileSync(path.join(runDir, 'metrics.jsonl'), 'utf8')
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line) as { event: string; loss: number })
      .flatMap(({ event, loss }) => (event === 'step' ? [loss] : []));
  const [graph, xla, low] = [
    lossesOf(await runOn(first, 'train.compile=graph')),
    lossesOf(await runOn(first, 'train.compile=xla')),
    lossesOf(await runOn(first, 'train.precision=bfloat16')),
  ];
  assert.equal(graph.length, STEPS);
  const apart = (losses: readonly number[]) => Math.max(...losses.map((loss, i) => Math.abs(loss / graph[i]! - 1)));
  recordProof({
    name: `losses of ${STEPS} steps on ${devicesText(first)}, against the executor in float32`,
    goal: 'XLA within 1e-3, bfloat16 within 0.05',
    observed: `XLA ${apart(xla).toExponential(1)}, bfloat16 ${apart(low).toExponential(1)}`,
    pass: apart(xla) < 1e-3 && apart(low) < 0.05,
  });
  assert(apart(xla) < 1e-3, `${xla} for ${graph}`);
  assert(apart(low) < 0.05, `${low} for ${graph}`);
});
