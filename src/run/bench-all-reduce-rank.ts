/**
 * One rank of `dtrain bench all-reduce`, the entry of its thread.
 *
 * Every round has other values: rows repeat a pattern of random numbers that is shifted by the round, so that the right result is the mean
 * of the patterns, shifted likewise, by the reference tree. On devices a row begins and ends there, and what moves it is what training uses.
 */
import { isMainThread, parentPort, workerData } from 'node:worker_threads';
import type { ArenaSpec } from '../collective/gradient-arena.js';
import { RankGroup } from '../collective/rank-group.js';
import { bfloat16Bits, bfloat16Value, referenceMean } from '../collective/reference.js';
import { nowSeconds } from '../core/clock.js';
import { DtrainError, ExitCode, serializeError } from '../core/errors.js';
import { fillNormal, Purpose } from '../core/philox.js';
import { attr } from '../tensorflow/attribute.js';
import { DType } from '../tensorflow/dtype.js';
import { execute } from '../tensorflow/execute.js';
import { attachRuntime, type Runtime, type RuntimeAddress } from '../tensorflow/runtime.js';
import { type TensorHandle, tensorFrom } from '../tensorflow/tensor-handle.js';
import type { CollectiveReduce } from '../train/collective-reduce.js';
import { DeviceRows } from '../train/device-rows.js';
import type { GradientMeeting } from '../train/gradient-meeting.js';
import type { RowLayout } from '../train/row-layout.js';
import { SharedRows } from '../train/shared-rows.js';

export interface RankTask {
  readonly spec: ArenaSpec;
  readonly rank: number;
  readonly rounds: number;
  /** When each rank entered and left what is timed, in seconds of the process clock: 4 float64 a rank and round. */
  readonly marks: SharedArrayBuffer;
  /** Where rows begin and end on devices; null: in shared memory, without TensorFlow. */
  readonly devices: BenchDevices | null;
}

export interface BenchDevices {
  readonly runtime: RuntimeAddress;
  /** By rank. */
  readonly names: readonly string[];
  readonly layout: RowLayout;
  /** Where TensorFlow adds the rows. */
  readonly collective: CollectiveReduce | null;
}

const MARKS = ['reduceEntry', 'reduceExit', 'copyEntry', 'copyExit'] as const;

export function readMark(task: RankTask, round: number, mark: (typeof MARKS)[number]): number {
  return marksOf(task, round)[MARKS.indexOf(mark)]!;
}

function marksOf({ marks, rank, spec }: RankTask, round: number): Float64Array {
  return new Float64Array(marks, MARKS.length * 8 * (round * spec.world + rank), MARKS.length);
}

/** Memory touched for the first time, and a kernel that is still being optimised, are not what is measured. */
const WARMUP_ROUNDS = 3;
const TIMEOUT_SECONDS = 600;
/** Prime, so that the pattern lies at ever other offsets in cache lines and chunks. */
const PATTERN_LENGTH = 4099;
/** Between sums in different orders: the patterns are of size 1. */
const ORDER_TOLERANCE = 1e-5;

function main(task: RankTask): void {
  const group = new RankGroup(task.spec, task.rank, TIMEOUT_SECONDS);
  const meeting = task.devices ? new DeviceMeeting(group, task.devices) : new MemoryMeeting(group);
  try {
    runRounds(group, meeting, task);
  } catch (error) {
    meeting.abandon();
    parentPort!.postMessage(serializeError(error, { rank: task.rank }));
  }
}

function runRounds(group: RankGroup, meeting: MemoryMeeting | DeviceMeeting, task: RankTask): void {
  const { rank, world } = group;
  const patterns = Array.from({ length: world }, (_, other) => patternOfRank(other));
  const expected = referenceMean(patterns);
  const expectedLow = referenceMean(patterns.map(inBfloat16));
  const { rowLength, lowLength = 0 } = task.spec;
  const chunk = [rank, rank + 1].map((cut) => Math.floor((rowLength * cut) / world));
  const isInMemory = lowLength === 0 && task.devices === null;
  const apart = isInMemory ? undefined : new Float32Array(chunk[1]! - chunk[0]!).fill(rank);

  for (let round = -WARMUP_ROUNDS; round < task.rounds; round++) {
    const marks = round < 0 ? new Float64Array(MARKS.length) : marksOf(task, round);
    const shift = round + WARMUP_ROUNDS;
    meeting.fill(patterns[rank]!, shift);
    group.barrier();
    marks[0] = nowSeconds();
    meeting.reduce();
    marks[1] = nowSeconds();
    const mean = meeting.mean();
    const wrong =
      numWrong(mean.subarray(0, lowLength), expectedLow, shift, meeting.tolerance) +
      numWrong(mean.subarray(lowLength), expected, shift + lowLength, meeting.tolerance);
    if (wrong > 0) throw wrongSum(rank, wrong, mean.length);
    group.barrier();
    const { result } = group;
    const source = apart ?? group.row(rank).subarray(...chunk);
    marks[2] = nowSeconds();
    result.set(source, chunk[0]);
    marks[3] = nowSeconds();
  }
}

