/**
 * One rank's replica: its weights, momenta and running statistics on its device, and the step that moves them.
 *
 * Idea: the step is five phases, in this order, in every rank: feed, compute, reduce, update, report. Ranks meet in `reduce` alone;
 * after it all of them hold the same mean row and make the same update, so their weights stay equal bit for bit.
 * Owns its variables and the tensors over the shared data set. One thread.
 */
import { createHash } from 'node:crypto';
import type { RankGroup } from '../collective/rank-group.js';
import { DtrainError, ExitCode, placeText } from '../core/errors.js';
import type { Phase } from '../core/events.js';
import { drawWords, Purpose } from '../core/philox.js';
import { Scope } from '../core/scope.js';
import { sizeOf } from '../core/shape.js';
import {
  type AugmentationDraws,
  type AugmentationOptions,
  drawAugmentation,
  drawMixture,
  makeDraws,
} from '../data/augmentation.js';
import type { StreamSpec } from '../data/image-stream.js';
import { ratesOf } from '../optim/optimizer-options.js';
import { attr } from '../tensorflow/attribute.js';
import { type Execution, execute } from '../tensorflow/execute.js';
import { deviceNamed, type Runtime } from '../tensorflow/runtime.js';
import { type TensorHandle, tensorFrom } from '../tensorflow/tensor-handle.js';
import { Variable } from '../tensorflow/variable.js';
import { DeviceRows } from './device-rows.js';
import type { GradientMeeting, MeanReport } from './gradient-meeting.js';
import type { HostReduce } from './host-reduce.js';
import { PhaseClock } from './phase-clock.js';
import { type StateViews, stateViews } from './replica-state.js';
import { SharedRows } from './shared-rows.js';
import { ResidentImages, type SplitMemory, type StepImages, StreamedImages } from './step-images.js';
import type { StepProgram } from './step-program.js';

export interface ReplicaOptions {
  readonly device: string;
  readonly program: StepProgram;
  /** The state to begin with, in shared memory (replica-state.ts); it is only read. */
  readonly state: Float32Array;
  /** The data set in shared memory, or how it is streamed. */
  readonly images: { readonly train: SplitMemory; readonly test: SplitMemory } | StreamSpec;
  /** This rank's logical shards: from `first` up to and without `end`. */
  readonly shards: { readonly first: number; readonly end: number };
  readonly augmentation: AugmentationOptions;
  /** Where this host is one of several: the exchange with the others, on the first rank; null on the other ranks. Absent on one host. */
  readonly hosts?: HostReduce | null;
  /** Called before each phase: where tests make a rank fail. */
  readonly onPhase?: (phase: Phase, step: number) => void;
}

/** The samples of one step over all ranks, in shard order, and the rate. */
export interface StepBatch {
  /** Counts from 1. */
  readonly step: number;
  readonly ids: Int32Array;
  /** The epoch that each sample belongs to. */
  readonly epochs: Int32Array;
  readonly learningRate: number;
}

export interface StepReport {
  /** Means over the global batch. */
  readonly loss: number;
  readonly correct: number;
  readonly stopRequested: boolean;
}

/** Of each image. */
export interface EvaluatedBatch {
  /** In nats. */
  readonly lossN: Float32Array;
  readonly predictedN: Int32Array;
  /** Probability of the predicted class. */
  readonly confidenceN: Float32Array;
  /** Classes that are more probable than the label: 0 where the prediction is right. */
  readonly aboveN: Float32Array;
}

/** Handles of one shard's feeds: images, labels, dropoutKey, the samples' indices and draws, with mixtures those of the partners and the shares. */
type Feed = readonly TensorHandle[];

const XLA = [attr.bool('_XlaMustCompile', true)];

export class Replica {
  /** Seconds of each phase of each step since `clock.take()`. */
  readonly clock = new PhaseClock();
  readonly #owned = new Scope();
  readonly #runtime: Runtime;
  readonly #group: RankGroup;
  readonly #options: ReplicaOptions;
  readonly #parameters: readonly Variable[];
  readonly #slots: readonly (readonly Variable[])[];
  readonly #statistics: Variable;
  /** Averaged weights and statistics; empty without train.ema. */
  readonly #averages: readonly Variable[];
  readonly #images: StepImages;
  readonly #meeting: GradientMeeting;
  readonly #draws: AugmentationDraws;

