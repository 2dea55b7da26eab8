/** Rows that TensorFlow's collectives add: the sums, bit for bit or nearly, over more rounds than there are keys; and ranks that never enter one. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { createArena } from '../src/collective/gradient-arena.js';
import { poisonGroup } from '../src/collective/progress.js';
import { RankGroup } from '../src/collective/rank-group.js';
import { referenceMean } from '../src/collective/reference.js';
import { abortCollectives } from '../src/tensorflow/host-cluster.js';
import { openLibrary } from '../src/tensorflow/library.js';
import type { Runtime } from '../src/tensorflow/runtime.js';
import { liveHandles, type TensorHandle, tensorFrom } from '../src/tensorflow/tensor-handle.js';
import { type CollectivePlan, recordCollectiveReduce } from '../src/train/collective-reduce.js';
import { DeviceRows } from '../src/train/device-rows.js';
import { rowLayout } from '../src/train/row-layout.js';
import { SharedRows } from '../src/train/shared-rows.js';
import { relativeL2 } from './support/assert-close.js';
import { type CollectiveReport, type CollectiveTask, rowOf } from './support/collective-thread.js';
import { CPU_0, testRuntime } from './support/test-runtime.js';

const layout = rowLayout([[40, 25]], [], { slots: [], averages: false });
const { length } = layout;
let numFunctions = 0;

interface Meeting {
  readonly plan: CollectivePlan;
  readonly rounds: number;
  /** By rank. */
  readonly afterArriving?: readonly CollectiveTask['afterArriving'][];
  readonly whenAllArrived?: (runtime: Runtime, spec: CollectiveTask['spec']) => void;
}

async function meet({ plan, rounds, afterArriving = [], whenAllArrived }: Meeting): Promise<CollectiveReport[]> {
  const { world } = plan;
  const runtime = testRuntime({ cpuDevices: world });
  const collective = recordCollectiveReduce(runtime, `Reduce${numFunctions++}`, layout, plan);
  const spec = createArena({ world, shards: world, rowLength: length });
  const address = { libraryPath: openLibrary().path, context: runtime.context };
  const reports = Array.from({ length: world }, (_, rank) => {
    const device = `/device:CPU:${rank}`;
    const act = afterArriving[rank] === undefined ? {} : { afterArriving: afterArriving[rank] };
    const workerData: CollectiveTask = { runtime: address, spec, rank, device, layout, collective, rounds, ...act };
    const thread = new Worker(new URL('./support/collective-thread.js', import.meta.url), { workerData });
    return new Promise<CollectiveReport>((resolve, reject) => thread.once('message', resolve).once('error', reject));
  });
  if (whenAllArrived) {
    await Promise.race(reports); // who only arrives
    await new Promise((resolve) => setTimeout(resolve, 200));
    whenAllArrived(runtime, spec);
  }
  return Promise.all(reports);
}

function expectedOf({ world, shardsPerRank }: CollectivePlan, round: number): Float32Array {
  return referenceMean(Array.from({ length: world * shardsPerRank }, (_, shard) => rowOf(shard, round, length)));
}

function tensorOf(runtime: Runtime, values: Float32Array): TensorHandle {
  return tensorFrom(runtime, CPU_0, values, [values.length]);
}

/** More rounds than the ring has keys. */
const ROUNDS = 150;

for (const [world, shardsPerRank] of [
  [1, 3],
  [2, 4],
  [3, 1],
  [4, 2],
] as const) {
  test(`${world} ranks of ${shardsPerRank} shards, in the fixed order: the bits of the reference tree in every round`, async () => {
    const plan: CollectivePlan = { world, hosts: 1, shardsPerRank, exact: true, hint: 'ring' };
    for (const { means, error, live } of await meet({ plan, rounds: ROUNDS })) {
      assert.deepEqual([error, live], [undefined, 0]);
      for (let round = 0; round < ROUNDS; round++) {
        const mean = means.subarray(round * length, (round + 1) * length);
        assert.deepEqual(mean, expectedOf(plan, round), `round ${round}`);
      }
    }
  });
}

