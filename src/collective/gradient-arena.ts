/**
 * The gradient arena: the shared memory in which the ranks of a process meet. It holds control words, one row of gradients for each
 * logical shard, and one more for the first shard.
 *
 *   ┌ control words ┬ row 0 ┬ row 1 ┬ … ┬ row S−1 ┬ row 0' ┬ (host row 0 ┬ …) ┐
 *   one cache line (16 words) for each writer        every row begins at a multiple of 64 bytes
 *
 * The first `lowLength` elements of a shard's row may be bfloat16, half as many bytes to write and to read; the rest of it, and every other row,
 * is float32:   row s = ┌ lowLength × bfloat16 ┬ (rowLength − lowLength) × float32 ┐
 *
 * The mean of all rows takes the place of the first one, which a write then need not load first. All ranks still read it there while the next
 * gradients come to be, so these have the other of the two rows, 0 and 0' in turn. Rows of bfloat16 are too short for it: then 0' is the result row.
 *
 * Host rows are there only where several hosts train together: what the first rank received from the others.
 * Who writes: row s, only the rank that owns shard s, and only between two all-reduces; chunk r of the result, rank r, and only between the
 * two barriers of an all-reduce. TensorFlow reads rows and result in place, so nobody may write them at any other time.
 * Must stay true: a line of control words is written by one side only (or by Atomics.add), so that ranks do not fight for cache lines.
 */
import { DtrainError, ExitCode, internalError } from '../core/errors.js';
import { ALIGNMENT_BYTES, alignBytes, allocateSharedMemory } from '../core/shared-memory.js';

/** Describes an arena; plain data over shared memory: send it to the worker threads as it is. */
export interface ArenaSpec {
  readonly memory: WebAssembly.Memory;
  /** Number of ranks. */
  readonly world: number;
  /** Number of logical shards, that is of rows. */
  readonly shards: number;
  /** Elements of a row. */
  readonly rowLength: number;
  /** How many of them, from the first on, are bfloat16 in the rows of the shards: a multiple of 32. Absent: none. */
  readonly lowLength?: number;
  /** Where this host is one of several; absent on one host. */
  readonly hosts?: ArenaHosts;
}

/** This host's part of the logical shards of all hosts. */
export interface ArenaHosts {
  /** The logical shard of row 0. */
  readonly firstShard: number;
  /** Logical shards of all hosts together. */
  readonly allShards: number;
  /** Rows that come from the exchange between hosts: 1 where they are summed on the way, else one a host. */
  readonly hostRows: number;
}

/** Elements of bfloat16 in a cache line: a row may have a multiple of these. */
export const LOW_PER_LINE = ALIGNMENT_BYTES / Uint16Array.BYTES_PER_ELEMENT;

/** WebAssembly addresses have 32 bits. */
const MAX_ARENA_BYTES = 2 ** 32;
const LINE_WORDS = ALIGNMENT_BYTES / Int32Array.BYTES_PER_ELEMENT;

/** Indices of the control words that all ranks share. Lines: 0 arrivals; 1 what the waiting read; 2 what the main thread writes. */
export const SharedWord = {
  /** Arrivals at the barrier since the beginning, modulo 2^32. */
  arrivals: 0,
  /** Grows by one whenever something happened that the waiting should look at: an event count, the only word that anybody waits on. */
  signal: LINE_WORDS,
  /** The last round of the barrier that all ranks have reached. */
  round: LINE_WORDS + 1,
  /** 0, or 1 + the rank that failed. Never changes again once it is set. */
  poison: LINE_WORDS + 2,
  /** `stopRequest` as the last to arrive at the barrier saw it: the same for all ranks until the next round. */
  stop: LINE_WORDS + 3,
  /** 1 once the main thread has asked the ranks to stop. */
  stopRequest: 2 * LINE_WORDS,
} as const;

/** Words of one rank, written by that rank alone; relative to `rankWords(rank)`. */
export const RankWord = {
  /** The last round of the barrier at which the rank arrived. */
  round: 0,
  step: 1,
  /** Index into RANK_PHASES. */
  phase: 2,
  /** When the rank entered this phase: milliseconds of the process clock, modulo 2^32. */
  since: 3,
  /** 1 where the rank's chunk of the last result has a value that is not finite. */
  notFinite: 4,
  /** All-reduces that the rank has done, modulo 2^32. */
  reductions: 5,
} as const;

/** Index of the first control word of `rank`. */
export function rankWords(rank: number): number {
  return (3 + rank) * LINE_WORDS;
}

