/**
 * One rank of `dtrain bench all-reduce`, the entry of its thread.
 *
 * Every round has other values: rows repeat a pattern of random numbers that is shifted by the round, so that the right result is the mean
 * of the patterns, shifted likewise, by the reference tree.
 */
import { isMainThread, parentPort, workerData } from 'node:worker_threads';
import type { ArenaSpec } from '../collective/gradient-arena.js';
import { RankGroup } from '../collective/rank-group.js';
import { referenceMean } from '../collective/reference.js';
import { nowSeconds } from '../core/clock.js';
import { DtrainError, ExitCode, serializeError } from '../core/errors.js';
import { fillNormal, Purpose } from '../core/philox.js';

export interface RankTask {
  readonly spec: ArenaSpec;
  readonly rank: number;
  readonly rounds: number;
  /** When each rank entered and left what is timed, in seconds of the process clock: 4 float64 a rank and round. */
  readonly marks: SharedArrayBuffer;
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

if (!isMainThread) main(workerData as RankTask);

function main(task: RankTask): void {
  const group = new RankGroup(task.spec, task.rank, TIMEOUT_SECONDS);
  try {
    runRounds(group, task);
  } catch (error) {
    group.poison();
    parentPort!.postMessage(serializeError(error, { rank: task.rank }));
  }
}

function runRounds(group: RankGroup, task: RankTask): void {
  const { rank, world, result } = group;
  const patterns = Array.from({ length: world }, (_, other) => patternOfRank(other));
  const expected = referenceMean(patterns);
  const row = group.row(rank);
  const chunk = [rank, rank + 1].map((cut) => Math.floor((result.length * cut) / world));
  const source = row.subarray(...chunk);

  for (let round = -WARMUP_ROUNDS; round < task.rounds; round++) {
    const marks = round < 0 ? new Float64Array(MARKS.length) : marksOf(task, round);
    fillWithPattern(row, patterns[rank]!, round + WARMUP_ROUNDS);
    group.barrier();
    marks[0] = nowSeconds();
    group.allReduceMean();
    marks[1] = nowSeconds();
    checkPattern(result, expected, round + WARMUP_ROUNDS, rank);
    group.barrier();
    marks[2] = nowSeconds();
    result.set(source, chunk[0]);
    marks[3] = nowSeconds();
  }
}

function patternOfRank(rank: number): Float32Array {
  const pattern = new Float32Array(PATTERN_LENGTH);
  fillNormal(pattern, rank, Purpose.synthetic, 0);
  return pattern;
}

/** values[i] ← pattern[(i + shift) mod length] */
function fillWithPattern(values: Float32Array, pattern: Float32Array, shift: number): void {
  for (let i = -(shift % pattern.length); i < values.length; i += pattern.length) {
    const part = pattern.subarray(Math.max(0, -i), values.length - i);
    values.set(part, Math.max(0, i));
  }
}

/** Throws DTRAIN_WRONG_SUM unless values[i] = pattern[(i + shift) mod length] for all i. */
function checkPattern(values: Float32Array, pattern: Float32Array, shift: number, rank: number): void {
  const first = shift % pattern.length;
  let numWrong = 0;
  for (let i = 0, j = first; i < values.length; i++) {
    if (values[i] !== pattern[j]) numWrong++;
    if (++j === pattern.length) j = 0;
  }
  if (numWrong === 0) return;
  const message = `bench all-reduce: rank ${rank}: expected the mean of all rows, got ${numWrong} wrong of ${values.length} elements.`;
  throw new DtrainError('DTRAIN_WRONG_SUM', ExitCode.internal, message, { rank });
}
