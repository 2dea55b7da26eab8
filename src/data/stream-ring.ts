/**
 * The ring: shared memory in which decoder threads lay out the images of the next steps, and from which ranks take them.
 *
 *   lane     training or evaluation; a lane has positions 0, 1, 2, … (steps, rounds of an evaluation), each in slot position mod slots
 *   part     what one logical shard, or one rank of an evaluation, needs of a position; TensorFlow reads it where it lies
 *   piece    what one decoder fills at a time: some images of one part
 *
 *   decoders ── claim the next piece ─▶ fill ─▶ publish ─▶ │ slot │ ◀─ wait ── read ── release ── ranks
 *            only up to `slots` positions beyond what all ranks have released
 *
 * Idea: counters that only grow, as in the barrier (collective/barrier.ts): tickets of pieces, pieces filled in a part, positions released by
 * a rank. Two event counts wake who sleeps: one for decoders, one for ranks.
 * Must stay true: a slot is written only after every rank has released what was in it, and read only when all its pieces are there; no
 * wait without a deadline; a failure, and the end, wake everybody. Counters of pieces are modulo 2^32, positions below 2^31.
 */
import { nowSeconds } from '../core/clock.js';
import { DtrainError, deserializeError, ExitCode, type SerializedError } from '../core/errors.js';
import { alignBytes, allocateSharedMemory } from '../core/shared-memory.js';
import { dataError, digits } from './data-error.js';

export const LANES = ['test', 'train'] as const;
/** In the order in which decoders serve them: an evaluation is waited for now, steps are decoded ahead. */
export type Lane = (typeof LANES)[number];

/** What a lane is to hold. */
export interface LanePlan {
  readonly parts: number;
  /** Images of one part, at most. */
  readonly partImages: number;
  /** Of one image, decoded. */
  readonly imageBytes: number;
}

interface LaneSpec extends LanePlan {
  readonly slots: number;
  readonly pieceImages: number;
  /** Pieces of one part. */
  readonly pieces: number;
  /** From one part to the next in memory, a multiple of 64. */
  readonly partStride: number;
  readonly memory: WebAssembly.Memory;
  /** Index of the lane's first control word. */
  readonly firstWord: number;
}

/** Plain data over shared memory. */
export interface RingSpec {
  readonly words: Int32Array<SharedArrayBuffer>;
  /** The first failure, as JSON. */
  readonly failure: Uint8Array<SharedArrayBuffer>;
  /** Ranks that take images. */
  readonly consumers: number;
  readonly lanes: Readonly<Record<Lane, LaneSpec>>;
}

/** Images `first` to `first + count` (exclusive) of a part, for one decoder. */
export interface Piece {
  readonly lane: Lane;
  readonly position: number;
  readonly part: number;
  readonly first: number;
  readonly count: number;
}

/** Words of the ring itself. */
const Word = {
  closed: 0,
  /** 0; 1 while a failure is being written; then its length in bytes. */
  failure: 1,
  /** Event count for decoders: a slot is free, a lane is open, or it is over. */
  wanted: 2,
  /** Event count for ranks: a part is complete, or it is over. */
  produced: 3,
} as const;
const RING_WORDS = 16;
/** Words of a lane: these, then what each consumer has released, then the filled pieces of each part of each slot. */
const LaneWord = { next: 0, end: 1, peak: 2 } as const;
const LANE_WORDS = 3;

const MAX_SLOTS = 8;
const MIN_SLOTS = 2;
/** More slots than two only up to so much. */
const SLOTS_BYTES = 2 ** 30;
const MAX_LANE_BYTES = 2 ** 32;
const PIECE_BYTES = 2 ** 20;
/** What one call decodes of small images (decode-images.ts). */
const MAX_PIECE_IMAGES = 256;
const FAILURE_BYTES = 2 ** 14;
/** Of one sleep; a process that was stopped meanwhile has waited no longer. */
const SLEEP_SECONDS = 1;

/** Throws DTRAIN_DATA_LIMIT where two positions take more than 4 GiB, DTRAIN_OUT_OF_MEMORY where the machine has less. */
export function createRing(consumers: number, plans: Readonly<Record<Lane, LanePlan>>): RingSpec {
  let firstWord = RING_WORDS;
  const laneOf = (plan: LanePlan): LaneSpec => {
    const { parts, partImages, imageBytes } = plan;
    const partStride = alignBytes(partImages * imageBytes);
    const slotBytes = parts * partStride;
    const slots = Math.max(MIN_SLOTS, Math.min(MAX_SLOTS, Math.floor(SLOTS_BYTES / slotBytes)));
    const pieceImages = Math.max(1, Math.min(MAX_PIECE_IMAGES, Math.floor(PIECE_BYTES / imageBytes)));
    const pieces = Math.ceil(partImages / pieceImages);
    const lane = { ...plan, slots, pieceImages, pieces, partStride, memory: memoryOf(slots, slotBytes), firstWord };
    firstWord += LANE_WORDS + consumers + slots * parts;
    return lane;
  };
  const lanes = { test: laneOf(plans.test), train: laneOf(plans.train) };
  return {
    words: new Int32Array(new SharedArrayBuffer(4 * firstWord)),
    failure: new Uint8Array(new SharedArrayBuffer(FAILURE_BYTES)),
    consumers,
    lanes,
  };
}

