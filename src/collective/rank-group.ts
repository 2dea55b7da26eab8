/**
 * One rank's hand on the group: its rows, the all-reduce, the barrier.
 *
 * Idea: gradients meet in shared memory. Each rank writes the rows of its shards; at the all-reduce rank r sums chunk r of all rows in a
 * fixed pairwise tree, and all ranks then read the one result row. Nobody copies it.
 *
 *   all ranks: rows written │ barrier │ rank r: chunk r of result ← mean of chunk r of all rows │ barrier │ all ranks: read result
 *
 * Must stay true: the sum depends on the rows alone, not on the number of ranks nor on who came when; a rank that fails poisons the group,
 * so that no other waits for it.
 */
import { internalError } from '../core/errors.js';
import { ALIGNMENT_BYTES } from '../core/shared-memory.js';
import { Barrier } from './barrier.js';
import {
  type ArenaSpec,
  controlWords,
  RankWord,
  rankWords,
  rowBytes,
  rowOffset,
  rowStride,
  rowView,
  SharedWord,
} from './gradient-arena.js';
import { instantiateKernel } from './kernel.js';
import { poisonWords, progressOfRank, type RankPhase, writeProgress } from './progress.js';

/** Of the result: looked at for values that are not finite while it is still in the cache of its core. */
const BLOCK_BYTES = 2 ** 16;

export class RankGroup {
  readonly rank: number;
  readonly world: number;
  /** The mean of all rows after an all-reduce, until this rank's next one. Only read it. */
  readonly result: Float32Array;
  /** How long a rank waits for the others; may be changed between two meetings (a first step compiles). */
  timeoutSeconds: number;

  readonly #words: Int32Array;
  readonly #rows: readonly Float32Array[];
  readonly #barrier: Barrier;
  readonly #meanOfOwnChunk: () => void;
  #arrivedLast = false;

  /** One RankGroup a rank at a time, in that rank's thread. Loads the kernel from disk. */
  constructor(spec: ArenaSpec, rank: number, timeoutSeconds: number) {
    const { memory, world, shards } = spec;
    if (!(rank >= 0 && rank < world)) throw internalError(`rank ${rank} of a group of ${world}.`);
    this.rank = rank;
    this.world = world;
    this.timeoutSeconds = timeoutSeconds;
    this.result = rowView(spec, shards);
    this.#words = controlWords(spec);
    this.#rows = Array.from({ length: shards }, (_, shard) => rowView(spec, shard));
    this.#barrier = new Barrier(this.#words, rank, world);

    const { meanOfRows, areFinite } = instantiateKernel(memory);
    const stride = rowStride(spec);
    const { start, end } = chunkOfRank(rank, world, rowBytes(spec));
    const [rows, result] = [rowOffset(spec, 0), rowOffset(spec, shards)];
    this.#meanOfOwnChunk = () => {
      let notFinite = 0;
      for (let from = start; from < end; from += BLOCK_BYTES) {
        const to = Math.min(end, from + BLOCK_BYTES);
        meanOfRows(rows, stride, shards, from, to, result);
        notFinite |= 1 - areFinite(result + from, result + to);
      }
      Atomics.store(this.#words, rankWords(rank) + RankWord.notFinite, notFinite);
    };
  }

  /** The row of a logical shard. Write only those of the rank's own shards, and only between two all-reduces. */
  row(shard: number): Float32Array {
    return this.#rows[shard]!;
  }

  /** `result` ← (sum of all rows in the fixed pairwise tree) × 1/shards. Blocks until all ranks have come; throws as `barrier` does. */
  allReduceMean(): void {
    this.#arrivedLast = this.#barrier.meet('all-reduce', this.timeoutSeconds);
    this.#meanOfOwnChunk();
    this.#barrier.meet('all-reduce', this.timeoutSeconds);
  }

  /** Whether all values of the last result are finite; all ranks see the same. */
  get resultIsFinite(): boolean {
    for (let rank = 0; rank < this.world; rank++) {
      if (Atomics.load(this.#words, rankWords(rank) + RankWord.notFinite) !== 0) return false;
    }
    return true;
  }

  /** Whether this rank was the last to come to the last all-reduce: then the time it spent there holds no waiting for others. */
  get arrivedLast(): boolean {
    return this.#arrivedLast;
  }

  /**
   * Waits for all ranks. Throws DTRAIN_HANG (exit 11) after `timeoutSeconds`, naming who did not come and what they were doing, and
   * DTRAIN_RANK_FAILED (exit 10), a mere consequence, when another rank has failed or given up. After either the group is finished.
   */
  barrier(): void {
    this.#barrier.meet('barrier', this.timeoutSeconds);
  }

  /** Tells the others that this rank has failed: all who wait, or come to wait, throw at once. */
  poison(): void {
    poisonWords(this.#words, this.rank);
  }

  /** Notes for the watchdog and for messages that this rank has entered `phase` of `step` (which counts from 1). */
  enter(step: number, phase: RankPhase): void {
    writeProgress(this.#words, this.rank, step, phase);
  }

  /** The step that this rank is in, or was in last. */
  get step(): number {
    return progressOfRank(this.#words, this.rank).step;
  }

  /** Whether the main thread has asked to stop by now; other ranks may not have seen it yet. */
  get stopAsked(): boolean {
    return Atomics.load(this.#words, SharedWord.stopRequest) === 1;
  }

  /** Whether the main thread asked to stop; all ranks see the same value from one meeting to the next. */
  get stopRequested(): boolean {
    return Atomics.load(this.#words, SharedWord.stop) === 1;
  }
}

/** The bytes of each row that `rank` sums: whole cache lines, the chunks of all ranks together make the row. */
export function chunkOfRank(rank: number, world: number, bytesOfRow: number): { start: number; end: number } {
  const lines = bytesOfRow / ALIGNMENT_BYTES;
  const cut = (index: number) => Math.floor((lines * index) / world) * ALIGNMENT_BYTES;
  return { start: cut(rank), end: cut(rank + 1) };
}
