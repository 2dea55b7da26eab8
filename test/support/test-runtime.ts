/** TensorFlow for tests: the installed CPU library, two CPU devices of one thread each; and what tests ask of tensors. */
import assert from 'node:assert/strict';
import { DtrainError } from '../../src/core/errors.js';
import type { Shape } from '../../src/core/shape.js';
import type { CompiledFunction, Engine, InputSpec, RecordedInput } from '../../src/graph/engine.js';
import type { Precision } from '../../src/graph/recording.js';
import type { Tensor } from '../../src/graph/tfjs.js';
import type { DType, Values } from '../../src/tensorflow/dtype.js';
import { execute } from '../../src/tensorflow/execute.js';
import { openLibrary } from '../../src/tensorflow/library.js';
import { createRuntime, type Runtime, type RuntimeOptions } from '../../src/tensorflow/runtime.js';
import { type TensorHandle, tensorFrom } from '../../src/tensorflow/tensor-handle.js';

export const CPU_0 = '/device:CPU:0';
export const CPU_1 = '/device:CPU:1';

/** A context of its own. A library that is missing fails the test: `npm test` installs it. */
export function testRuntime(options: Partial<RuntimeOptions> = {}): Runtime {
  return createRuntime(openLibrary().path, { cpuDevices: 2, threadsPerDevice: 1, maxGpus: 0, ...options });
}

/** The DtrainError that `act` throws. */
export function errorOf(act: () => unknown): DtrainError {
  try {
    act();
  } catch (error) {
    assert(error instanceof DtrainError, `expected a DtrainError, got ${error}`);
    return error;
  }
  assert.fail('expected an error, got none');
}

/** Values of an input of a recorded function. */
export interface HostTensor {
  readonly values: Values;
  readonly shape: Shape;
  readonly dtype: DType;
}

let numFunctions = 0;

/** Records `build` over inputs like `inputs` as a function of a new name. */
export function record(
  engine: Engine,
  inputs: readonly HostTensor[],
  build: (inputs: readonly RecordedInput[]) => readonly Tensor[],
  precision: Precision = 'float32',
): CompiledFunction {
  const specs = inputs.map(({ shape, dtype }): InputSpec => ({ kind: 'tensor', shape, dtype }));
  const name = `test_${numFunctions++}`;
  return engine.recordFunction({ name, precision }, specs, (recorded) => ({ outputs: build(recorded) }));
}

/** Runs a recorded function on `device`; its outputs as arrays. */
export function run(
  runtime: Runtime,
  { name, numOutputs }: CompiledFunction,
  inputs: readonly HostTensor[],
  device: string = CPU_0,
): Values[] {
  const handles = inputs.map(({ values, shape, dtype }) => tensorFrom(runtime, device, values, shape, dtype));
  return readAll(execute(runtime, { name, inputs: handles, device, numOutputs }), handles);
}

/** Reads `outputs`; disposes them and `alsoDisposed`. */
function readAll(outputs: readonly TensorHandle[], alsoDisposed: readonly TensorHandle[]): Values[] {
  const values = outputs.map((output) => output.read());
  for (const handle of [...outputs, ...alsoDisposed]) handle[Symbol.dispose]();
  return values;
}

/** |got − expected| / |expected| over all elements, in float64. */
export function relativeL2(got: ArrayLike<number>, expected: ArrayLike<number>): number {
  assert.equal(got.length, expected.length, 'number of elements');
  let difference = 0;
  let size = 0;
  for (let i = 0; i < expected.length; i++) {
    difference += (got[i]! - expected[i]!) ** 2;
    size += expected[i]! ** 2;
  }
  return difference === 0 ? 0 : Math.sqrt(difference / size);
}

/** Fails unless the relative L2 error is at most `tolerance`; NaN fails. Returns the error. */
export function assertClose(
  got: ArrayLike<number>,
  expected: ArrayLike<number>,
  tolerance: number,
  what: string,
): number {
  const error = relativeL2(got, expected);
  assert(error <= tolerance, `${what}: expected a relative error of at most ${tolerance}, got ${error}`);
  return error;
}
