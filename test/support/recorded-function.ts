/** tfjs code recorded as a function of arrays, and run; and the same code run eagerly. */
import { fillNormal, Purpose } from '../../src/core/philox.js';
import { type Shape, sizeOf } from '../../src/core/shape.js';
import type { CompiledFunction, Engine, InputSpec, RecordedInput } from '../../src/graph/engine.js';
import type { Precision } from '../../src/graph/recording.js';
import { type Tensor, tf } from '../../src/graph/tfjs.js';
import { DType, type Values } from '../../src/tensorflow/dtype.js';
import { execute } from '../../src/tensorflow/execute.js';
import { tensorFrom } from '../../src/tensorflow/tensor-handle.js';
import { CPU_0 } from './test-runtime.js';

/** An array that a recorded function takes. */
export interface HostTensor {
  readonly values: Values;
  readonly shape: Shape;
  readonly dtype: DType;
}

export function floats(values: ArrayLike<number>, shape: Shape = [values.length]): HostTensor {
  return { values: Float32Array.from(values), shape, dtype: DType.float32 };
}

export function integers(values: ArrayLike<number>, shape: Shape = [values.length]): HostTensor {
  return { values: Int32Array.from(values), shape, dtype: DType.int32 };
}

/** Standard normal numbers: the same for the same `stream`. */
export function normals(shape: Shape, stream = 0): HostTensor {
  const values = new Float32Array(sizeOf(shape));
  fillNormal(values, 3, Purpose.synthetic, stream);
  return { values, shape, dtype: DType.float32 };
}

/** Different numbers in no order, `gap` apart and none within `gap` / 2 of 0: no maximum and no ReLU is close to changing. */
export function spreadOut(shape: Shape, gap: number): HostTensor {
  const size = sizeOf(shape);
  const prime = 7919; // of no size used here a factor
  return floats(
    Array.from({ length: size }, (_, i) => gap * (((i * prime) % size) - Math.floor(size / 2) + 0.5)),
    shape,
  );
}

let numFunctions = 0;

/** Records `build` over inputs like `inputs`. */
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

/** Runs a recorded function; its outputs as arrays. */
export function run(
  { runtime }: Engine,
  { name, numOutputs }: CompiledFunction,
  inputs: readonly HostTensor[],
  device: string = CPU_0,
): Values[] {
  const handles = inputs.map(({ values, shape, dtype }) => tensorFrom(runtime, device, values, shape, dtype));
  const outputs = execute(runtime, { name, inputs: handles, device, numOutputs });
  const values = outputs.map((output) => output.read());
  for (const handle of [...outputs, ...handles]) handle[Symbol.dispose]();
  return values;
}

/** tfjs code over tensors. */
export type TensorCode = (...tensors: Tensor[]) => readonly Tensor[];

/** `code` recorded and run once. */
export function recorded(
  engine: Engine,
  inputs: readonly HostTensor[],
  code: TensorCode,
  precision?: Precision,
): Values[] {
  return run(
    engine,
    record(engine, inputs, (values) => code(...values.map((input) => input.value())), precision),
    inputs,
  );
}

/** `code` run eagerly. */
export function eager(inputs: readonly HostTensor[], code: TensorCode): Values[] {
  return tf.tidy(() => {
    const tensors = inputs.map(({ values, shape, dtype }) =>
      tf.tensor(values, [...shape], dtype === DType.int32 ? 'int32' : 'float32'),
    );
    return code(...tensors).map((tensor) => tensor.dataSync()) as unknown as Tensor;
  }) as unknown as Values[];
}