test('around the ring: the same sums up to their roundings, the same bits on all ranks', async () => {
  const plan: CollectivePlan = { world: 3, hosts: 1, shardsPerRank: 1, exact: false, hint: 'ring' };
  const reports = await meet({ plan, rounds: ROUNDS });
  const expected = Float32Array.from(Array.from({ length: ROUNDS }, (_, round) => [...expectedOf(plan, round)]).flat());
  assert.notDeepEqual(reports[0]!.means, expected, 'another order');
  for (const { means } of reports) {
    assert(relativeL2(means, expected) < 2e-7);
    assert.deepEqual(means, reports[0]!.means);
  }
});

test('who waits in a collective for a rank that never enters it comes back when the main thread gives that one up', async () => {
  const plan: CollectivePlan = { world: 3, hosts: 1, shardsPerRank: 1, exact: true, hint: 'ring' };
  const reports = await meet({
    plan,
    rounds: 1,
    afterArriving: [undefined, 'vanish', undefined],
    whenAllArrived: (runtime, spec) => {
      poisonGroup(spec, 1);
      abortCollectives(runtime, 'rank 1 is gone');
    },
  });
  for (const rank of [0, 2]) {
    const message = `all-reduce: rank 1 failed; rank ${rank} stops.`;
    assert.deepEqual(reports[rank]!.error, { code: 'DTRAIN_RANK_FAILED', message });
    assert.equal(reports[rank]!.live, 0);
  }
});

test('a rank that fails on its way into a collective tells the others itself', async () => {
  const plan: CollectivePlan = { world: 2, hosts: 1, shardsPerRank: 1, exact: true, hint: 'ring' };
  const [report] = await meet({ plan, rounds: 1, afterArriving: [undefined, 'fail'] });
  assert.equal(report!.error?.code, 'DTRAIN_RANK_FAILED');
});

test('one value that is not finite is told, and by how much the loss is', () => {
  const runtime = testRuntime();
  const plan: CollectivePlan = { world: 1, hosts: 1, shardsPerRank: 1, exact: true, hint: 'ring' };
  const collective = recordCollectiveReduce(runtime, 'ReduceNotFinite', layout, plan);
  const group = new RankGroup(createArena({ world: 1, shards: 1, rowLength: length }), 0, 60);
  {
    using rows = new DeviceRows(runtime, group, { device: CPU_0, layout, collective, firstShard: 0 });
    for (const [value, finite] of [
      [1, true],
      [Number.NaN, false],
      [Number.NEGATIVE_INFINITY, false],
      [3e38, true],
    ] as const) {
      const values = rowOf(0, 0, length);
      values.set([0.25, 0.5], layout.loss);
      rows.bring(0, [tensorOf(runtime, values)]);
      rows.spoil(0, value, 700);
      assert.deepEqual(rows.meet(), { isFinite: finite, loss: 0.25, correct: 0.5 });
      rows.keepMean();
      assert.equal(Object.is(group.result[700], Math.fround(value)), true);
    }
  }
  assert.equal(liveHandles(), 0);
});

test('in shared memory a GPU is given the mean row anew at each meeting; a CPU device reads it where it lies', () => {
  const runtime = testRuntime();
  for (const kind of ['cpu', 'gpu'] as const) {
    const posing = { ...runtime, devices: runtime.devices.map((device) => ({ ...device, kind })) };
    const group = new RankGroup(createArena({ world: 1, shards: 1, rowLength: length }), 0, 60);
    {
      using rows = new SharedRows(posing, group, { device: '/device:CPU:1', layout });
      const handles = [rows.meanRow];
      for (let round = 0; round < 4; round++) {
        rows.bring(0, [tensorOf(runtime, rowOf(0, round, length))]);
        rows.meet();
        handles.push(rows.meanRow);
        assert.deepEqual(rows.meanRow.readInto(new Float32Array(length)), rowOf(0, round, length));
      }
      assert.equal(new Set(handles).size, kind === 'gpu' ? 5 : 2, 'one over each place, or one a meeting');
    }
    assert.equal(liveHandles(), 0);
  }
});
