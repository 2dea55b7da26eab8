/**
 * A model that one rank trains in this thread: the product's own recorded step and replica, without run, pool and files.
 *
 * Idea: an update with learning rate 1, no momentum and no decay moves each parameter by minus its gradient, so what a step did is read from the
 * row that the ranks reduce and from the state that the replica writes out.
 */
import { type ArenaSpec, createArena } from '../../src/collective/gradient-arena.js';
import { RankGroup } from '../../src/collective/rank-group.js';
import type { Normalization } from '../../src/core/events.js';
import { sizeOf } from '../../src/core/shape.js';
import { allocateSharedMemory } from '../../src/core/shared-memory.js';
import type { Engine } from '../../src/graph/engine.js';
import type { Model } from '../../src/model/catalogue.js';
import type { Weights } from '../../src/model/torch-layout.js';
import type { OptimizerOptions } from '../../src/optim/optimizer-options.js';
import { Replica, type StepReport } from '../../src/train/replica.js';
import { allocateState, type StateViews, stateViews } from '../../src/train/replica-state.js';
import type { RowLayout } from '../../src/train/row-layout.js';
import { writeFirstWeights } from '../../src/train/state-transfer.js';
import type { SplitMemory } from '../../src/train/step-images.js';
import { type ProgramOptions, type RecordedProgram, recordProgram } from '../../src/train/step-program.js';
import { CPU_0 } from './test-runtime.js';

/** Images and labels: the training set and the test set at once. */
export interface Images {
  readonly imagesNHWC: Uint8Array;
  readonly labels: Int32Array;
  readonly height: number;
  readonly width: number;
  readonly normalization: Normalization;
}

/** Of the step: plain gradient descent on the images as they are, unless told otherwise. */
export type OneRankOptions = Partial<
  Pick<ProgramOptions, 'precision' | 'xla' | 'shardBatch' | 'augment' | 'labelSmoothing' | 'ema' | 'evaluationFlip'>
> & { readonly device?: string; readonly optimizer?: Partial<OptimizerOptions> };

/** Of the random draws of augmentation. */
export const SEED = 0;

/** Plain gradient descent. */
export const PLAIN_SGD: OptimizerOptions = {
  name: 'sgd',
  momentum: 0,
  nesterov: false,
  weightDecay: 0,
  decoupled: false,
  exempt: 'none',
  clipNorm: 0,
  beta2: 0.999,
  epsilon: 1e-8,
  trust: 0.001,
};

export class OneRank {
  readonly recorded: RecordedProgram;
  readonly replica: Replica;
  readonly #group: RankGroup;
  readonly #state: Float32Array;
  #numSteps = 0;

  constructor(engine: Engine, model: Model, weights: Weights, images: Images, options: OneRankOptions = {}) {
    const split = splitMemory(images);
    const { count, height, width } = split;
    const { device = CPU_0, ...changed } = options;
    const augment = changed.augment ?? { crop: 0, flip: false, cutout: 0 };
    const shape = { numImages: count, height, width };
    this.recorded = recordProgram(engine, model, {
      precision: 'float32',
      xla: false,
      shardBatch: count,
      evaluationBatch: count,
      train: shape,
      test: shape,
      normalization: images.normalization,
      augment,
      labelSmoothing: 0,
      ema: 0,
      evaluationFlip: false,
      ...changed,
      optimizer: { ...PLAIN_SGD, ...changed.optimizer },
    });
    const { program } = this.recorded;
    this.#state = beginningState(program.layout, weights);
    const shards = count / program.shardBatch;
    const arena: ArenaSpec = createArena({ world: 1, shards, rowLength: program.layout.length });
    this.#group = new RankGroup(arena, 0, 60);
    const augmentation = { ...augment, seed: SEED, count, height, width };
    const both = { train: split, test: split };
    const own = { first: 0, end: shards };
    const replicaOptions = { device, program, state: this.#state, images: both, shards: own, augmentation };
    this.replica = new Replica(engine.runtime, this.#group, replicaOptions);
  }

  get layout(): RowLayout {
    return this.recorded.program.layout;
  }

  /** One step over all images, in order, as if in this epoch. */
  step(learningRate = 1, epoch = 0): StepReport {
    const ids = Int32Array.from({ length: this.#numImages }, (_, i) => i);
    const epochs = new Int32Array(ids.length).fill(epoch);
    return this.replica.step({ step: ++this.#numSteps, ids, epochs, learningRate });
  }

  /** Gradients of the last step, in the order and layout of the model's parameters. */
  gradients(): Float32Array[] {
    let at = 0;
    return this.layout.parameterShapes.map((shape) => {
      at += sizeOf(shape);
      return this.#group.result.slice(at - sizeOf(shape), at);
    });
  }

  /** What shard `shard` gave to the last step; of the first one, its mean took the place. */
  row(shard: number): Float32Array {
    return this.#group.row(shard);
  }

  /** Parameters, momenta and running statistics as they are on the device. */
  state(): StateViews {
    this.replica.exportState(this.#state);
    return stateViews(this.#state, this.layout);
  }

  evaluate(): ReturnType<Replica['evaluate']> {
    return this.replica.evaluate(0, this.#numImages);
  }

  get #numImages(): number {
    return this.recorded.program.evaluationBatch;
  }

  [Symbol.dispose](): void {
    this.replica[Symbol.dispose]();
  }
}

function splitMemory({ imagesNHWC, labels, height, width }: Images): SplitMemory {
  const shared = new Uint8Array(allocateSharedMemory(imagesNHWC.length).buffer, 0, imagesNHWC.length);
  shared.set(imagesNHWC);
  return { imagesNHWC: shared, labels, count: labels.length, height, width };
}

function beginningState(layout: RowLayout, weights: Weights): Float32Array {
  const state = allocateState(layout);
  writeFirstWeights(state, layout, weights);
  return state;
}
