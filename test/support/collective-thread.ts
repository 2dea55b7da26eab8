/** One rank in a thread of its own that meets others through TensorFlow's collectives; the thread behind device-rows.test.ts. */
import { parentPort, workerData } from 'node:worker_threads';
import type { ArenaSpec } from '../../src/collective/gradient-arena.js';
import { RankGroup } from '../../src/collective/rank-group.js';
import { drawWords, Purpose } from '../../src/core/philox.js';
import { attachRuntime, type RuntimeAddress } from '../../src/tensorflow/runtime.js';
import { liveHandles, tensorFrom } from '../../src/tensorflow/tensor-handle.js';
import type { CollectiveReduce } from '../../src/train/collective-reduce.js';
import { DeviceRows } from '../../src/train/device-rows.js';
import type { RowLayout } from '../../src/train/row-layout.js';

export interface CollectiveTask {
  readonly runtime: RuntimeAddress;
  readonly spec: ArenaSpec;
  readonly rank: number;
  readonly device: string;
  readonly layout: RowLayout;
  readonly collective: CollectiveReduce;
  readonly rounds: number;
  /** Comes to the barrier of the first round and then neither enters the collective nor says anything, or fails. */
  readonly afterArriving?: 'vanish' | 'fail';
}

export interface CollectiveReport {
  /** The mean rows, one after the other. */
  readonly means: Float32Array;
  readonly live: number;
  readonly error?: { readonly code: string; readonly message: string };
}

/** Round by round other values, of all sizes: in other orders they have other sums. */
export function rowOf(shard: number, round: number, length: number): Float32Array {
  return Float32Array.from({ length }, (_, i) => {
    const [a, b] = drawWords(round, Purpose.synthetic, shard, i);
    return (a / 2 ** 31 - 1) * 2 ** ((b % 12) - 6);
  });
}

parentPort?.postMessage(run(workerData as CollectiveTask));

function run(task: CollectiveTask): CollectiveReport {
  const { rank, layout, collective, device, rounds } = task;
  const runtime = attachRuntime(task.runtime);
  const group = new RankGroup(task.spec, rank, 60);
  const firstShard = rank * collective.shardsPerRank;
  const means = new Float32Array(rounds * layout.length);
  try {
    using rows = new DeviceRows(runtime, group, { device, layout, collective, firstShard });
    if (task.afterArriving !== undefined) {
      group.arrive();
      if (task.afterArriving === 'fail') rows.abandon('rank 1 has failed');
      return { means, live: 0 };
    }
    for (let round = 0; round < rounds; round++) {
      for (let shard = firstShard; shard < firstShard + collective.shardsPerRank; shard++) {
        rows.bring(shard, [tensorFrom(runtime, device, rowOf(shard, round, layout.length), [layout.length])]);
      }
      if (drawWords(round, Purpose.synthetic, rank, 0)[0] % 3 === 0) spin();
      if (!rows.meet().isFinite) throw new Error('a mean is not finite');
      rows.meanRow.readInto(means.subarray(round * layout.length, (round + 1) * layout.length));
    }
  } catch (error) {
    const { code, message } = error as { code: string; message: string };
    return { means, live: liveHandles(), error: { code, message } };
  }
  return { means, live: liveHandles() };
}

/** A rank that is late. */
function spin(): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2);
}
