/** Events of a made-up run. */
import type { EndEvent, EvaluationEvent, RunStartEvent, StepEvent } from '../../src/core/events.js';

export const RUN_EVENT: RunStartEvent = {
  event: 'run',
  runDir: 'runs/quickstart-1',
  version: '9.9.9',
  devices: ['/device:CPU:0', '/device:CPU:1'],
  workers: 2,
  globalBatch: 128,
  parameters: 272_474,
  trainImages: 50_000,
  testImages: 10_000,
  totalSteps: 782,
  normalization: { mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25] },
  config: {},
};

export function stepEvent(step: number, epoch: number): StepEvent {
  const seconds = { feed: 0.001, compute: 0.2, reduce: 0.001, update: 0.002, report: 0 };
  return {
    event: 'step',
    step,
    epoch,
    loss: 1.6234,
    trainAccuracy: 0.4111,
    learningRate: 0.1,
    imagesPerSecond: 612.4,
    seconds,
  };
}

export function evaluationEvent(step: number, epoch: number): EvaluationEvent {
  return { event: 'evaluation', step, epoch, testLoss: 1.21, testAccuracy: 0.571, images: 10_000 };
}

export const END_EVENT: EndEvent = {
  event: 'end',
  steps: 782,
  epochs: 2,
  finalTestAccuracy: 0.612,
  bestTestAccuracy: 0.62,
  imagesPerSecond: 600.1,
  wallSeconds: 170.2,
};

/** What a `bench step` found. */
export const STEP_BENCH = {
  bench: 'step',
  config: 'resnet20',
  devices: 'cpu',
  workers: 2,
  globalBatch: 128,
  precision: 'float32',
  steps: 20,
  imagesPerSecond: { median: 600, min: 570, max: 620 },
  secondsPerStep: { median: 0.21 },
  seconds: { feed: 0.0004, compute: 0.205, reduce: 0.0006, update: 0.002, report: 0.0001 },
  flopsPerImage: 244_000_000,
  startSeconds: 1.4,
  peakRssBytes: 900_000_000,
} as const;
