/**
 * A recording: the list of operations that tfjs calls become, inside one TensorFlow graph.
 *
 * Idea: each operation is added to the graph and to a plain list, so that a recording can be printed, counted and tested as data.
 * bfloat16 stays inside: tfjs sees float32 while a node may carry bfloat16 (autocast.ts places the casts).
 * One thread. Owns its graph until disposed.
 */
import { DtrainError, ExitCode } from '../core/errors.js';
import { type Shape, shapeText } from '../core/shape.js';
import { type Attribute, attr } from '../tensorflow/attribute.js';
import { DType, dtypeName, type HostValues, type Values } from '../tensorflow/dtype.js';
import { GraphBuilder, type NodeOutput, type Operation } from '../tensorflow/graph-builder.js';
import type { Runtime } from '../tensorflow/runtime.js';
import { lowPrecisionInputs } from './autocast.js';
import { GraphValue } from './graph-value.js';
import { placeInUserCode } from './user-code.js';

export type Precision = 'float32' | 'bfloat16';

/** One recorded operation, as data. */
export interface RecordedOperation {
  readonly type: string;
  readonly inputShapes: readonly Shape[];
  readonly outputShapes: readonly Shape[];
  /** Element type of the first output. */
  readonly dtype: string;
}

/** One recorded operation with what it reads and writes, for whoever translates a recording. */
export interface RecordedNode {
  readonly type: string;
  readonly inputs: readonly GraphValue[];
  readonly attributes: readonly Attribute[];
  readonly outputs: readonly GraphValue[];
  /** Of a constant. */
  readonly values?: HostValues;
}

/** Operations with a list input: how many single inputs follow the list. */
const INPUTS_AFTER_LIST: Readonly<Record<string, number>> = { ConcatV2: 1, Pack: 0, AddN: 0, Einsum: 0 };
/** Uniform constants with more elements than this become `Fill`: tfjs's gradients make activation-sized arrays of ones and zeros. */
const FILL_ABOVE = 64;
/** Outputs whose shape TensorFlow does not state before it runs, and nothing but their gradient reads. */
const WORKSPACE_OUTPUT: Readonly<Record<string, number>> = { FusedBatchNormV3: 5 };

export class Recording {
  readonly builder: GraphBuilder;
  readonly precision: Precision;
  readonly operations: RecordedOperation[] = [];
  readonly nodes: RecordedNode[] = [];

  /** Inputs in place of numbers from JavaScript, by the number (see numberInput). */
  readonly #standIns = new Map<number, GraphValue>();

  constructor(runtime: Runtime, precision: Precision) {
    this.builder = new GraphBuilder(runtime);
    this.precision = precision;
  }

  /** How often each type of operation occurs. */
  counts(): Map<string, number> {
    const counts = new Map<string, number>();
    for (const { type } of this.operations) counts.set(type, (counts.get(type) ?? 0) + 1);
    return counts;
  }

