/**
 * One rank's hand on the group: its rows, the all-reduce, the barrier.
 *
 * Idea: gradients meet in shared memory. Each rank writes the rows of its shards; at the all-reduce rank r sums chunk r of all rows in a
 * fixed pairwise tree, and all ranks then read the one result row. Nobody copies it.
 *
 *   all ranks: rows written │ barrier │ rank r: chunk r of result ← mean of chunk r of all rows │ barrier │ all ranks: read result
 *
 * Several hosts: what the ranks made above is then the host's sum, and two more barriers follow; between them the first rank exchanges sums
 * with the other hosts, and rank r adds and scales chunk r of what came.
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
  lowRowView,
  RankWord,
  rankWords,
  rowBytes,
  rowOffset,
  rowStride,
  rowView,
  SharedWord,
  shardStride,
} from './gradient-arena.js';
import { instantiateKernel, type Kernel } from './kernel.js';
import { poisonWords, progressOfRank, type RankPhase, writeProgress } from './progress.js';

/**
 * The meeting of the hosts: takes the sum of this host's rows and fills the host rows. Called in the first rank's thread while the others wait;
 * blocks until all hosts have come.
 */
export type HostExchange = (hostSum: Float32Array, hostRows: readonly Float32Array[]) => void;

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
  readonly #lowRows: readonly Uint16Array[];
  readonly #barrier: Barrier;
  readonly #firstShard: number;
  readonly #sumOwnChunk: () => void;
  /** The mean of all hosts from the host rows; undefined on one host. */
  readonly #meanOfHosts: (() => void) | undefined;
  readonly #hostRows: readonly Float32Array[];
  #arrivedLast = false;

  /** One RankGroup a rank at a time, in that rank's thread. Loads the kernel from disk. */
  constructor(spec: ArenaSpec, rank: number, timeoutSeconds: number) {
    const { memory, world, shards, lowLength = 0, hosts } = spec;
    if (!(rank >= 0 && rank < world)) throw internalError(`rank ${rank} of a group of ${world}.`);
    this.rank = rank;
    this.world = world;
    this.timeoutSeconds = timeoutSeconds;
    this.result = rowView(spec, shards);
    this.#words = controlWords(spec);
    this.#rows = Array.from({ length: shards }, (_, row) => rowView(spec, row));
    this.#lowRows = Array.from({ length: shards }, (_, row) => lowRowView(spec, row));
    this.#firstShard = hosts?.firstShard ?? 0;
    this.#barrier = new Barrier(this.#words, rank, world);

    const kernel = instantiateKernel(memory);
    const result = rowOffset(spec, shards);
    const sumOwnChunks = (parts: readonly PartOfRows[], count: number, factor: number) => {
      let notFinite = 0;
      for (const part of parts) notFinite |= sumOwnChunk(kernel, part, { rank, world, count, factor });
      Atomics.store(this.#words, rankWords(rank) + RankWord.notFinite, notFinite);
    };
    const scale = hosts ? 1 : 1 / shards; // several hosts: scaled once, after the last addition
    const lowBytes = lowLength * Uint16Array.BYTES_PER_ELEMENT;
    const low = { rows: rowOffset(spec, 0), stride: shardStride(spec), bytes: lowBytes, result, isLow: true };
    const full = {
      ...low,
      rows: low.rows + lowBytes,
      bytes: rowBytes({ rowLength: spec.rowLength - lowLength }),
      result: result + 2 * lowBytes,
      isLow: false,
    };
    this.#sumOwnChunk = () => sumOwnChunks(lowLength > 0 ? [low, full] : [full], shards, scale);
    this.#hostRows = Array.from({ length: hosts?.hostRows ?? 0 }, (_, row) => rowView(spec, shards + 1 + row));
    if (!hosts) return;
    const { hostRows, allShards } = hosts;
    const ofHosts = { rows: rowOffset(spec, shards + 1), stride: rowStride(spec), bytes: rowBytes(spec), result };
    this.#meanOfHosts = () => sumOwnChunks([{ ...ofHosts, isLow: false }], hostRows, 1 / allShards);
  }

  /** The row of a logical shard, its float32 elements. Write only those of the rank's own shards, and only between two all-reduces. */
  row(shard: number): Float32Array {
    return this.#rows[shard - this.#firstShard]!;
  }

  /** Its bfloat16 elements, which come before those, as their bits. */
  lowRow(shard: number): Uint16Array {
    return this.#lowRows[shard - this.#firstShard]!;
  }

  /** Waits for all ranks as the all-reduce does, for those that add elsewhere. Throws as `barrier` does. */
  arrive(): void {
    this.#arrivedLast = this.#barrier.meet('all-reduce', this.timeoutSeconds);
  }

  /** Throws DTRAIN_RANK_FAILED where another rank has failed: what this one met with is then a consequence. */
  throwIfPoisoned(): void {
    this.#barrier.throwIfPoisoned('all-reduce');
  }

  /**
   * `result` ← (sum of all rows in the fixed pairwise tree) × 1/shards. Blocks until all ranks have come; throws as `barrier` does.
   * Of several hosts, the first rank brings `exchange`.
   */
  allReduceMean(exchange?: HostExchange): void {
    this.arrive();
    this.#sumOwnChunk();
    this.#barrier.meet('all-reduce', this.timeoutSeconds);
    if (!this.#meanOfHosts) return;
    if (this.rank === 0) exchange!(this.result, this.#hostRows);
    this.#barrier.meet('all-reduce between hosts', this.timeoutSeconds);
    this.#meanOfHosts();
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

/** A part of all rows, from byte offset `rows` in the memory on, and where its result goes. */
interface PartOfRows {
  readonly rows: number;
  readonly stride: number;
  /** Of one row. */
  readonly bytes: number;
  readonly result: number;
  /** In bfloat16. */
  readonly isLow: boolean;
}

/** The chunk of a rank; 1 where a value of its result is not finite. */
function sumOwnChunk(
  { sumOfRows, sumOfLowRows, areFinite }: Kernel,
  { rows, stride, bytes, result, isLow }: PartOfRows,
  { rank, world, count, factor }: { rank: number; world: number; count: number; factor: number },
): number {
  const { start, end } = chunkOfRank(rank, world, bytes);
  const sum = isLow ? sumOfLowRows : sumOfRows;
  const widening = isLow ? 2 : 1;
  let notFinite = 0;
  for (let from = start; from < end; from += BLOCK_BYTES) {
    const to = Math.min(end, from + BLOCK_BYTES);
    sum(rows, stride, count, from, to, result, factor);
    notFinite |= 1 - areFinite(result + widening * from, result + widening * to);
  }
  return notFinite;
}

/** The bytes of each row that `rank` sums: whole cache lines, the chunks of all ranks together make the row. */
export function chunkOfRank(rank: number, world: number, bytesOfRow: number): { start: number; end: number } {
  const lines = bytesOfRow / ALIGNMENT_BYTES;
  const cut = (index: number) => Math.floor((lines * index) / world) * ALIGNMENT_BYTES;
  return { start: cut(rank), end: cut(rank + 1) };
}
