/**
 * The run layer as the commands see it.
 *
 * Idea: a command imports nothing heavy. Each function here loads its module when it is called, so `dtrain --help` and a usage error never
 * touch TensorFlow; and a test hands a command a fake of this interface instead.
 */
import type { TrainEvent } from '../core/events.js';
import type { benchAllReduce } from '../run/bench-all-reduce.js';
import type { benchData } from '../run/bench-data.js';
import type { benchScaling } from '../run/bench-scaling.js';
import type { benchStep } from '../run/bench-step.js';
import type { describeModels } from '../run/describe-models.js';
import type { EngineProcess } from '../run/engine-process.js';
import type { evaluateCheckpoint } from '../run/evaluate.js';
import type { exportCheckpoint } from '../run/export-checkpoint.js';
import type { findBatch } from '../run/find-batch.js';
import type { findLearningRate } from '../run/find-learning-rate.js';
import type { MetricsServer } from '../run/metrics-server.js';
import type { predictImages } from '../run/predict.js';
import type { Supervision } from '../run/supervise.js';
import type { TrainOptions } from '../run/train.js';
import type { watchRun } from '../run/watch-server.js';
import type { writeReport } from '../run/write-report.js';

export interface RunLayer {
  /** Begins to start what `train` and `benchStep` need, while words and options are still being read; once is enough. Ends with this process. */
  readonly prepareEngine: () => Promise<void>;
  readonly train: (
    options: TrainOptions,
    stop: AbortSignal,
    supervision: Pick<Supervision, 'atOnce' | 'maxRestarts'>,
  ) => AsyncIterable<TrainEvent>;
  readonly evaluateCheckpoint: typeof evaluateCheckpoint;
  readonly benchStep: typeof benchStep;
  readonly benchAllReduce: typeof benchAllReduce;
  readonly benchScaling: typeof benchScaling;
  readonly benchData: typeof benchData;
  readonly findLearningRate: typeof findLearningRate;
  readonly findBatch: typeof findBatch;
  readonly openMetrics: typeof MetricsServer.open;
  readonly describeModels: typeof describeModels;
  readonly exportCheckpoint: typeof exportCheckpoint;
  readonly predictImages: typeof predictImages;
  readonly writeReport: typeof writeReport;
  readonly watchRun: typeof watchRun;
}

/** Started in advance, not yet used. */
let prepared: EngineProcess | undefined;

export const runLayer: RunLayer = {
  async prepareEngine() {
    const { EngineProcess } = await import('../run/engine-process.js');
    prepared ??= new EngineProcess();
  },
  async *train(options, stop, supervision) {
    const { supervise } = await import('../run/supervise.js');
    yield* supervise(options, stop, { ...supervision, startEngine: await engineStarter() });
  },
  evaluateCheckpoint: async (options) => (await import('../run/evaluate.js')).evaluateCheckpoint(options),
  async benchStep(options) {
    const { benchInEngine } = await import('../run/bench-in-engine.js');
    return benchInEngine(options, (await engineStarter())());
  },
  benchAllReduce: async (options) => (await import('../run/bench-all-reduce.js')).benchAllReduce(options),
  benchScaling: async (options) => (await import('../run/bench-scaling.js')).benchScaling(options),
  benchData: async (options) => (await import('../run/bench-data.js')).benchData(options),
  findLearningRate: async (options) => (await import('../run/find-learning-rate.js')).findLearningRate(options),
  findBatch: async (options) => (await import('../run/find-batch.js')).findBatch(options),
  openMetrics: async (...args) => (await import('../run/metrics-server.js')).MetricsServer.open(...args),
  describeModels: async (options) => (await import('../run/describe-models.js')).describeModels(options),
  exportCheckpoint: async (options) => (await import('../run/export-checkpoint.js')).exportCheckpoint(options),
  predictImages: async (options) => (await import('../run/predict.js')).predictImages(options),
  writeReport: async (options) => (await import('../run/write-report.js')).writeReport(options),
  watchRun: async (...args) => (await import('../run/watch-server.js')).watchRun(...args),
};

/** Gives the engine that was started in advance, the first time. */
async function engineStarter(): Promise<() => EngineProcess> {
  const { EngineProcess } = await import('../run/engine-process.js');
  return () => {
    const engine = prepared ?? new EngineProcess();
    prepared = undefined;
    return engine;
  };
}
