/**
 * `dtrain bench all-reduce`: how fast gradients meet, against how fast this machine copies memory.
 *
 * Each rank is a thread. A round lasts from the last rank's entry to the last rank's exit; warm-up, filling the rows and checking every
 * element of every round's result are outside the clock. A wrong sum is an error.
 */
import { Worker } from 'node:worker_threads';
import { createArena } from '../collective/gradient-arena.js';
import { poisonGroup } from '../collective/progress.js';
import { deserializeError, internalError, type SerializedError } from '../core/errors.js';
import { type Spread, spread } from '../core/statistics.js';
import { type RankTask, readMark } from './bench-all-reduce-rank.js';

export interface AllReduceBenchOptions {
  /** Of one row; a multiple of 4. */
  readonly bytes: number;
  readonly ranks: number;
  readonly rounds: number;
}

export interface AllReduceBench extends AllReduceBenchOptions {
  readonly bench: 'all-reduce';
  readonly seconds: Spread;
  /** All rows read and one written, once. */
  readonly trafficBytesPerSecond: number;
  /** One row read and one written, a chunk by each rank, all at once. */
  readonly memcpyBytesPerSecond: number;
}

/** Throws DTRAIN_WRONG_SUM (exit 1), and what createArena throws. */
export async function benchAllReduce({ bytes, ranks, rounds }: AllReduceBenchOptions): Promise<AllReduceBench> {
  if (bytes % 4 !== 0) throw internalError(`rows of ${bytes} bytes.`);
  const spec = createArena({ world: ranks, shards: ranks, rowLength: bytes / 4 });
  const task: Omit<RankTask, 'rank'> = { spec, rounds, marks: new SharedArrayBuffer(8 * 4 * ranks * rounds) };
  await Promise.all(Array.from({ length: ranks }, (_, rank) => runRank({ ...task, rank })));

  const reduce = spread(secondsOfReduce(task));
  const copy = spread(secondsOfCopy(task));
  return {
    bench: 'all-reduce',
    bytes,
    ranks,
    rounds,
    seconds: reduce,
    trafficBytesPerSecond: Math.round((bytes * (ranks + 1)) / reduce.median),
    memcpyBytesPerSecond: Math.round((bytes * 2) / copy.median),
  };
}

/** Runs one rank in a thread of its own; a rank that fails ends the others. */
function runRank(task: RankTask): Promise<void> {
  const thread = new Worker(new URL('./bench-all-reduce-rank.js', import.meta.url), { workerData: task });
  return new Promise((resolve, reject) => {
    const fail = (error: unknown) => {
      poisonGroup(task.spec, task.rank);
      reject(error);
    };
    thread.once('message', (error: SerializedError) => fail(deserializeError(error)));
    thread.once('error', fail);
    thread.once('exit', () => resolve());
  });
}

type Mark = Parameters<typeof readMark>[2];

/** From the last rank's entry, before which the all-reduce can do nothing, to the last rank's exit; of each round. */
function secondsOfReduce(task: Omit<RankTask, 'rank'>): number[] {
  return secondsOfRounds(task, (marks) => Math.max(...marks('reduceExit')) - Math.max(...marks('reduceEntry')));
}

/** From the first rank's entry, since each copies at once, to the last rank's exit; of each round. */
function secondsOfCopy(task: Omit<RankTask, 'rank'>): number[] {
  return secondsOfRounds(task, (marks) => Math.max(...marks('copyExit')) - Math.min(...marks('copyEntry')));
}

function secondsOfRounds(
  task: Omit<RankTask, 'rank'>,
  secondsOf: (marks: (mark: Mark) => readonly number[]) => number,
): number[] {
  const ranks = Array.from({ length: task.spec.world }, (_, rank) => rank);
  return Array.from({ length: task.rounds }, (_, round) =>
    secondsOf((mark) => ranks.map((rank) => readMark({ ...task, rank }, round, mark))),
  );
}
