/**
 * A TensorFlow graph under construction, which ends as a function of the process's context.
 *
 * Idea: add operations one by one; TensorFlow infers each output's shape and type at once, so the caller can go on as if the values
 * were there. `finish` turns the graph into a function that any thread may run on any device.
 * Owns the graph until disposed. One thread only.
 */
import { type Shape, shapeText } from '../core/shape.js';
import { type Attribute, attr, int64s, setAttribute } from './attribute.js';
import type { NodeOutput, Pointer } from './c-api.js';
import type { DType, HostValues } from './dtype.js';
import type { Runtime } from './runtime.js';
import { newTensor } from './tensor-handle.js';

export type { NodeOutput } from './c-api.js';

/** An operation of the graph; only compared and passed back. */
export type Operation = Pointer;

export interface FunctionSignature {
  readonly name: string;
  readonly inputs: readonly NodeOutput[];
  readonly outputs: readonly NodeOutput[];
  /** Operations that must run although no output depends on them: updates of variables. */
  readonly effects: readonly Operation[];
}

export class GraphBuilder {
  readonly #runtime: Runtime;
  readonly #graph: Pointer;
  #size = 0;
  #disposed = false;

  constructor(runtime: Runtime) {
    this.#runtime = runtime;
    this.#graph = runtime.c.TF_NewGraph();
  }

  /** Number of operations. */
  get size(): number {
    return this.#size;
  }

  /** Adds an operation; a list among the inputs is a list input (its length attribute is inferred and must not be given). */
  add(
    type: string,
    inputs: readonly (NodeOutput | readonly NodeOutput[])[],
    attributes: readonly Attribute[] = [],
    after: readonly Operation[] = [],
  ): Operation {
    const { c, status } = this.#runtime;
    const description = c.TF_NewOperation(this.#graph, type, `${type}_${this.#size++}`);
    for (const input of inputs) {
      if ('oper' in input) c.TF_AddInput(description, input);
      else c.TF_AddInputList(description, input, input.length);
    }
    for (const operation of after) c.TF_AddControlInput(description, operation);
    for (const attribute of attributes) setAttribute(this.#runtime, 'TF_SetAttr', description, attribute);
    const operation = c.TF_FinishOperation(description, status.pointer);
    status.check(() => `recording ${type}`);
    return operation;
  }

  constant(values: HostValues, shape: Shape, dtype: DType): NodeOutput {
    const tensor = newTensor(this.#runtime, values, shape, dtype);
    try {
      return { oper: this.add('Const', [], [attr.type('dtype', dtype), attr.tensor('value', tensor)]), index: 0 };
    } finally {
      this.#runtime.c.TF_DeleteTensor(tensor);
    }
  }

  /** The shape that TensorFlow inferred; undefined where an extent or the rank is not known before it runs. */
  shapeOf(output: NodeOutput): number[] | undefined {
    const { c, status } = this.#runtime;
    const rank = c.TF_GraphGetTensorNumDims(this.#graph, output, status.pointer);
    status.check(() => 'TF_GraphGetTensorNumDims');
    if (rank < 0) return undefined;
    const dims = new BigInt64Array(rank);
    if (rank > 0) c.TF_GraphGetTensorShape(this.#graph, output, dims, rank, status.pointer);
    status.check(() => 'TF_GraphGetTensorShape');
    return dims.some((extent) => extent < 0n) ? undefined : Array.from(dims, Number);
  }

  /** States a shape that TensorFlow cannot infer, for instance that of a variable behind a handle. */
  setShape(output: NodeOutput, shape: Shape): void {
    const { c, status } = this.#runtime;
    c.TF_GraphSetTensorShape(this.#graph, output, int64s(shape), shape.length, status.pointer);
    status.check(() => `TF_GraphSetTensorShape ${shapeText(shape)}`);
  }

  typeOf(output: NodeOutput): DType {
    return this.#runtime.c.TF_OperationOutputType(output) as DType;
  }

  /** Registers the graph as function `name` of the context. */
  finish({ name, inputs, outputs, effects }: FunctionSignature): void {
    const { c, status, context } = this.#runtime;
    const controls = BigUint64Array.from(effects);
    // biome-ignore format: one C call, arguments in C's order
    const fn = c.TF_GraphToFunctionWithControlOutputs(this.#graph, name, 0, -1, null, inputs.length, inputs, outputs.length, outputs, null, controls.length, controls, null, null, null, status.pointer);
    status.check(() => `making function ${name}`);
    c.TFE_ContextAddFunction(context, fn, status.pointer);
    c.TF_DeleteFunction(fn);
    status.check(() => `adding function ${name}`);
  }

  [Symbol.dispose](): void {
    if (!this.#disposed) this.#runtime.c.TF_DeleteGraph(this.#graph);
    this.#disposed = true;
  }
}
