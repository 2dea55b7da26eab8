/**
 * tfjs on TensorFlow's C library in this thread: eager, or recorded into compiled functions.
 *
 * Idea: `recordFunction` gives `build` tfjs tensors that stand for the inputs, lets it call any tfjs code, and turns what was called
 * into one TensorFlow function; the result is plain data that any thread of the process can run on its own device.
 * Must stay true: random numbers, learning rates and everything else that changes from step to step are inputs; a recording freezes
 * whatever JavaScript computed.
 */
import { internalError } from '../core/errors.js';
import type { Shape } from '../core/shape.js';
import { type Attribute, attr } from '../tensorflow/attribute.js';
import { DType } from '../tensorflow/dtype.js';
import { execute } from '../tensorflow/execute.js';
import type { Operation } from '../tensorflow/graph-builder.js';
import type { Runtime } from '../tensorflow/runtime.js';
import { Binding } from './binding.js';
import { installFilterGradient } from './filter-gradient.js';
import { installFusedOps } from './fused-ops.js';
import { GraphValue } from './graph-value.js';
import { installLayerHooks } from './layer-hooks.js';
import { installOverrides } from './overrides.js';
import { installRandomOps } from './random-ops.js';
import { installRecordedOptimizers } from './recorded-optimizers.js';
import { type Precision, type RecordedNode, type RecordedOperation, Recording } from './recording.js';
import { type NodeBackend, registerBackend, type Tensor, tf } from './tfjs.js';

/** An input of a recorded function. A variable's value is read once, at the start. */
export type InputSpec =
  | { readonly kind: 'tensor'; readonly shape: Shape; readonly dtype: DType }
  | { readonly kind: 'variable'; readonly shape: Shape };

/** What `build` gets for an input. `value()` is a tfjs tensor (float32, int32, bool); `raw` is the graph's own value. */
export interface RecordedInput {
  readonly shape: Shape;
  readonly raw: GraphValue;
  value(): Tensor;
}

export interface Built {
  /** Outputs of the function, in order; tensors that are bfloat16 leave as float32, the graph's own values as they are. */
  readonly outputs: readonly (Tensor | GraphValue)[];
  /** Operations that must run though nothing depends on them. */
  readonly effects?: readonly Operation[];
  /** Inputs that came up while recording (see lateInput), in the order in which they follow the others. */
  readonly lateInputs?: readonly GraphValue[];
}

/** A function of the process's context: a name to execute, and what was recorded, as data. */
export interface CompiledFunction {
  readonly name: string;
  readonly numInputs: number;
  readonly numOutputs: number;
  readonly operations: readonly RecordedOperation[];
}

export interface RecordOptions {
  readonly name: string;
  readonly precision: Precision;
}

export class Engine {
  readonly runtime: Runtime;
  readonly #binding: Binding;
  readonly #backend: NodeBackend;

  /** Use startEngine. */
  constructor(runtime: Runtime, binding: Binding, backend: NodeBackend) {
    this.runtime = runtime;
    this.#binding = binding;
    this.#backend = backend;
  }

  /** Tensors that tfjs holds in this thread; tests see that the count returns to where it was. */
  get liveTensors(): number {
    return this.#binding.getNumOfTensors();
  }