  constructor(runtime: Runtime, group: RankGroup, options: ReplicaOptions) {
    this.#runtime = runtime;
    this.#group = group;
    this.#options = options;
    const { device, program, images } = options;
    const { layout } = program;
    const views = stateViews(options.state, layout);
    const variable = (values: Float32Array, i: number) => this.#variable(values, layout.parameterShapes[i]!);
    this.#parameters = views.parameters.map(variable);
    this.#slots = views.slots.map((slot) => slot.map(variable));
    this.#statistics = this.#variable(views.statistics, [2, layout.numChannels]);
    this.#averages = views.averages
      ? [...views.averages.parameters.map(variable), this.#variable(views.averages.statistics, [2, layout.numChannels])]
      : [];
    const place = { rank: group.rank, device, timeoutSeconds: () => group.timeoutSeconds };
    this.#images = this.#owned.use(
      'ring' in images ? new StreamedImages(runtime, images, place) : new ResidentImages(runtime, device, images),
    );
    this.#meeting = this.#owned.use(this.#newMeeting());
    const n = program.shardBatch;
    this.#draws = makeDraws(n);
  }

  /** One synchronous step. Blocks in `reduce` until every rank is there. */
  step(batch: StepBatch): StepReport {
    using feeds = new Scope();
    const feed = this.#phase('feed', batch, () => this.#feed(batch, feeds));
    this.#phase('compute', batch, () => this.#compute(batch, feed));
    const mean = this.#phase('reduce', batch, () => this.#reduce(batch));
    this.#phase('update', batch, () => this.#update(batch));
    return this.#phase('report', batch, () => this.#report(mean));
  }

  /** What comes before `compute`, alone: for `bench data`. */
  feedAlone(batch: StepBatch): void {
    using feeds = new Scope();
    this.#phase('feed', batch, () => this.#feed(batch, feeds));
    this.#images.releaseStep(batch.step);
  }

