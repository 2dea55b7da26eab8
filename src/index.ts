/**
 * dtrain as a library: the same run as the command's, from a program.
 *
 *   for await (const event of train(loadConfig({ file: 'resnet20-fast' }))) …
 */
export type { ClusterSpec } from './cluster/cluster-spec.js';
export type { RankProgress } from './collective/progress.js';
export { type ConfigSource, loadConfig } from './config/load.js';
export type { DeepReadonly, RunConfig } from './config/schema.js';
export { DtrainError, type DtrainErrorOptions, ExitCode } from './core/errors.js';
export type {
  CheckpointEvent,
  EndEvent,
  ErrorEvent,
  EvaluationEvent,
  Normalization,
  Phase,
  PhaseSeconds,
  RunStartEvent,
  StepEvent,
  TrainEvent,
} from './core/events.js';
export type { CompiledArgument, CompiledResult, CompileOptions } from './graph/compile.js';
export type { ModelModule, ModuleContext, PlainModel } from './model/module-model.js';
export type { DeviceRequest } from './run/devices.js';
export { type EvaluateOptions, type EvaluationReport, evaluateCheckpoint } from './run/evaluate.js';
export type { Calibration, WrongAnswer } from './run/evaluation.js';
export type { ResumeRequest } from './run/resume.js';
export { compile, openTfjs, type TfjsOptions } from './run/tfjs-session.js';
export type { TrainProgress } from './run/train.js';
export { type ProgramOptions, trainProgram as train } from './run/train-program.js';