/** Rows in the arena. */
class MemoryMeeting {
  readonly tolerance = 0;
  readonly #group: RankGroup;

  constructor(group: RankGroup) {
    this.#group = group;
  }

  fill(pattern: Float32Array, shift: number): void {
    const [row, low] = [this.#group.row(this.#group.rank), this.#group.lowRow(this.#group.rank)];
    if (low.length > 0) fillWithPattern(low, Uint16Array.from(pattern, bfloat16Bits), shift);
    fillWithPattern(row, pattern, shift + low.length);
  }

  reduce(): void {
    this.#group.allReduceMean();
  }

  mean(): Float32Array {
    return this.#group.result;
  }

  abandon(): void {
    this.#group.poison();
  }
}

/** Rows on a device, as `compute` leaves them; the mean there, as `update` takes it. */
class DeviceMeeting {
  readonly tolerance: number;
  readonly #runtime: Runtime;
  readonly #device: string;
  readonly #rank: number;
  readonly #layout: RowLayout;
  readonly #meeting: GradientMeeting;
  readonly #values: Float32Array;
  #outputs: readonly TensorHandle[] = [];

  constructor(group: RankGroup, { runtime, names, layout, collective }: BenchDevices) {
    this.#runtime = attachRuntime(runtime);
    this.#rank = group.rank;
    this.#device = names[group.rank]!;
    this.#layout = layout;
    this.#values = new Float32Array(layout.length);
    this.tolerance = collective === null || collective.exact || group.world <= 2 ? 0 : ORDER_TOLERANCE;
    const options = { device: this.#device, layout };
    this.#meeting = collective
      ? new DeviceRows(this.#runtime, group, { ...options, collective, firstShard: group.rank })
      : new SharedRows(this.#runtime, group, options);
  }

  fill(pattern: Float32Array, shift: number): void {
    const { length, lowLength } = this.#layout;
    fillWithPattern(this.#values, pattern, shift);
    const put = (values: Float32Array) => tensorFrom(this.#runtime, this.#device, values, [values.length]);
    if (lowLength === 0) {
      this.#outputs = [put(this.#values)];
      return;
    }
    using wide = put(this.#values.subarray(0, lowLength));
    this.#outputs = [this.#rounded(wide), put(this.#values.subarray(lowLength, length))];
  }

  reduce(): void {
    this.#meeting.bring(this.#rank, this.#outputs);
    this.#meeting.meet();
  }

  mean(): Float32Array {
    return this.#meeting.meanRow.readInto(this.#values);
  }

  abandon(): void {
    this.#meeting.abandon(`rank ${this.#rank} has failed`);
  }

  #rounded(values: TensorHandle): TensorHandle {
    const attributes = [attr.type('SrcT', DType.float32), attr.type('DstT', DType.bfloat16)];
    const cast = { name: 'Cast', inputs: [values], attributes, device: this.#device, numOutputs: 1 };
    return execute(this.#runtime, cast)[0]!;
  }
}

function patternOfRank(rank: number): Float32Array {
  const pattern = new Float32Array(PATTERN_LENGTH);
  fillNormal(pattern, rank, Purpose.synthetic, 0);
  return pattern;
}

function inBfloat16(pattern: Float32Array): Float32Array {
  return pattern.map((value) => bfloat16Value(bfloat16Bits(value)));
}

/** values[i] ← pattern[(i + shift) mod length] */
function fillWithPattern<T extends Float32Array | Uint16Array>(values: T, pattern: T, shift: number): void {
  for (let i = -(shift % pattern.length); i < values.length; i += pattern.length) {
    const part = pattern.subarray(Math.max(0, -i), values.length - i);
    values.set(part, Math.max(0, i));
  }
}

/** How often values[i] is not pattern[(i + shift) mod length]. */
function numWrong(values: Float32Array, pattern: Float32Array, shift: number, tolerance: number): number {
  let count = 0;
  for (let i = 0, j = shift % pattern.length; i < values.length; i++) {
    if (!(Math.abs(values[i]! - pattern[j]!) <= tolerance)) count++;
    if (++j === pattern.length) j = 0;
  }
  return count;
}

function wrongSum(rank: number, count: number, length: number): DtrainError {
  const message = `bench all-reduce: rank ${rank}: expected the mean of all rows, got ${count} wrong of ${length} elements.`;
  return new DtrainError('DTRAIN_WRONG_SUM', ExitCode.internal, message, { rank });
}

if (!isMainThread) main(workerData as RankTask);