  /** Images, indices and random draws of each of this rank's shards, on its device. Owned by `feeds`. */
  #feed({ step, ids, epochs }: StepBatch, feeds: Scope): Feed[] {
    const { shards, program, augmentation, device } = this.#options;
    const n = program.shardBatch;
    return range(shards.first, shards.end).map((shard) => {
      const own = ids.subarray(shard * n, (shard + 1) * n);
      const ownEpochs = epochs.subarray(shard * n, (shard + 1) * n);
      const key = feeds.use(tensorFrom(this.#runtime, device, dropoutKey(augmentation.seed, step, shard), [2]));
      const { mixture } = program.feed;
      const { partners, shares } = mixture ? drawMixture(augmentation, own, ownEpochs) : NO_MIXTURE;
      const found = this.#images.ofStep(step, shard, own, partners, feeds);
      const samples = this.#samples(own, ownEpochs, found.indices, feeds);
      if (!mixture) return [...found.split, key, ...samples];
      const others = this.#samples(partners, ownEpochs, found.partners, feeds);
      const share = feeds.use(tensorFrom(this.#runtime, device, shares, [n]));
      return [...found.split, key, ...samples, ...others, share];
    });
  }

  /** Indices and random draws of samples; `indices`: where they are in the images. */
  #samples(ids: Int32Array, epochs: Int32Array, indices: Int32Array, feeds: Scope): TensorHandle[] {
    const { program, augmentation, device } = this.#options;
    const n = ids.length;
    drawAugmentation(augmentation, ids, epochs, this.#draws);
    const { cropYX, flip, cutoutYX, colour } = this.#draws;
    const put = (values: Int32Array | Float32Array, shape: readonly number[]) =>
      feeds.use(tensorFrom(this.#runtime, device, values, shape));
    const usual = [put(indices, [n]), put(cropYX, [n, 2]), put(flip, [n]), put(cutoutYX, [n, 2])];
    return program.feed.colour ? [...usual, put(colour!, [n, 2])] : usual;
  }

  /** Loss and gradients of each shard, as the shard's row. */
  #compute({ step }: StepBatch, feeds: readonly Feed[]): void {
    const { program, shards } = this.#options;
    for (const [i, feed] of feeds.entries()) {
      const inputs = [...handles(this.#parameters), ...feed];
      const attributes = program.xla ? XLA : [];
      const numOutputs = program.layout.lowLength > 0 ? 2 : 1;
      this.#meeting.bring(shards.first + i, this.#run({ name: program.compute, inputs, attributes, numOutputs }));
    }
    this.#images.releaseStep(step);
  }

  /** The mean row over all shards of all ranks of all hosts. Where a value of it is not finite, all of them stop before their weights change. */
  #reduce({ step }: StepBatch): MeanReport {
    const mean = this.#meeting.meet();
    if (mean.isFinite) return mean;
    this.#meeting.keepMean();
    throw diverged(step, mean.loss);
  }

  /** The optimizer's step from the mean row, in place. */
  #update({ step, learningRate }: StepBatch): void {
    const { program, device } = this.#options;
    const { optimizer, ema } = program;
    const values = Float32Array.from(ratesOf(learningRate, step, optimizer));
    using rates = tensorFrom(this.#runtime, device, values, [values.length]);
    // The first average is the weights themselves, as in PyTorch's AveragedModel.
    using averageRate = tensorFrom(this.#runtime, device, Float32Array.of(step === 1 ? 1 : 1 - ema), []);
    const inputs = [...handles(this.#variables), this.#meeting.meanRow, rates, averageRate];
    this.#run({ name: program.update, inputs, numOutputs: 0 });
  }

  /** Loss and accuracy of the global batch: the same in every rank. */
  #report({ loss, correct }: MeanReport): StepReport {
    return { loss, correct, stopRequested: this.#meeting.stopRequested };
  }

  /** Ends a run of steps: the device has done all of them (a GPU may still be updating), and the last mean row is in the arena, where the main thread reads it. */
  settle(): void {
    this.#meeting.keepMean();
    const { numChannels } = this.#options.program.layout;
    const isOnGpu = deviceNamed(this.#runtime, this.#options.device).kind === 'gpu';
    if (isOnGpu) this.#statistics.readInto(new Float32Array(2 * numChannels)); // a read waits for all that was queued before it
  }

  /** Tells the other ranks that this one has failed. */
  abandon(reason: string): void {
    this.#meeting.abandon(reason);
  }

  /** For faults on purpose: the rows of this rank become `value`, or one element of the first does. */
  spoilRows(value: number, index?: number): void {
    const { first, end } = this.#options.shards;
    for (const shard of range(first, index === undefined ? end : first + 1)) this.#meeting.spoil(shard, value, index);
  }

  /** Before the batches of an evaluation, and after them or where it was cut short. */
  beginEvaluation(): void {
    this.#images.beginEvaluation();
  }

  endEvaluation(): void {
    this.#images.endEvaluation();
  }

  /** Seconds that each step since the last call waited for its images, a part of `feed`; empty where they are all in memory. */
  takeWaits(): Float64Array {
    return this.#images.takeWaits();
  }

  /** What became of the test images `first` to `first + count`, at most a whole evaluation batch. */
  evaluate(first: number, count: number): EvaluatedBatch {
    const { program, device } = this.#options;
    const n = program.evaluationBatch;
    using feeds = new Scope();
    const found = this.#images.ofEvaluation(first, count, n, feeds);
    const indices = feeds.use(tensorFrom(this.#runtime, device, found.indices, [n]));
    const weights = this.#averages.length > 0 ? this.#averages : [...this.#parameters, this.#statistics];
    const inputs = [...handles(weights), ...found.split, indices];
    const outputs = this.#run({ name: program.evaluate, inputs, numOutputs: 4 });
    const [lossOutput, predictedOutput, confidenceOutput, aboveOutput] = outputs;
    using loss = lossOutput!;
    using predicted = predictedOutput!;
    using confidence = confidenceOutput!;
    using above = aboveOutput!;
    const floats = (handle: TensorHandle) => handle.readInto(new Float32Array(n)).subarray(0, count);
    const classesN = readClasses(predicted, n); // waits for the device
    this.#images.releaseBatch();
    return {
      lossN: floats(loss),
      predictedN: classesN.subarray(0, count),
      confidenceN: floats(confidence),
      aboveN: floats(above),
    };
  }

  /** Writes parameters, optimizer's slots, running statistics and averages into `state` (replica-state.ts). */
  exportState(state: Float32Array): void {
    const views: StateViews = stateViews(state, this.#options.program.layout);
    const { averages } = views;
    const targets = [...views.parameters, ...views.slots.flat(), views.statistics];
    if (averages) targets.push(...averages.parameters, averages.statistics);
    for (const [i, variable] of this.#variables.entries()) variable.readInto(targets[i]!);
  }

  /** SHA-256 of the whole state, hexadecimal: equal on all ranks. */
  stateHash(): string {
    const hash = createHash('sha256');
    for (const variable of this.#variables) {
      using value = variable.value();
      hash.update(value.read());
    }
    return hash.digest('hex');
  }

  /** What a cosmic ray would do to a weight: for the test that replicas which differ are found. */
  flipOneBit(): void {
    const variable = this.#parameters[0]!;
    const values = variable.readInto(new Float32Array(sizeOf(variable.shape)));
    const bits = new Uint32Array(values.buffer);
    bits[0]! ^= 1 << 22; // the highest of the fraction: the lowest may be rounded away by the next update
    variable.assign(values);
  }

  [Symbol.dispose](): void {
    this.#owned[Symbol.dispose]();
  }

  /** Runs one phase: noted for the watchdog, timed, and named in what it throws. */
  #phase<T>(phase: Phase, { step }: StepBatch, run: () => T): T {
    this.#group.enter(step, phase);
    try {
      return this.clock.time(() => {
        this.#options.onPhase?.(phase, step);
        return run();
      });
    } catch (error) {
      throw placed(error, { rank: this.#group.rank, step, phase });
    }
  }

  /** All that a step changes, in the order of `update`'s inputs. */
  get #variables(): readonly Variable[] {
    return [...this.#parameters, ...this.#slots.flat(), this.#statistics, ...this.#averages];
  }

  #run(execution: Omit<Execution, 'device'>): TensorHandle[] {
    return execute(this.#runtime, { ...execution, device: this.#options.device });
  }

  #variable(values: Float32Array, shape: readonly number[]): Variable {
    return this.#owned.use(new Variable(this.#runtime, this.#options.device, values, shape));
  }

  #newMeeting(): GradientMeeting {
    const { device, program, shards, hosts } = this.#options;
    const { layout, reduce } = program;
    if (!reduce) return new SharedRows(this.#runtime, this.#group, { device, layout, hosts });
    const options = { device, layout, collective: reduce, firstShard: shards.first };
    return new DeviceRows(this.#runtime, this.#group, options);
  }
}

const NO_MIXTURE = { partners: new Int32Array(0), shares: new Float32Array(0) };

/** Of the shard and not of the rank, so that any number of ranks drops the same. */
function dropoutKey(seed: number, step: number, shard: number): Int32Array {
  const [a, b] = drawWords(seed, Purpose.dropout, step, shard);
  return Int32Array.of(a | 0, b | 0);
}

function handles(variables: readonly Variable[]): TensorHandle[] {
  return variables.map(({ handle }) => handle);
}

function range(first: number, end: number): number[] {
  return Array.from({ length: end - first }, (_, i) => first + i);
}

/** argMax gives int64; classes fit in 32 bits. */
function readClasses(handle: TensorHandle, n: number): Int32Array {
  return handle.readInto(new Int32Array(n));
}

/** An error with its place: TensorFlow's do not know the step. */
function placed(error: unknown, place: { rank: number; step: number; phase: Phase }): DtrainError {
  if (error instanceof DtrainError) {
    if (error.step !== undefined) return error;
    const text = error.message.startsWith('all-reduce') ? error.message : `${placeText(place)}: ${error.message}`;
    return new DtrainError(error.code, error.exitCode, text, { ...place, cause: error });
  }
  const { message } = error as Error;
  return new DtrainError('DTRAIN_WORKER_FAILED', ExitCode.workerFailed, `${placeText(place)}: ${message}`, {
    ...place,
    cause: error,
  });
}

function diverged(step: number, loss: number): DtrainError {
  const what = Number.isFinite(loss)
    ? `the mean gradient is not finite, the loss still is (${loss})`
    : `the loss is ${loss}`;
  const message = `step ${step}: ${what}: training has diverged. Lower schedule.learningRate, or add schedule.warmupEpochs.`;
  return new DtrainError('DTRAIN_DIVERGED', ExitCode.diverged, message, { step });
}
