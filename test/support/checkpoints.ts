/** Checkpoints of a made-up model, for tests that need no TensorFlow. */
import type { Weights } from '../../src/model/torch-layout.js';
import type { CheckpointState } from '../../src/train/checkpoint-state.js';
import type { CheckpointContent, ModelNames, RunFacts, SaveOptions } from '../../src/train/save-checkpoint.js';

/** A convolution, its batch norm, a dense layer. */
export const SMALL_MODEL: ModelNames = {
  name: 'small',
  parameters: [
    { name: 'conv1.weight', shape: [3, 3, 3, 4], initial: { value: 0 } },
    { name: 'fc.weight', shape: [4, 10], initial: { value: 0 } },
    { name: 'fc.bias', shape: [10], initial: { value: 0 } },
  ],
  statistics: [{ name: 'bn1', channels: 4 }],
};

/** Tensors of several blocks of a disk: 13 KB. */
export const FEW_BLOCKS_MODEL: ModelNames = modelOf([64, 50]);

/** A dense layer of any size before what SMALL_MODEL has. */
export function modelOf(shape: readonly [number, number]): ModelNames {
  const layer = { name: 'big.weight', shape, initial: { value: 0 } };
  return { ...SMALL_MODEL, parameters: [layer, ...SMALL_MODEL.parameters] };
}

export const FACTS: RunFacts = {
  run: 'test',
  generation: 1,
  world: 2,
  shards: 2,
  globalBatch: 32,
  precision: 'float32',
  threadsPerWorker: 1,
  hashes: { configuration: '0'.repeat(64), dataSet: '1'.repeat(64) },
  versions: { dtrain: '0.0.0', tensorflow: '2.21.0', node: process.version },
};

export function smallState(step: number): CheckpointState {
  return {
    step,
    epoch: step / 100,
    testAccuracy: 0.5,
    bestTestAccuracy: null,
    classes: ['a', 'b'],
    imageSize: [32, 32],
    normalization: { mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25] },
    progress: {
      trainImages: 100,
      shards: 2,
      threadsPerWorker: 1,
      trainingSeconds: 1.5,
      wallSeconds: 2.5,
      metricsBytes: 0,
      losses: [],
      corrects: [],
      evaluationDue: false,
    },
  };
}

/** Every value is a function of the step, the tensor and the index. */
export function smallWeights(step: number, model: ModelNames = SMALL_MODEL): Weights {
  const filled = (tensor: number, length: number) =>
    Float32Array.from({ length }, (_, i) => Math.fround(step + tensor / 10 + i / 1000));
  const lengthOf = (shape: readonly number[]) => shape.reduce((product, extent) => product * extent, 1);
  return {
    parameters: model.parameters.map(({ shape }, i) => filled(i, lengthOf(shape))),
    means: model.statistics.map(({ channels }, i) => filled(50 + i, channels)),
    variances: model.statistics.map(({ channels }, i) => filled(60 + i, channels)),
  };
}

export function smallContent(step: number, model: ModelNames = SMALL_MODEL): CheckpointContent {
  const weights = smallWeights(step, model);
  const momenta = smallWeights(step + 0.5, model).parameters;
  return { state: smallState(step), configYaml: '{}\n', weights, momenta };
}

export function saveOptions(checkpoints: string, model: ModelNames = SMALL_MODEL, step = 1): SaveOptions {
  const content = smallContent(step, model);
  return { checkpoints, model, content, facts: FACTS, isBest: false, lock: null, metricsFile: null };
}
