/** A checkpoint's model in this thread, for commands that run no ranks: its code, its weights, and what its images are. */
import { loadConfig } from '../config/load.js';
import type { RunConfig } from '../config/schema.js';
import { type Engine, startEngine } from '../graph/engine.js';
import type { Model } from '../model/catalogue.js';
import type { Weights } from '../model/torch-layout.js';
import { openCheckpoint, readWeights } from '../train/checkpoint.js';
import type { CheckpointState } from '../train/checkpoint-state.js';
import { configuredModel } from './configured-model.js';
import { availableCores, openDevices } from './devices.js';

export interface RestoredModel {
  readonly engine: Engine;
  readonly model: Model;
  readonly weights: Weights;
  readonly state: CheckpointState;
  readonly config: RunConfig;
}

/** On the CPU. `command` is for messages. @throws DTRAIN_CHECKPOINT_* (exit 6), DTRAIN_LIBRARY_MISSING (exit 4). */
export async function restoreModel(checkpoint: string, command: string): Promise<RestoredModel> {
  const { configFile, weightsFile, state } = openCheckpoint(checkpoint);
  const config = loadConfig({ file: configFile });
  const request = { kind: 'cpu', count: 1 } as const;
  const threadsPerDevice = () => availableCores();
  const { runtime, names } = openDevices({ request, command, defaultWorkers: 1, threadsPerDevice });
  const engine = startEngine(runtime, names[0]!);
  const model = await configuredModel(engine, config, state.classes.length, state.imageSize);
  return { engine, model, weights: readWeights(weightsFile, model), state, config };
}
