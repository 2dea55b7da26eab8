/**
 * Where the images of a rank's steps and evaluations are: the whole data set on the device, or the part that was decoded ahead for this
 * very step.
 *
 * Idea: to the recorded functions both are a data set and indices into it; a streamed step's set is the shard's own images, in order.
 * Must stay true: both give the same images to the same samples, so that training is the same bit for bit.
 */
import { internalError } from '../core/errors.js';
import { Scope } from '../core/scope.js';
import type { StreamSpec } from '../data/image-stream.js';
import { StreamRing } from '../data/stream-ring.js';
import type { Runtime } from '../tensorflow/runtime.js';
import { type TensorHandle, tensorFrom, tensorOver } from '../tensorflow/tensor-handle.js';

/** One split of the data set in shared memory. */
export interface SplitMemory {
  readonly imagesNHWC: Uint8Array;
  readonly labels: Int32Array;
  readonly count: number;
  readonly height: number;
  readonly width: number;
}

/** Images, labels, and where the samples that were asked for are among them. */
export interface FoundImages {
  readonly split: readonly TensorHandle[];
  readonly indices: Int32Array;
  /** Of the samples that they are mixed with. */
  readonly partners: Int32Array;
}

export interface StepImages extends Disposable {
  /** The samples `ids` of one shard, and their partners in mixtures. May block until they are there. What is made for the step, `feeds` owns. */
  ofStep(step: number, shard: number, ids: Int32Array, partners: Int32Array, feeds: Scope): FoundImages;
  /** Nothing of this step is read any more. */
  releaseStep(step: number): void;
  /** The test images `first` to `first + count` as a batch of `batch`, the last one again where there are no more. */
  ofEvaluation(first: number, count: number, batch: number, feeds: Scope): FoundImages;
  /** Around the batches of one evaluation. */
  beginEvaluation(): void;
  releaseBatch(): void;
  endEvaluation(): void;
  /** Seconds that each step since the last call waited for its images; empty where none ever waits. */
  takeWaits(): Float64Array;
}

const NO_WAITS = new Float64Array(0);
const NONE = new Int32Array(0);

/** The data set on the device. */
export class ResidentImages implements StepImages {
  readonly #owned = new Scope();
  readonly #train: readonly TensorHandle[];
  readonly #test: readonly TensorHandle[];

  /** Borrows the splits' memory. */
  constructor(runtime: Runtime, device: string, { train, test }: { train: SplitMemory; test: SplitMemory }) {
    const put = ({ imagesNHWC, labels, count, height, width }: SplitMemory) => [
      this.#owned.use(tensorOver(runtime, device, imagesNHWC, [count, height, width, 3])),
      this.#owned.use(tensorFrom(runtime, device, labels, [count])),
    ];
    this.#train = put(train);
    this.#test = put(test);
  }