  /** Records one operation of any type, with inputs as they are. */
  add(
    type: string,
    inputs: readonly (GraphValue | readonly GraphValue[])[],
    attributes: readonly Attribute[],
    numOutputs: number,
  ): { operation: Operation; outputs: GraphValue[] } {
    const nodes = inputs.map((input) =>
      input instanceof GraphValue ? input.output : input.map(({ output }) => output),
    );
    const operation = this.builder.add(type, nodes, attributes);
    const outputs = Array.from({ length: numOutputs }, (_, index) => this.#output(type, { oper: operation, index }));
    this.operations.push({
      type,
      inputShapes: inputs.flat().map(({ shape }) => shape),
      outputShapes: outputs.map(({ shape }) => shape),
      dtype: outputs[0] ? dtypeName(outputs[0].dtype) : 'none',
    });
    this.nodes.push({ type, inputs: inputs.flat(), attributes, outputs });
    return { operation, outputs };
  }

  /** Records an operation that a tfjs kernel asked for: list inputs folded, bfloat16 where autocast wants it, float32 elsewhere. */
  addKernel(
    type: string,
    inputs: readonly GraphValue[],
    attributes: readonly Attribute[],
    numOutputs: number,
  ): GraphValue[] {
    const low = this.precision === 'bfloat16' ? lowPrecisionInputs(type, inputs) : undefined;
    const typed = inputs.map((input, i) => (low?.includes(i) ? this.cast(input, DType.bfloat16) : this.inFull(input)));
    const retyped = low ? attributes.map((a) => (a.name === 'T' ? attr.type('T', DType.bfloat16) : a)) : attributes;
    const after = INPUTS_AFTER_LIST[type];
    if (after === undefined) return this.add(type, typed, retyped, numOutputs).outputs;
    const end = typed.length - after;
    const withoutLength = retyped.filter(({ name }) => name !== 'N');
    return this.add(type, [typed.slice(0, end), ...typed.slice(end)], withoutLength, numOutputs).outputs;
  }

  constant(values: HostValues, shape: Shape, dtype: DType): GraphValue {
    const uniform = !isOdd(values) && values.length > FILL_ABOVE && values.every((value) => value === values[0]);
    if (!uniform) {
      this.operations.push({ type: 'Const', inputShapes: [], outputShapes: [shape], dtype: dtypeName(dtype) });
      const constant = new GraphValue(this, this.builder.constant(values, shape, dtype), dtype, shape);
      this.nodes.push({ type: 'Const', inputs: [], attributes: [], outputs: [constant], values });
      return constant;
    }
    const extents = this.constant(Int32Array.from(shape), [shape.length], DType.int32);
    const value = this.constant((values as Values).slice(0, 1), [], dtype);
    return this.add('Fill', [extents, value], [], 1).outputs[0]!;
  }

  /**
   * A number that no program uses: wherever a scalar of this value, or of minus it, reaches the recording, `input` (float32, []) stands there.
   * So a number that code reads from an object, such as an optimizer's learning rate, becomes an input.
   */
  standInFor(input: GraphValue): number {
    const number = 2 ** -100 * (1 + (this.#standIns.size + 1) / 2 ** 20); // exact in float32
    this.#standIns.set(number, input);
    return number;
  }

  /** The input that these values stand for; undefined where they are themselves. */
  standIn(values: HostValues): GraphValue | undefined {
    if (this.#standIns.size === 0 || !(values instanceof Float32Array) || values.length !== 1) return undefined;
    const input = this.#standIns.get(Math.abs(values[0]!));
    return input && values[0]! < 0 ? this.add('Neg', [input], [], 1).outputs[0]! : input;
  }

  /** `value` as `dtype`; the cast is recorded once. */
  cast(value: GraphValue, dtype: DType): GraphValue {
    if (value.dtype === dtype) return value;
    const known = value.casts.get(dtype);
    if (known) return known;
    const attributes = [attr.type('SrcT', value.dtype), attr.type('DstT', dtype)];
    const cast = this.add('Cast', [value], attributes, 1).outputs[0]!;
    value.casts.set(dtype, cast);
    return cast;
  }

  /** `value` in float32 if it is bfloat16, else as it is. */
  inFull(value: GraphValue): GraphValue {
    return value.dtype === DType.bfloat16 ? this.cast(value, DType.float32) : value;
  }

  #output(type: string, output: NodeOutput): GraphValue {
    const dtype = this.builder.typeOf(output);
    const shape = this.builder.shapeOf(output);
    if (shape) return new GraphValue(this, output, dtype, shape);
    if (output.index === WORKSPACE_OUTPUT[type] || dtype === DType.resource)
      return new GraphValue(this, output, dtype, []);
    const message =
      `recording ${type}${placeInUserCode()}: its output has a shape that is known only when it runs; a recorded step has fixed shapes. ` +
      'Use tf.where, or move it out of the step.';
    throw new DtrainError('DTRAIN_UNSUPPORTED', ExitCode.configuration, message);
  }

  [Symbol.dispose](): void {
    this.builder[Symbol.dispose]();
  }
}

/** Strings and int64: they are never long and uniform. */
function isOdd(values: HostValues): values is Exclude<HostValues, Values> {
  return Array.isArray(values) || values instanceof BigInt64Array;
}

/** `Conv2D [8,32,32,3] [3,3,3,16] → [8,32,32,16] float32`, a line an operation. */
export function recordingText(operations: readonly RecordedOperation[]): string {
  return operations
    .map(({ type, inputShapes, outputShapes, dtype }) =>
      [type, ...inputShapes.map(shapeText), '→', ...outputShapes.map(shapeText), dtype].join(' '),
    )
    .join('\n');
}
