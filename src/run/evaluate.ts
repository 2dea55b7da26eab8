/** `dtrain eval`: the exact accuracy of a checkpoint, in all and per class. */
import { loadConfig } from '../config/load.js';
import { internalError } from '../core/errors.js';
import type { EvaluationEvent } from '../core/events.js';
import { openCheckpoint, readWeights } from '../train/checkpoint.js';
import { assemble } from './assemble.js';
import type { DeviceRequest } from './devices.js';
import { type EvaluationResult, evaluateOnRanks } from './evaluation.js';

export interface EvaluateOptions {
  /** A checkpoint folder, RUN/checkpoints/last or best, or RUN. */
  readonly checkpoint: string;
  readonly devices: DeviceRequest | null;
  /** KEY=VALUE words over the checkpoint's configuration. */
  readonly overrides: readonly string[];
  readonly say?: (line: string) => void;
}

export interface EvaluationReport extends EvaluationEvent, EvaluationResult {
  readonly classes: readonly string[];
}

/** @throws DTRAIN_CHECKPOINT_* (exit 6), and what assembling throws. */
export async function evaluateCheckpoint(options: EvaluateOptions): Promise<EvaluationReport> {
  const { checkpoint, devices, overrides, say = () => undefined } = options;
  const opened = openCheckpoint(checkpoint);
  const config = loadConfig({ file: opened.configFile, overrides });
  const command = `dtrain eval ${checkpoint}`;
  const weights = (model: Parameters<typeof readWeights>[1]) => readWeights(opened.weightsFile, model);
  const assembly = await assemble({ config, devices, command, say, weights });
  try {
    const result = await evaluateOnRanks(assembly.pool, assembly.data);
    if (result === undefined) throw internalError('an evaluation that nobody stopped was cut short.');
    const { step, epoch } = opened.state;
    return { event: 'evaluation', step, epoch, ...result, classes: assembly.data.classes };
  } finally {
    await assembly.close();
  }
}
