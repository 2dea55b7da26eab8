/**
 * dtrain as a library: the same run as the command's, from a program.
 *
 *   for await (const event of train({ config: loadConfig({ file: 'resnet20-fast' }), devices: null, runDir: null, configName: 'mine' })) …
 */
export { type ConfigSource, loadConfig } from './config/load.js';
export type { RunConfig } from './config/schema.js';
export { DtrainError, ExitCode } from './core/errors.js';
export type {
  CheckpointEvent,
  EndEvent,
  EvaluationEvent,
  RunStartEvent,
  StepEvent,
  TrainEvent,
} from './core/events.js';
export type { DeviceRequest } from './run/devices.js';
export { type EvaluateOptions, type EvaluationReport, evaluateCheckpoint } from './run/evaluate.js';
export { type TrainOptions, type TrainProgress, train } from './run/train.js';