/** Allocates a zeroed arena. Throws DTRAIN_ARENA_TOO_LARGE above 4 GiB, DTRAIN_OUT_OF_MEMORY where the machine has not enough. */
export function createArena(options: Omit<ArenaSpec, 'memory'>): ArenaSpec {
  const { world, shards, rowLength, lowLength = 0, hosts } = options;
  if (!(world >= 1 && shards >= world && rowLength >= 0)) {
    throw internalError(`arena of ${world} ranks, ${shards} shards, ${rowLength} floats.`);
  }
  if (lowLength % LOW_PER_LINE !== 0 || lowLength > rowLength) {
    throw internalError(`rows of ${rowLength} elements, ${lowLength} of them in bfloat16.`);
  }
  const bytes = rowOffset(options, shards + 1 + (hosts?.hostRows ?? 0));
  const sizes = `${shards} shards of ${mebibytes(shardBytes(options))} MiB need ${mebibytes(bytes)} MiB of shared memory`;
  if (bytes > MAX_ARENA_BYTES) {
    const message = `all-reduce: ${sizes}, expected at most 4096 MiB. Lower train.logicalShards.`;
    throw new DtrainError('DTRAIN_ARENA_TOO_LARGE', ExitCode.configuration, message);
  }
  try {
    return { ...options, memory: allocateSharedMemory(bytes) };
  } catch (cause) {
    const message = `all-reduce: ${sizes}, the machine did not give it. Lower train.logicalShards or take a smaller model.`;
    throw new DtrainError('DTRAIN_OUT_OF_MEMORY', ExitCode.outOfMemory, message, { cause });
  }
}

/** All control words of the arena. */
export function controlWords({ memory, world }: ArenaSpec): Int32Array {
  return new Int32Array(memory.buffer, 0, rankWords(world));
}

/** Byte offset of row `index` in the arena's memory, a multiple of 64; index `shards` is row 0', the host rows follow. */
export function rowOffset(spec: Omit<ArenaSpec, 'memory'>, index: number): number {
  const numShards = Math.min(index, spec.shards);
  const rows = numShards * shardStride(spec) + (index - numShards) * rowStride(spec);
  return rankWords(spec.world) * Int32Array.BYTES_PER_ELEMENT + rows;
}

type RowSizes = Pick<ArenaSpec, 'rowLength' | 'lowLength'>;

/** Bytes of a float32 row, up to a multiple of 64; what is beyond its elements stays zero. */
export function rowBytes({ rowLength }: Pick<RowSizes, 'rowLength'>): number {
  return alignBytes(rowLength * Float32Array.BYTES_PER_ELEMENT);
}

/** Bytes of a shard's row, likewise. */
export function shardBytes({ rowLength, lowLength = 0 }: RowSizes): number {
  return lowLength * Uint16Array.BYTES_PER_ELEMENT + rowBytes({ rowLength: rowLength - lowLength });
}

/** Bytes from one float32 row to the next, a multiple of 64. */
export function rowStride({ rowLength }: Pick<RowSizes, 'rowLength'>): number {
  return strideOf(rowBytes({ rowLength }));
}

/** Bytes from one shard's row to the next, a multiple of 64. */
export function shardStride(sizes: RowSizes): number {
  return strideOf(shardBytes(sizes));
}

/**
 * An odd number of pages and nine cache lines over: with a power of two the same element of all rows would fall into the same few sets of each
 * cache, which costs a fifth of the speed with eight rows.
 */
function strideOf(bytes: number): number {
  return Math.max(0, Math.ceil((bytes - STRIDE_REMAINDER) / STRIDE_UNIT)) * STRIDE_UNIT + STRIDE_REMAINDER;
}

const STRIDE_UNIT = 2 * 4096;
const STRIDE_REMAINDER = 4096 + 9 * ALIGNMENT_BYTES;

/** The index of the row that takes the result of all-reduce number `round`, counted from 0: row 0 or 0' in turn, of rows in bfloat16 always 0'. */
export function resultRow({ shards, lowLength = 0 }: Pick<ArenaSpec, 'shards' | 'lowLength'>, round: number): number {
  return lowLength === 0 && (round & 1) === 0 ? 0 : shards;
}

/** A view of the result of the last all-reduce, for whoever is no rank; zeros before the first. */
export function lastResult(spec: ArenaSpec): Float32Array {
  const reductions = Atomics.load(controlWords(spec), rankWords(0) + RankWord.reductions);
  return rowView(spec, resultRow(spec, reductions - 1));
}

/** A view of the float32 elements of row `index`; index `shards` is row 0', the host rows follow. */
export function rowView(spec: ArenaSpec, index: number): Float32Array {
  const low = index < spec.shards ? (spec.lowLength ?? 0) : 0;
  const offset = rowOffset(spec, index) + low * Uint16Array.BYTES_PER_ELEMENT;
  return new Float32Array(spec.memory.buffer, offset, spec.rowLength - low);
}

/** A view of the bfloat16 elements of a shard's row, as their bits. */
export function lowRowView(spec: ArenaSpec, shard: number): Uint16Array {
  return new Uint16Array(spec.memory.buffer, rowOffset(spec, shard), spec.lowLength ?? 0);
}

function mebibytes(bytes: number): string {
  return `${Math.ceil(bytes / 2 ** 20)}`;
}