  ofStep(_step: number, _shard: number, indices: Int32Array, partners: Int32Array): FoundImages {
    return { split: this.#train, indices, partners };
  }

  releaseStep(): void {}

  ofEvaluation(first: number, count: number, batch: number): FoundImages {
    return { split: this.#test, indices: consecutive(first, count, batch), partners: NONE };
  }

  beginEvaluation(): void {}
  releaseBatch(): void {}
  endEvaluation(): void {}

  takeWaits(): Float64Array {
    return NO_WAITS;
  }

  [Symbol.dispose](): void {
    this.#owned[Symbol.dispose]();
  }
}

export interface StreamPlace {
  /** Among the ranks of this host. */
  readonly rank: number;
  readonly device: string;
  /** How long it waits for images. */
  timeoutSeconds(): number;
}

/** Images out of the ring. Steps and rounds of an evaluation come one after the other. */
export class StreamedImages implements StepImages {
  readonly #runtime: Runtime;
  readonly #spec: StreamSpec;
  readonly #place: StreamPlace;
  readonly #ring: StreamRing;
  #waitedSeconds = 0;
  #waits: number[] = [];
  /** Evaluations that were begun, and batches that were released in this one. */
  #evaluations = 0;
  #batches = 0;

  constructor(runtime: Runtime, spec: StreamSpec, place: StreamPlace) {
    this.#runtime = runtime;
    this.#spec = spec;
    this.#place = place;
    this.#ring = new StreamRing(spec.ring);
  }

  ofStep(step: number, shard: number, ids: Int32Array, partners: Int32Array, feeds: Scope): FoundImages {
    const { train, trainOrder } = this.#spec;
    const position = step - 1 - trainOrder.firstStep;
    const part = shard - trainOrder.firstShard;
    this.#waitedSeconds += this.#ring.wait('train', position, part, this.#place.timeoutSeconds());
    const numImages = ids.length + partners.length;
    const pixels = this.#ring.images('train', position, part, numImages);
    const labels = new Int32Array(numImages);
    for (const [i, id] of ids.entries()) labels[i] = train.labels[id]!;
    for (const [i, id] of partners.entries()) labels[ids.length + i] = train.labels[id]!;
    return {
      split: this.#put(pixels, labels, feeds),
      indices: consecutive(0, ids.length, ids.length),
      partners: consecutive(ids.length, partners.length, partners.length),
    };
  }

  releaseStep(step: number): void {
    const { rank } = this.#place;
    this.#ring.release('train', rank, step - this.#spec.trainOrder.firstStep);
    this.#waits.push(this.#waitedSeconds);
    this.#waitedSeconds = 0;
  }

  ofEvaluation(first: number, count: number, batch: number, feeds: Scope): FoundImages {
    const { test, testOrder } = this.#spec;
    const { rank, timeoutSeconds } = this.#place;
    const expected = (testOrder.firstBatch + this.#batches * testOrder.stride + rank) * testOrder.batch;
    if (first !== expected)
      throw internalError(`rank ${rank} evaluates images from ${first}, streamed are those from ${expected}.`);
    this.#ring.wait('test', this.#testPosition, rank, timeoutSeconds());
    const pixels = this.#ring.images('test', this.#testPosition, rank, batch);
    const labels = new Int32Array(batch);
    for (let i = 0; i < count; i++) labels[i] = test.labels[first + i]!;
    return { split: this.#put(pixels, labels, feeds), indices: consecutive(0, count, batch), partners: NONE };
  }

  beginEvaluation(): void {
    this.#evaluations++;
    this.#ring.open('test', this.#evaluations * this.#spec.testOrder.rounds);
  }

  releaseBatch(): void {
    this.#batches++;
    this.#ring.release('test', this.#place.rank, this.#testPosition);
  }

  /** Also of rounds that this rank had no part in, or was stopped before. */
  endEvaluation(): void {
    this.#batches = 0;
    this.#ring.release('test', this.#place.rank, this.#evaluations * this.#spec.testOrder.rounds);
  }

  takeWaits(): Float64Array {
    const waits = Float64Array.from(this.#waits);
    this.#waits = [];
    return waits;
  }

  [Symbol.dispose](): void {}

  get #testPosition(): number {
    return (this.#evaluations - 1) * this.#spec.testOrder.rounds + this.#batches;
  }

  /** On a CPU device the ring's own memory, on others a copy. */
  #put(pixels: Uint8Array, labels: Int32Array, feeds: Scope): TensorHandle[] {
    const { height, width } = this.#spec.train;
    const { device } = this.#place;
    return [
      feeds.use(tensorOver(this.#runtime, device, pixels, [labels.length, height, width, 3])),
      feeds.use(tensorFrom(this.#runtime, device, labels, [labels.length])),
    ];
  }
}

/** `first`, `first + 1`, …, after `count` of them the last one again, `length` in all. */
function consecutive(first: number, count: number, length: number): Int32Array {
  return Int32Array.from({ length }, (_, i) => first + Math.min(i, count - 1));
}
