/**
 * Between a state (replica-state.ts) and the tensors of a checkpoint.
 *
 * Idea: weights.safetensors holds the weights that were evaluated: with train.ema the averaged ones, so that export and prediction take
 * them. optimizer.safetensors holds the first slot of the optimizer under the parameters' names, every other slot as `SLOT/NAME`, and with
 * train.ema the weights that training goes on with as `live/NAME`.
 * Must stay true: readState is the inverse of checkpointTensors, bit for bit, whatever the optimizer keeps.
 */
import type { Model } from '../model/catalogue.js';
import type { Weights } from '../model/torch-layout.js';
import { type OpenCheckpoint, readExtra, readMomenta, readWeights } from './checkpoint.js';
import { type StateViews, stateViews } from './replica-state.js';
import type { RowLayout } from './row-layout.js';
import type { CheckpointContent } from './save-checkpoint.js';

const LIVE = 'live';

/** The tensors to save. Borrows `state`. */
export function checkpointTensors(
  state: Float32Array,
  layout: RowLayout,
): Pick<CheckpointContent, 'weights' | 'momenta' | 'extra'> {
  const views = stateViews(state, layout);
  const extra = new Map<string, Weights>();
  for (const [i, slot] of layout.slots.entries()) {
    if (i > 0) extra.set(slot, { parameters: views.slots[i]!, means: [], variances: [] });
  }
  if (views.averages) extra.set(LIVE, weightsOf(views));
  return { weights: weightsOf(views.averages ?? views), momenta: views.momenta, extra };
}

/** Fills `state` with all that a checkpoint holds, to go on training. @throws exit 6. */
export function readState(state: Float32Array, layout: RowLayout, model: Model, opened: OpenCheckpoint): void {
  const views = stateViews(state, layout);
  const { weightsFile, optimizerFile } = opened;
  const evaluated = readWeights(weightsFile, model);
  if (views.averages) writeWeights(views.averages, evaluated);
  writeWeights(views, views.averages ? readExtra(optimizerFile, model, LIVE, true) : evaluated);
  copy(readMomenta(optimizerFile, model), views.momenta);
  for (const [i, slot] of layout.slots.entries()) {
    if (i > 0) copy(readExtra(optimizerFile, model, slot, false).parameters, views.slots[i]!);
  }
}

/** Weights to begin with, also as the averages. */
export function writeFirstWeights(state: Float32Array, layout: RowLayout, weights: Weights): void {
  const views = stateViews(state, layout);
  writeWeights(views, weights);
  if (views.averages) writeWeights(views.averages, weights);
}

type WeightViews = Pick<StateViews, 'parameters' | 'means' | 'variances'>;

function weightsOf({ parameters, means, variances }: WeightViews): Weights {
  return { parameters, means, variances };
}

function writeWeights(views: WeightViews, weights: Weights): void {
  copy(weights.parameters, views.parameters);
  copy(weights.means, views.means);
  copy(weights.variances, views.variances);
}

function copy(from: readonly Float32Array[], to: readonly Float32Array[]): void {
  for (const [i, values] of from.entries()) to[i]!.set(values);
}
