/**
 * dtrain as a library: the same run as the command's, from a program.
 *
 *   for await (const event of train(loadConfig({ file: 'resnet20-fast' }))) …
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
export type { CompiledArgument, CompiledResult, CompileOptions } from './graph/compile.js';
export type { ModelModule, ModuleContext, PlainModel } from './model/module-model.js';
export type { DeviceRequest } from './run/devices.js';
export { type EvaluateOptions, type EvaluationReport, evaluateCheckpoint } from './run/evaluate.js';
export { compile, openTfjs, type TfjsOptions } from './run/tfjs-session.js';
export type { TrainProgress } from './run/train.js';
export { type ProgramOptions, trainProgram as train } from './run/train-program.js';
