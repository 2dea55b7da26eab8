/**
 * The stream of decoded images, seen by the main thread: makes the ring, starts the decoder threads, ends them.
 *
 * Idea: the threads know from the step alone which images it needs (stream-order.ts), so they run ahead of the ranks by themselves, as far as
 * the ring has room; nobody sends them work.
 * Must stay true: no thread outlives `close` by more than what it decodes at that moment; a thread that dies is told to the ranks.
 */
import os from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { DtrainError, ExitCode, serializeError } from '../core/errors.js';
import type { StreamedSplit } from './data-set.js';
import { type TestOrder, type TrainOrder, trainPartImages } from './stream-order.js';
import { createRing, type Lane, type RingSpec, StreamRing } from './stream-ring.js';

/** All that decoders and ranks need: plain data over shared memory. */
export interface StreamSpec {
  readonly ring: RingSpec;
  readonly train: StreamedSplit;
  readonly test: StreamedSplit;
  readonly trainOrder: TrainOrder;
  readonly testOrder: TestOrder;
}

export interface StreamOptions extends Omit<StreamSpec, 'ring'> {
  /** Ranks of this host. */
  readonly ranks: number;
  /** Logical shards of this host. */
  readonly shards: number;
  /** Threads; left out: as the machine's cores have it. */
  readonly threads?: number;
}

const MAX_THREADS = 8;
/** A thread reads files and hands them to the decoder's own pool: one is enough for so many cores. */
const CORES_PER_THREAD = 4;
const CLOSE_SECONDS = 2;

export class ImageStream {
  readonly spec: StreamSpec;
  readonly #ring: StreamRing;
  readonly #threads: readonly Worker[];
  readonly #ends: readonly Promise<void>[];

  /** Starts the threads, which wait until a lane is opened. Throws DTRAIN_DATA_LIMIT, DTRAIN_OUT_OF_MEMORY. */
  constructor({ ranks, shards, threads = defaultThreads(), ...spec }: StreamOptions) {
    const { train, trainOrder, testOrder } = spec;
    const imageBytes = train.height * train.width * 3;
    const ring = createRing(ranks, {
      train: { parts: shards, partImages: trainPartImages(trainOrder), imageBytes },
      test: { parts: ranks, partImages: testOrder.batch, imageBytes },
    });
    this.spec = { ...spec, ring };
    this.#ring = new StreamRing(ring);
    this.#threads = Array.from({ length: threads }, () => this.#start());
    this.#ends = this.#threads.map((thread) => new Promise((resolve) => thread.once('exit', () => resolve())));
  }

  get numThreads(): number {
    return this.#threads.length;
  }

  /** Steps that are decoded ahead, at most. */
  get stepsAhead(): number {
    return this.spec.ring.lanes.train.slots;
  }

  /** Lets the decoders begin with the training images. */
  openTraining(): void {
    this.#ring.open('train', 2 ** 31 - 1);
  }

  /** See StreamRing.peak. */
  peak(lane: Lane): number {
    return this.#ring.peak(lane);
  }

  /** Ends the threads; one that hangs in a read is left to the end of the process. */
  async close(): Promise<void> {
    for (const thread of this.#threads) thread.ref(); // this process waits for them
    this.#ring.close();
    await Promise.race([Promise.all(this.#ends), delay(CLOSE_SECONDS * 1000, undefined, { ref: false })]);
    for (const thread of this.#threads) thread.unref();
  }

  #start(): Worker {
    const thread = new Worker(new URL('./decoder-thread.js', import.meta.url), { workerData: this.spec });
    thread.unref();
    thread.on('error', (error: Error & { code?: string }) => this.#ring.fail(serializeError(deathOf(error), {})));
    thread.on('exit', () => {
      if (!this.#ring.isClosed) this.#ring.fail(serializeError(deathOf(new Error('it left')), {}));
    });
    return thread;
  }
}

function defaultThreads(): number {
  return Math.max(1, Math.min(MAX_THREADS, Math.floor(os.availableParallelism() / CORES_PER_THREAD)));
}

function deathOf(error: Error & { code?: string }): DtrainError {
  const isMemory = error.code === 'ERR_WORKER_OUT_OF_MEMORY';
  const text = `data: a thread that decodes images ended: ${error.message}.`;
  return isMemory
    ? new DtrainError('DTRAIN_OUT_OF_MEMORY', ExitCode.outOfMemory, text)
    : new DtrainError('DTRAIN_WORKER_DIED', ExitCode.workerFailed, text);
}