function memoryOf(slots: number, slotBytes: number): WebAssembly.Memory {
  const bytes = slots * slotBytes;
  const size = `${slots} batches of decoded images take ${digits(bytes)} bytes`;
  if (bytes > MAX_LANE_BYTES) {
    const cure = 'Lower train.globalBatch or data.size.';
    throw dataError('DTRAIN_DATA_LIMIT', `data: ${size}: expected at most ${digits(MAX_LANE_BYTES)} (4 GiB). ${cure}`);
  }
  try {
    return allocateSharedMemory(bytes);
  } catch (cause) {
    const message = `data: ${size}: the machine does not have them. Free memory, or lower train.globalBatch or data.size.`;
    throw new DtrainError('DTRAIN_OUT_OF_MEMORY', ExitCode.outOfMemory, message, { cause });
  }
}

/** One thread's hand on a ring. */
export class StreamRing {
  readonly #spec: RingSpec;
  readonly #words: Int32Array;

  constructor(spec: RingSpec) {
    this.#spec = spec;
    this.#words = spec.words;
  }

  /** Lets decoders go on up to position `end` (exclusive). Any thread; a smaller end than before changes nothing. */
  open(lane: Lane, end: number): void {
    const at = this.#spec.lanes[lane].firstWord + LaneWord.end;
    storeLargest(this.#words, at, end);
    this.#wake(Word.wanted);
  }

  /** The largest number of positions that were in the ring at once, decoded or being decoded. */
  peak(lane: Lane): number {
    return Atomics.load(this.#words, this.#spec.lanes[lane].firstWord + LaneWord.peak);
  }

  get isClosed(): boolean {
    return Atomics.load(this.#words, Word.closed) !== 0;
  }

  /** Ends decoders, and ranks that wait. */
  close(): void {
    Atomics.store(this.#words, Word.closed, 1);
    this.#wake(Word.wanted);
    this.#wake(Word.produced);
  }

  /** The images that it concerns will not come: ranks that wait throw it. The first failure is kept. */
  fail(error: SerializedError): void {
    const { words, failure } = this.#spec;
    if (Atomics.compareExchange(words, Word.failure, 0, 1) !== 0) return;
    const { stack: _stack, ...short } = error;
    const texts = [error, short].map((each) => Buffer.from(JSON.stringify(each)));
    const text = texts.find(({ length }) => length <= failure.length) ?? Buffer.from(JSON.stringify(cut(short)));
    failure.set(text);
    Atomics.store(words, Word.failure, text.length);
    this.#wake(Word.produced);
  }

  // Decoders.

  /** Changes when there may be something to claim: to be read before `claim`, for `sleep`. */
  get wanted(): number {
    return Atomics.load(this.#words, Word.wanted);
  }

  /** Sleeps until `wanted` is no longer `seen`, a second at most. */
  sleep(seen: number): void {
    Atomics.wait(this.#words, Word.wanted, seen, SLEEP_SECONDS * 1000);
  }

  /** The next piece; undefined while nothing is wanted or no slot is free. */
  claim(): Piece | undefined {
    for (const lane of LANES) {
      const piece = this.#claimOf(lane);
      if (piece) return piece;
    }
    return undefined;
  }

  #claimOf(lane: Lane): Piece | undefined {
    const words = this.#words;
    const { firstWord, parts, partImages, pieces, pieceImages, slots } = this.#spec.lanes[lane];
    for (;;) {
      const ticket = Atomics.load(words, firstWord + LaneWord.next);
      const position = Math.floor(ticket / (parts * pieces));
      const released = this.#releasedByAll(lane);
      if (position >= Math.min(Atomics.load(words, firstWord + LaneWord.end), released + slots)) return undefined;
      if (Atomics.compareExchange(words, firstWord + LaneWord.next, ticket, ticket + 1) !== ticket) continue;
      storeLargest(words, firstWord + LaneWord.peak, position + 1 - released);
      const first = (ticket % pieces) * pieceImages;
      const part = Math.floor(ticket / pieces) % parts;
      return { lane, position, part, first, count: Math.min(pieceImages, partImages - first) };
    }
  }

  #releasedByAll(lane: Lane): number {
    const first = this.#spec.lanes[lane].firstWord + LANE_WORDS;
    let least = Number.POSITIVE_INFINITY;
    for (let i = 0; i < this.#spec.consumers; i++) least = Math.min(least, Atomics.load(this.#words, first + i));
    return least;
  }

  /** Where the images of a claimed piece go. */
  pixels({ lane, position, part, first, count }: Piece): Uint8Array<SharedArrayBuffer> {
    const { imageBytes } = this.#spec.lanes[lane];
    return this.#part(lane, position, part).subarray(first * imageBytes, (first + count) * imageBytes);
  }

  /** The piece is filled. */
  publish({ lane, position, part }: Piece): void {
    const filled = Atomics.add(this.#words, this.#filledWord(lane, position, part), 1) + 1;
    if ((filled | 0) === this.#filledWhenComplete(lane, position)) this.#wake(Word.produced);
  }

  // Ranks.

  /** Whether all images of a part are there. */
  isThere(lane: Lane, position: number, part: number): boolean {
    const filled = Atomics.load(this.#words, this.#filledWord(lane, position, part));
    return filled === this.#filledWhenComplete(lane, position);
  }

  /**
   * Blocks until the images of a part are there; the seconds that it waited, 0 where they were.
   * Throws what a decoder failed with; DTRAIN_HANG (exit 11) after `timeoutSeconds`; DTRAIN_RANK_FAILED where the ring was closed.
   */
  wait(lane: Lane, position: number, part: number, timeoutSeconds: number): number {
    if (this.isThere(lane, position, part)) return 0;
    const words = this.#words;
    const start = nowSeconds();
    let waitedSeconds = 0;
    for (let lookedAt = start; ; ) {
      const seen = Atomics.load(words, Word.produced);
      if (this.isThere(lane, position, part)) return nowSeconds() - start;
      this.#throwIfOver();
      const now = nowSeconds();
      waitedSeconds += Math.min(now - lookedAt, SLEEP_SECONDS);
      lookedAt = now;
      const secondsLeft = timeoutSeconds - waitedSeconds;
      if (secondsLeft <= 0) throw tooLate(timeoutSeconds);
      Atomics.wait(words, Word.produced, seen, Math.max(1, Math.min(secondsLeft, SLEEP_SECONDS) * 1000));
    }
  }

  /** The images of a part; `count` of them. At a multiple of 64 bytes. Good until the position is released. */
  images(lane: Lane, position: number, part: number, count: number): Uint8Array<SharedArrayBuffer> {
    return this.#part(lane, position, part).subarray(0, count * this.#spec.lanes[lane].imageBytes);
  }

  /** `consumer` reads nothing more of all positions before `end`. */
  release(lane: Lane, consumer: number, end: number): void {
    Atomics.store(this.#words, this.#spec.lanes[lane].firstWord + LANE_WORDS + consumer, end);
    this.#wake(Word.wanted);
  }

  #part(lane: Lane, position: number, part: number): Uint8Array<SharedArrayBuffer> {
    const { slots, parts, partStride, memory } = this.#spec.lanes[lane];
    const at = ((position % slots) * parts + part) * partStride;
    return new Uint8Array(memory.buffer as SharedArrayBuffer, at, partStride);
  }

  #filledWord(lane: Lane, position: number, part: number): number {
    const { firstWord, slots, parts } = this.#spec.lanes[lane];
    return firstWord + LANE_WORDS + this.#spec.consumers + (position % slots) * parts + part;
  }

  #filledWhenComplete(lane: Lane, position: number): number {
    const { slots, pieces } = this.#spec.lanes[lane];
    return Math.imul(Math.floor(position / slots) + 1, pieces);
  }

  #wake(word: number): void {
    Atomics.add(this.#words, word, 1);
    Atomics.notify(this.#words, word);
  }

  #throwIfOver(): void {
    const length = Atomics.load(this.#words, Word.failure);
    if (length > 1) {
      const text = Buffer.from(this.#spec.failure.subarray(0, length)).toString(); // a copy, out of shared memory
      throw deserializeError(JSON.parse(text) as SerializedError);
    }
    if (!this.isClosed) return;
    throw new DtrainError('DTRAIN_RANK_FAILED', ExitCode.workerFailed, 'data: the run has ended.');
  }
}

function storeLargest(words: Int32Array, at: number, value: number): void {
  for (let before = Atomics.load(words, at); before < value; ) {
    const now = Atomics.compareExchange(words, at, before, value);
    if (now === before) return;
    before = now;
  }
}

const CUT_CHARACTERS = 1000;

function cut(error: Omit<SerializedError, 'stack'>): Omit<SerializedError, 'stack'> {
  return { ...error, message: `${error.message.slice(0, CUT_CHARACTERS)}…` };
}

function tooLate(timeoutSeconds: number): DtrainError {
  const text =
    `data: no images for ${timeoutSeconds} s: the threads that decode them are behind or hang. ` +
    'Check the disk of the data set; if a batch takes this long here, raise allReduce.timeoutSeconds.';
  return new DtrainError('DTRAIN_HANG', ExitCode.hang, text);
}