  /**
   * Records what `build` calls and registers it as function `name`.
   * @throws DTRAIN_READ_WHILE_RECORDING when tfjs code reads a value; DTRAIN_TENSORFLOW when TensorFlow refuses an operation.
   */
  recordFunction(
    { name, precision }: RecordOptions,
    inputs: readonly InputSpec[],
    build: (inputs: readonly RecordedInput[]) => Built,
  ): CompiledFunction {
    using recording = new Recording(this.runtime, precision);
    const placeholders = inputs.map((spec) => this.#placeholder(recording, spec));
    let numOutputs = 0;
    let numInputs = 0;
    const finish = () => {
      const { outputs, effects = [], lateInputs = [] } = build(placeholders.map(({ recorded }) => recorded));
      numOutputs = outputs.length;
      numInputs = inputs.length + lateInputs.length;
      recording.builder.finish({
        name,
        inputs: [...placeholders.map(({ placeholder }) => placeholder), ...lateInputs].map(({ output }) => output),
        outputs: outputs.map((output) =>
          output instanceof GraphValue ? output.output : recording.inFull(this.graphValue(output)).output,
        ),
        effects,
      });
    };
    this.#binding.recordInto(recording, () => tf.tidy(finish));
    return { name, numInputs, numOutputs, operations: recording.operations };
  }

  /** What `build` calls, as data, without making a function of it. */
  trace(build: () => void, precision: Precision = 'float32'): readonly RecordedOperation[] {
    using recording = new Recording(this.runtime, precision);
    this.#binding.recordInto(recording, () => tf.tidy(build));
    return recording.operations;
  }

  /** What `build` calls, with what each operation reads and writes; `build` returns the result, whose value comes back with the nodes. */
  traceNodes(build: () => Tensor): { readonly nodes: readonly RecordedNode[]; readonly result: GraphValue } {
    using recording = new Recording(this.runtime, 'float32');
    let result: GraphValue | undefined;
    const run = () => {
      result = this.graphValue(build());
    };
    this.#binding.recordInto(recording, () => tf.tidy(run));
    return { nodes: recording.nodes, result: result! };
  }

  /** Adds an operation that tfjs has no kernel for; inputs may be tfjs tensors. Only while recording. */
  operation(
    type: string,
    inputs: readonly (Tensor | GraphValue)[],
    attributes: readonly Attribute[],
    numOutputs: number,
  ): { operation: Operation; outputs: GraphValue[] } {
    const recording = this.#currentRecording();
    const values = inputs.map((input) => {
      const value = input instanceof GraphValue ? input : this.graphValue(input);
      return recording.inFull(value);
    });
    return recording.add(type, values, attributes, numOutputs);
  }

  /** The value of a variable as it is after the operations `after`, which change it. */
  readAgain(variable: RecordedInput, after: readonly Operation[]): Tensor {
    return this.tensor(this.#read(this.#currentRecording(), variable.raw, variable.shape, after));
  }

  /** Whether tfjs's calls are being recorded. */
  get isRecording(): boolean {
    return this.#binding.recording !== undefined;
  }

  /** Undefined where nothing is being recorded. */
  get recordedPrecision(): Precision | undefined {
    return this.#binding.recording?.precision;
  }

  /** An input that comes up while recording; `build` hands it back among its `lateInputs`. */
  lateInput(shape: Shape, dtype: DType): RecordedInput {
    return this.#placeholder(this.#currentRecording(), { kind: 'tensor', shape, dtype }).recorded;
  }

  /** Whether an operation of the current recording reads `value`. */
  isRead(value: GraphValue): boolean {
    return this.#currentRecording().nodes.some(({ inputs }) => inputs.includes(value));
  }

  /** A number for JavaScript to compute with that stands for `input` (see Recording.standInFor). */
  standInFor(input: RecordedInput): number {
    return this.#currentRecording().standInFor(input.raw);
  }

  /** Runs a recorded function now, on this thread's device. Borrows the inputs; the outputs are tfjs's like those of any operation. */
  call({ name, numOutputs }: CompiledFunction, inputs: readonly Tensor[]): Tensor[] {
    const ids = this.#backend.getInputTensorIds(inputs);
    const handles = ids.map((id) => this.#binding.handle(id));
    const outputs = execute(this.runtime, { name, inputs: handles, device: this.#binding.device, numOutputs });
    return outputs.map((handle) => this.#backend.createOutputTensor(this.#binding.adopt(handle)));
  }

  /** A placeholder of the current recording, for shapes without values. */
  placeholder(shape: Shape): Tensor {
    const recording = this.#currentRecording();
    return this.#placeholder(recording, { kind: 'tensor', shape, dtype: DType.float32 }).recorded.value();
  }

  /** A value of the current recording as a tfjs tensor. */
  tensor(value: GraphValue): Tensor {
    return this.#backend.createOutputTensor(this.#binding.describe(value));
  }

  /** The value of the current recording behind a tfjs tensor. */
  graphValue(tensor: Tensor): GraphValue {
    const [id] = this.#backend.getInputTensorIds([tensor]);
    return this.#binding.graphValue(id!);
  }

  #currentRecording(): Recording {
    const { recording } = this.#binding;
    if (!recording) throw internalError('an operation was to be recorded outside of a recording');
    return recording;
  }

  #placeholder(recording: Recording, spec: InputSpec): { placeholder: GraphValue; recorded: RecordedInput } {
    const type = attr.type('dtype', spec.kind === 'variable' ? DType.resource : spec.dtype);
    const shape = spec.kind === 'variable' ? [] : [attr.shape('shape', spec.shape)];
    const placeholder = recording.add('Placeholder', [], [type, ...shape], 1).outputs[0]!;
    if (spec.kind === 'tensor') {
      return { placeholder, recorded: { shape: spec.shape, raw: placeholder, value: () => this.tensor(placeholder) } };
    }
    let value: Tensor | undefined;
    return {
      placeholder,
      recorded: {
        shape: spec.shape,
        raw: placeholder,
        value: () => (value ??= this.tensor(this.#read(recording, placeholder, spec.shape))),
      },
    };
  }

  /** The value of a variable; its shape is stated, since a handle does not tell it. */
  #read(recording: Recording, handle: GraphValue, shape: Shape, after: readonly Operation[] = []): GraphValue {
    const read = {
      oper: recording.builder.add('ReadVariableOp', [handle.output], [attr.type('dtype', DType.float32)], after),
      index: 0,
    };
    recording.builder.setShape(read, shape);
    recording.operations.push({ type: 'ReadVariableOp', inputShapes: [], outputShapes: [shape], dtype: 'float32' });
    return new GraphValue(recording, read, DType.float32, shape);
  }
}

let current: Engine | undefined;

/** This thread's engine; undefined before it was started. */
export function currentEngine(): Engine | undefined {
  return current;
}

/**
 * Makes this thread's tfjs compute on `device` (eagerly) and record for any device of the runtime. There is one engine a thread, since
 * there is one tfjs; for another runtime it is replaced.
 */
export function startEngine(runtime: Runtime, device: string): Engine {
  if (current?.runtime.context === runtime.context) return current;
  const isFirst = current === undefined;
  const binding = new Binding(runtime, device);
  current = new Engine(runtime, binding, registerBackend(binding));
  if (isFirst) {
    installFusedOps();
    const isRecording = () => current!.isRecording;
    installOverrides(isRecording);
    installFilterGradient(() => current!.recordedPrecision === 'bfloat16');
    installRandomOps(isRecording);
    installLayerHooks();
    installRecordedOptimizers();
  }
  return current;
}
