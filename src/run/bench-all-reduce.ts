/**
 * `dtrain bench all-reduce`: how fast gradients meet, against how fast this machine copies memory.
 *
 * Each rank is a thread. A round lasts from the last rank's entry to the last rank's exit; warm-up, filling the rows and checking every
 * element of every round's result are outside the clock. A wrong sum is an error. Rows begin and end in shared memory, or, where devices are
 * named or TensorFlow adds, on devices: then a round is what a training step does between its gradients and its update.
 */
import { Worker } from 'node:worker_threads';
import { type ArenaSpec, createArena } from '../collective/gradient-arena.js';
import { poisonGroup } from '../collective/progress.js';
import { checkAllReduce } from '../config/derive.js';
import type { RunConfig } from '../config/schema.js';
import { deserializeError, internalError, type SerializedError } from '../core/errors.js';
import { type Spread, spread } from '../core/statistics.js';
import { abortCollectives } from '../tensorflow/host-cluster.js';
import { recordCollectiveReduce } from '../train/collective-reduce.js';
import { type RowLayout, rowLayout } from '../train/row-layout.js';
import { type BenchDevices, type RankTask, readMark } from './bench-all-reduce-rank.js';
import { type DeviceRequest, openDevices, type RunDevices } from './devices.js';

export interface AllReduceBenchOptions {
  /** Of one row in float32; a multiple of 4. On devices at least 8. */
  readonly bytes: number;
  readonly ranks: number;
  readonly rounds: number;
  /** What kind and dtype say. */
  readonly config: RunConfig;
  /** As many as there are ranks; null: rows in shared memory, or, where TensorFlow adds, on CPU devices. */
  readonly devices: DeviceRequest | null;
}

export interface AllReduceBench {
  readonly bench: 'all-reduce';
  readonly bytes: number;
  readonly ranks: number;
  readonly rounds: number;
  readonly seconds: Spread;
  /** All rows read and one written, once. */
  readonly trafficBytesPerSecond: number;
  /** One row read and one written, a chunk by each rank, all at once. */
  readonly memcpyBytesPerSecond: number;
  readonly kind: RunConfig['allReduce']['kind'];
  readonly dtype: RunConfig['allReduce']['dtype'];
  /** Where rows begin and end. */
  readonly devices: 'memory' | 'cpu' | 'gpu';
}

/** @throws DTRAIN_WRONG_SUM (exit 1), DTRAIN_ALL_REDUCE (exit 3), and what createArena and openDevices throw. */
export async function benchAllReduce(options: AllReduceBenchOptions): Promise<AllReduceBench> {
  const { bytes, ranks, rounds, config } = options;
  const { kind, dtype } = config.allReduce;
  if (bytes % 4 !== 0) throw internalError(`rows of ${bytes} bytes.`);
  checkAllReduce(config);
  const layout = layoutOf(bytes / 4, dtype === 'bfloat16');
  const { length: rowLength, lowLength } = layout;
  const spec = createArena({ world: ranks, shards: ranks, rowLength, lowLength });
  const isOnDevices = options.devices !== null || kind === 'tensorflow';
  const opened = isOnDevices ? openRanks(options) : null;
  const devices = opened && devicesOf(opened, layout, options);
  const marks = new SharedArrayBuffer(8 * 4 * ranks * rounds);
  const task: Omit<RankTask, 'rank'> = { spec, rounds, marks, devices };
  await Promise.all(Array.from({ length: ranks }, (_, rank) => runRank({ ...task, rank }, opened)));

  const reduce = spread(secondsOfReduce(task));
  const copy = spread(secondsOfCopy(task));
  return {
    bench: 'all-reduce',
    bytes,
    ranks,
    rounds,
    seconds: reduce,
    trafficBytesPerSecond: Math.round(trafficBytes(spec, bytes) / reduce.median),
    memcpyBytesPerSecond: Math.round((bytes * 2) / copy.median),
    kind,
    dtype,
    devices: opened?.kind ?? 'memory',
  };
}

/** A row of gradients, of which the last two elements stand for loss and accuracy. */
function layoutOf(length: number, lowGradients: boolean): RowLayout {
  const layout = rowLayout([[Math.max(0, length - 2)]], [], { slots: [], averages: false, lowGradients });
  return { ...layout, length };
}

function openRanks({ devices, ranks, config }: AllReduceBenchOptions): RunDevices {
  return openDevices({
    request: devices ?? { kind: 'cpu', count: ranks },
    command: 'dtrain bench all-reduce',
    defaultWorkers: ranks,
    threadsPerDevice: () => 1,
    gpu: config.gpu,
  });
}

function devicesOf(opened: RunDevices, layout: RowLayout, { ranks, config }: AllReduceBenchOptions): BenchDevices {
  const { runtime, library, names, kind, areDistinct } = opened;
  if (layout.length < 2) throw internalError('rows of less than two elements on devices.');
  const { exact } = config.allReduce;
  const hint = kind === 'gpu' && areDistinct ? ('nccl' as const) : ('ring' as const);
  const plan = { world: ranks, hosts: 1, shardsPerRank: 1, exact, hint };
  const isCollective = config.allReduce.kind === 'tensorflow';
  const collective = isCollective ? recordCollectiveReduce(runtime, 'BenchReduce', layout, plan) : null;
  return { runtime: { libraryPath: library.path, context: runtime.context }, names, layout, collective };
}

/** Of all shards' rows, read, and the float32 result, written. */
function trafficBytes(spec: ArenaSpec, bytes: number): number {
  const { lowLength = 0, shards } = spec;
  return shards * (lowLength === 0 ? bytes : bytes - 2 * lowLength) + bytes;
}

/** Runs one rank in a thread of its own; a rank that fails ends the others. */
function runRank(task: RankTask, opened: RunDevices | null): Promise<void> {
  const thread = new Worker(new URL('./bench-all-reduce-rank.js', import.meta.url), { workerData: task });
  return new Promise((resolve, reject) => {
    const fail = (error: unknown) => {
      poisonGroup(task.spec, task.rank);
      if (opened && task.devices?.collective) abortCollectives(opened.runtime, `rank ${task.rank} has failed`);
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
