/**
 * One rank's hand on the group: its rows, the all-reduce, the barrier.
 *
 * Idea: gradients meet in shared memory. Each rank writes the rows of its shards; at the all-reduce rank r sums chunk r of all rows in a
 * fixed pairwise tree, into the first of them, which has two places in turn, and all ranks then read the one result. Nobody copies it.
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
  resultRow,
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
  /** The two places of the result in turn; the same one where rows are bfloat16. */
  readonly results: readonly [even: Float32Array, odd: Float32Array];
  /** How long a rank waits for the others; may be changed between two meetings (a first step compiles). */
  timeoutSeconds: number;

  readonly #words: Int32Array;
  readonly #rows: readonly Float32Array[];
  readonly #lowRows: readonly Uint16Array[];
  readonly #barrier: Barrier;
  readonly #firstShard: number;
  readonly #sumOwnChunk: (round: number) => void;
  /** The mean of all hosts from the host rows; undefined on one host. */
  readonly #meanOfHosts: ((round: number) => void) | undefined;
  readonly #hostRows: readonly Float32Array[];
  #arrivedLast = false;
  /** All-reduces that are done. */
  #reductions: number;

  /** One RankGroup a rank at a time, in that rank's thread. Loads the kernel from disk. */
  constructor(spec: ArenaSpec, rank: number, timeoutSeconds: number) {
    const { memory, world, shards, lowLength = 0, hosts } = spec;
    if (!(rank >= 0 && rank < world)) throw internalError(`rank ${rank} of a group of ${world}.`);
    this.rank = rank;
    this.world = world;
    this.timeoutSeconds = timeoutSeconds;
    this.results = [rowView(spec, resultRow(spec, 0)), rowView(spec, resultRow(spec, 1))];
    this.#words = controlWords(spec);
    this.#reductions = Atomics.load(this.#words, rankWords(rank) + RankWord.reductions);
    this.#rows = Array.from({ length: shards }, (_, row) => rowView(spec, row));
    this.#lowRows = Array.from({ length: shards }, (_, row) => lowRowView(spec, row));
    this.#firstShard = hosts?.firstShard ?? 0;
    this.#barrier = new Barrier(this.#words, rank, world);

    const kernel = instantiateKernel(memory);
    const resultOf = (round: number) => rowOffset(spec, resultRow(spec, round));
    const sumOwnChunks = (parts: readonly PartOfRows[], count: number, factor: number) => {
      let notFinite = 0;
      for (const part of parts) notFinite |= sumOwnChunk(kernel, part, { rank, world, count, factor });
      Atomics.store(this.#words, rankWords(rank) + RankWord.notFinite, notFinite);
    };
    const scale = hosts ? 1 : 1 / shards; // several hosts: scaled once, after the last addition
    const lowBytes = lowLength * Uint16Array.BYTES_PER_ELEMENT;
    const ofShards = { rows: rowOffset(spec, 0), stride: shardStride(spec) };
    const fullBytes = rowBytes({ rowLength: spec.rowLength - lowLength });
    this.#sumOwnChunk = (round) => {
      const result = resultOf(round);
      const low = { ...ofShards, first: ofShards.rows, bytes: lowBytes, result, isLow: true };
      const rows = ofShards.rows + lowBytes;
      const first = lowLength > 0 ? rows : result;
      const full = { ...ofShards, first, rows, bytes: fullBytes, result: result + 2 * lowBytes, isLow: false };
      sumOwnChunks(lowLength > 0 ? [low, full] : [full], shards, scale);
    };
    this.#hostRows = Array.from({ length: hosts?.hostRows ?? 0 }, (_, row) => rowView(spec, shards + 1 + row));
    if (!hosts) return;
    const { hostRows, allShards } = hosts;
    const rows = rowOffset(spec, shards + 1);
    const ofHosts = { first: rows, rows, stride: rowStride(spec), bytes: rowBytes(spec), isLow: false };
    this.#meanOfHosts = (round) => sumOwnChunks([{ ...ofHosts, result: resultOf(round) }], hostRows, 1 / allShards);
  }

  /** Which of `results` holds the mean of the last all-reduce. */
  get resultIndex(): 0 | 1 {
    return ((this.#reductions - 1) & 1) as 0 | 1;
  }

  /** The mean of all rows after an all-reduce, until this rank's next one. Only read it. */
  get result(): Float32Array {
    return this.results[this.resultIndex];
  }

  /**
   * The row of a logical shard for the next all-reduce, its float32 elements. Write only those of the rank's own shards, and only between two
   * all-reduces. The first shard has another one each time.
   */
  row(shard: number): Float32Array {
    const index = shard - this.#firstShard;
    return index === 0 && this.#lowRows[0]!.length === 0 ? this.results[this.#reductions & 1]! : this.#rows[index]!;
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
   * `result` ← (sum of all rows in the fixed pairwise tree) × 1/shards, in the place of the first row. Blocks until all ranks have come; throws as `barrier` does.
   * Of several hosts, the first rank brings `exchange`.
   */
  allReduceMean(exchange?: HostExchange): void {
    const round = this.#reductions;
    this.arrive();
    this.#sumOwnChunk(round);
    this.#barrier.meet('all-reduce', this.timeoutSeconds);
    if (this.#meanOfHosts) {
      if (this.rank === 0) exchange!(this.results[round & 1]!, this.#hostRows);
      this.#barrier.meet('all-reduce between hosts', this.timeoutSeconds);
      this.#meanOfHosts(round);
      this.#barrier.meet('all-reduce', this.timeoutSeconds);
    }
    this.#reductions = (round + 1) | 0;
    Atomics.store(this.#words, rankWords(this.rank) + RankWord.reductions, this.#reductions);
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

/** A part of all rows, from byte offset `rows` in the memory on, that of the first one at `first`, and where its result goes. */
interface PartOfRows {
  readonly first: number;
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
  { first, rows, stride, bytes, result, isLow }: PartOfRows,
  { rank, world, count, factor }: { rank: number; world: number; count: number; factor: number },
): number {
  const { start, end } = chunkOfRank(rank, world, bytes);
  let notFinite = 0;
  for (let from = start; from < end; from += BLOCK_BYTES) {
    const to = Math.min(end, from + BLOCK_BYTES);
    if (!isLow) {
      notFinite |= 1 - sumOfRows(first, rows, stride, count, from, to, result, factor);
      continue;
    }
    sumOfLowRows(rows, stride, count, from, to, result, factor);
    notFinite |= 1 - areFinite(result + 2 * from, result + 2 * to);
  }
  return notFinite;
}

/** The bytes of each row that `rank` sums: whole cache lines, the chunks of all ranks together make the row. */
export function chunkOfRank(rank: number, world: number, bytesOfRow: number): { start: number; end: number } {
  const lines = bytesOfRow / ALIGNMENT_BYTES;
  const cut = (index: number) => Math.floor((lines * index) / world) * ALIGNMENT_BYTES;
  return { start: cut(rank), end: cut(rank + 1) };
}
