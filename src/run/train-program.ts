/** Training from a program: `train` with what a program seldom says left out. */
import type { RunConfig } from '../config/schema.js';
import type { TrainEvent } from '../core/events.js';
import { type TrainOptions, train } from './train.js';

export interface ProgramOptions extends Partial<Omit<TrainOptions, 'config' | 'configName'>> {
  /** Of a new folder under runs/, where `runDir` names none. */
  readonly name?: string;
  /** Aborted, the run ends after the step, with a checkpoint, and throws DTRAIN_STOPPED. */
  readonly signal?: AbortSignal;
}

/**
 * Trains as the command does, with the same bits, and yields the events of its metrics.jsonl as they come. The last is `end`, unless it
 * throws. Leaving the loop early (`break`) ends the run without a checkpoint of its own; abort `signal` for one.
 * @throws DtrainError; its exitCode is the command's.
 */
export function trainProgram(
  config: RunConfig,
  { name = 'program', signal, ...options }: ProgramOptions = {},
): AsyncGenerator<TrainEvent, void> {
  return train({ devices: null, runDir: null, ...options, config, configName: name }, signal);
}
