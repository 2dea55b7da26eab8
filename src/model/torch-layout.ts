/**
 * Weights as torchvision names and lays them out: convolutions OIHW (ours: HWIO), dense layers [units, inputs] (ours: [inputs, units]),
 * batch norms with `running_mean` and `running_var`. Each direction is the other's inverse, element by element.
 */
import { DtrainError, ExitCode } from '../core/errors.js';
import type { StoredTensor } from '../core/safetensors.js';
import { type Shape, sameShape, shapeText, sizeOf } from '../core/shape.js';
import type { ParameterSpec, StatisticsSpec } from './net.js';

/** Values in our layout. `means` and `variances` are per layer of `statistics`, in order. */
export interface Weights {
  readonly parameters: readonly Float32Array[];
  readonly means: readonly Float32Array[];
  readonly variances: readonly Float32Array[];
}

interface Described {
  readonly parameters: readonly ParameterSpec[];
  readonly statistics: readonly StatisticsSpec[];
}

export function toTorch({ parameters, statistics }: Described, weights: Weights): Map<string, StoredTensor> {
  const tensors = new Map<string, StoredTensor>();
  for (const [i, spec] of parameters.entries()) {
    const values = transposed(weights.parameters[i]!, spec.shape, toTorchAxes(spec));
    tensors.set(spec.name, { dtype: 'F32', shape: torchShape(spec), values });
  }
  for (const [i, { name, channels }] of statistics.entries()) {
    tensors.set(`${name}.running_mean`, { dtype: 'F32', shape: [channels], values: weights.means[i]! });
    tensors.set(`${name}.running_var`, { dtype: 'F32', shape: [channels], values: weights.variances[i]! });
  }
  return tensors;
}

/**
 * The inverse of toTorch. `num_batches_tracked` is ignored; running statistics that are missing start at mean 0, variance 1.
 * @throws DTRAIN_WEIGHTS_MISMATCH (exit 6) that lists what is missing, unknown or of another shape.
 */
export function fromTorch(
  { parameters, statistics }: Described,
  tensors: ReadonlyMap<string, StoredTensor>,
  where: string,
): Weights {
  const problems = mismatches({ parameters, statistics }, tensors);
  if (problems.length > 0) throw mismatchError(where, problems);
  const floats = (name: string) => tensors.get(name)?.values as Float32Array | undefined;
  return {
    parameters: parameters.map((spec) => transposed(floats(spec.name)!, torchShape(spec), fromTorchAxes(spec))),
    means: statistics.map(({ name, channels }) => floats(`${name}.running_mean`) ?? new Float32Array(channels)),
    variances: statistics.map(
      ({ name, channels }) => floats(`${name}.running_var`) ?? new Float32Array(channels).fill(1),
    ),
  };
}

function mismatches({ parameters, statistics }: Described, tensors: ReadonlyMap<string, StoredTensor>): string[] {
  const problems: string[] = [];
  const known = new Set<string>();
  const expect = (name: string, shape: Shape, required: boolean) => {
    known.add(name);
    const tensor = tensors.get(name);
    if (!tensor) {
      if (required) problems.push(`${name}: expected ${shapeText(shape)}, got nothing`);
    } else if (!sameShape(tensor.shape, shape)) {
      problems.push(`${name}: expected ${shapeText(shape)}, got ${shapeText(tensor.shape)}`);
    } else if (tensor.dtype !== 'F32') {
      problems.push(`${name}: expected F32, got ${tensor.dtype}`);
    }
  };
  for (const spec of parameters) expect(spec.name, torchShape(spec), true);
  for (const { name, channels } of statistics) {
    expect(`${name}.running_mean`, [channels], false);
    expect(`${name}.running_var`, [channels], false);
    known.add(`${name}.num_batches_tracked`);
  }
  for (const [name, { shape }] of tensors) {
    if (!known.has(name)) problems.push(`${name}: expected nothing, got ${shapeText(shape)}`);
  }
  return problems;
}

const SHOWN = 8;

function mismatchError(where: string, problems: readonly string[]): DtrainError {
  const shown = problems.slice(0, SHOWN).map((problem) => `  ${problem}`);
  if (problems.length > SHOWN) shown.push(`  and ${problems.length - SHOWN} more`);
  const text = `${where}: the weights do not fit this model:\n${shown.join('\n')}\nChoose the model they were made for, with model.name, model.stem, model.shortcut or model.module.`;
  return new DtrainError('DTRAIN_WEIGHTS_MISMATCH', ExitCode.checkpoint, text);
}

/** Which of our axes is each of torch's: HWIO → OIHW, [inputs, units] → [units, inputs]; the same where the layout is the model's own. */
function toTorchAxes({ shape, ownLayout }: ParameterSpec): readonly number[] {
  if (!ownLayout && shape.length === 4) return [3, 2, 0, 1];
  return !ownLayout && shape.length === 2 ? [1, 0] : shape.map((_, axis) => axis);
}

function fromTorchAxes(spec: ParameterSpec): readonly number[] {
  const axes = toTorchAxes(spec);
  return axes.map((_, axis) => axes.indexOf(axis));
}

function torchShape(spec: ParameterSpec): number[] {
  return toTorchAxes(spec).map((axis) => spec.shape[axis]!);
}

/** `values` of `shape` with its axes in the order `axes`. */
function transposed(values: Float32Array, shape: Shape, axes: readonly number[]): Float32Array {
  if (axes.length < 2) return values.slice();
  const strides = shape.map((_, axis) => sizeOf(shape.slice(axis + 1)));
  const extents = axes.map((axis) => shape[axis]!);
  const steps = axes.map((axis) => strides[axis]!);
  const result = new Float32Array(values.length);
  const index = new Array<number>(axes.length).fill(0);
  let source = 0;
  for (let i = 0; i < result.length; i++) {
    result[i] = values[source]!;
    for (let axis = axes.length - 1; axis >= 0; axis--) {
      source += steps[axis]!;
      if (++index[axis]! < extents[axis]!) break;
      source -= steps[axis]! * extents[axis]!;
      index[axis] = 0;
    }
  }
  return result;
}
