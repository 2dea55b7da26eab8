/**
 * The TFJSBinding that tfjs-node-gpu's kernels call, over TensorFlow's C library, with two modes.
 *
 * Idea: in eager mode `executeOp` runs an operation now; while recording it adds a node to a graph, so the forward pass and tfjs's
 * own autograd become one function. Values uploaded from JavaScript are kept as they are and become a tensor or a constant where
 * they are first used, so one tfjs tensor serves eagerly and in any number of recordings.
 * Must stay true: reading a value of a recording is an error; a value of one recording never appears in another.
 */
import { DtrainError, ExitCode, internalError } from '../core/errors.js';
import { type Shape, shapeText, sizeOf } from '../core/shape.js';
import { type Attribute, AttributeType } from '../tensorflow/attribute.js';
import { DType, type HostValues } from '../tensorflow/dtype.js';
import { execute } from '../tensorflow/execute.js';
import { TENSORFLOW_VERSION } from '../tensorflow/install-manifest.js';
import type { Runtime } from '../tensorflow/runtime.js';
import { TensorHandle, tensorFrom } from '../tensorflow/tensor-handle.js';
import { GraphValue } from './graph-value.js';
import { withoutRandom } from './random-source.js';
import type { Recording } from './recording.js';
import type { TensorMetadata } from './tfjs.js';
import { placeInUserCode } from './user-code.js';

/** Values from JavaScript, with what they became so far. */
interface HostValue {
  readonly values: HostValues;
  readonly shape: Shape;
  readonly dtype: DType;
  handle?: TensorHandle;
  constant?: GraphValue;
}

type Entry = HostValue | TensorHandle | GraphValue;

export class Binding {
  readonly TF_FLOAT = DType.float32;
  readonly TF_INT32 = DType.int32;
  readonly TF_INT64 = DType.int64;
  readonly TF_BOOL = DType.bool;
  readonly TF_COMPLEX64 = DType.complex64;
  readonly TF_STRING = DType.string;
  readonly TF_RESOURCE = DType.resource;
  readonly TF_UINT8 = DType.uint8;
  readonly TF_ATTR_STRING = AttributeType.string;
  readonly TF_ATTR_INT = AttributeType.int;
  readonly TF_ATTR_FLOAT = AttributeType.float;
  readonly TF_ATTR_BOOL = AttributeType.bool;
  readonly TF_ATTR_TYPE = AttributeType.type;
  readonly TF_ATTR_SHAPE = AttributeType.shape;
  readonly TF_ATTR_RESOURCE = 99;
  readonly TF_Version = TENSORFLOW_VERSION;

  readonly #runtime: Runtime;
  /** Where eager operations run. */
  readonly device: string;
  readonly #entries = new Map<number, Entry>();
  #nextId = 0;
  #recording: Recording | undefined;

  constructor(runtime: Runtime, device: string) {
    this.#runtime = runtime;
    this.device = device;
  }

  isUsingGpuDevice(): boolean {
    return this.device.includes('GPU');
  }

  getNumOfTensors(): number {
    return this.#entries.size;
  }

  /** The recording that operations go to, or undefined in eager mode. */
  get recording(): Recording | undefined {
    return this.#recording;
  }

  /** Runs `build` with every tfjs call going into `recording`. */
  recordInto<T>(recording: Recording, build: () => T): T {
    if (this.#recording) throw internalError('a recording began inside another');
    this.#recording = recording;
    try {
      return withoutRandom(build);
    } finally {
      this.#recording = undefined;
    }
  }

  createTensor(shape: number[], dtype: number | string, values: unknown): number {
    return this.#keep(hostValue(shape, dtype, values));
  }

  deleteTensor(id: number): void {
    const entry = this.#entries.get(id);
    this.#entries.delete(id);
    if (entry instanceof TensorHandle) entry[Symbol.dispose]();
    else if (entry && 'values' in entry) entry.handle?.[Symbol.dispose]();
  }

  tensorDataSync(id: number): HostValues {
    const entry = this.#find(id);
    if (entry instanceof GraphValue) throw readWhileRecording();
    return entry instanceof TensorHandle ? entry.readAll() : entry.values;
  }

  /** Called by tfjs for every kernel. */
  executeOp(
    type: string,
    attributes: readonly Attribute[],
    ids: readonly number[],
    numOutputs: number,
  ): TensorMetadata[] {
    return this.#recording
      ? this.#record(this.#recording, type, attributes, ids, numOutputs)
      : this.#executeNow(type, attributes, ids, numOutputs);
  }

  /** A value of the current recording as a tfjs id. */
  describe(value: GraphValue): TensorMetadata {
    const dtype = value.dtype === DType.bfloat16 ? DType.float32 : value.dtype; // tfjs knows no bfloat16
    return { id: this.#keep(value), shape: [...value.shape], dtype };
  }

  /** The value of the current recording behind a tfjs id; values from JavaScript become constants. */
  graphValue(id: number): GraphValue {
    const recording = this.#recording;
    if (!recording) throw internalError('a graph value was asked for outside of a recording');
    const entry = this.#find(id);
    if (entry instanceof GraphValue) {
      if (entry.recording !== recording) throw foreignValue();
      return entry;
    }
    if (entry instanceof TensorHandle) return recording.constant(entry.readAll(), entry.shape, entry.dtype);
    const standIn = recording.standIn(entry.values);
    if (standIn) return standIn;
    if (entry.constant?.recording !== recording) {
      entry.constant = recording.constant(entry.values, entry.shape, entry.dtype);
    }
    return entry.constant;
  }

  /** The tensor behind a tfjs id, for a function that runs eagerly. Borrowed. */
  handle(id: number): TensorHandle {
    return this.#handle(id);
  }

  /** An output of such a function as a tfjs id; takes ownership. */
  adopt(handle: TensorHandle): TensorMetadata {
    return { id: this.#keep(handle), shape: handle.shape, dtype: handle.dtype };
  }

  loadSavedModel(): never {
    throw unsupported('loadSavedModel');
  }
  runSavedModel(): never {
    throw unsupported('runSavedModel');
  }
  deleteSavedModel(): never {
    throw unsupported('deleteSavedModel');
  }
  getNumOfSavedModels(): number {
    return 0;
  }

  #record(
    recording: Recording,
    type: string,
    attributes: readonly Attribute[],
    ids: readonly number[],
    numOutputs: number,
  ): TensorMetadata[] {
    const inputs = ids.map((id) => this.graphValue(id));
    return recording.addKernel(type, inputs, attributes, numOutputs).map((value) => this.describe(value));
  }

  #executeNow(
    name: string,
    attributes: readonly Attribute[],
    ids: readonly number[],
    numOutputs: number,
  ): TensorMetadata[] {
    const inputs = ids.map((id) => this.#handle(id));
    const outputs = execute(this.#runtime, { name, inputs, attributes, device: this.device, numOutputs });
    return outputs.map((handle) => this.adopt(handle));
  }

  #handle(id: number): TensorHandle {
    const entry = this.#find(id);
    if (entry instanceof GraphValue) throw foreignValue();
    if (entry instanceof TensorHandle) return entry;
    entry.handle ??= tensorFrom(this.#runtime, this.device, entry.values, entry.shape, entry.dtype);
    return entry.handle;
  }

  #keep(entry: Entry): number {
    this.#entries.set(++this.#nextId, entry);
    return this.#nextId;
  }

  #find(id: number): Entry {
    const entry = this.#entries.get(id);
    if (!entry) throw internalError(`tfjs used tensor ${id}, which does not exist`);
    return entry;
  }
}

const TFJS_DTYPES: Readonly<Record<string, DType>> = {
  float32: DType.float32,
  int32: DType.int32,
  bool: DType.bool,
  complex64: DType.complex64,
  string: DType.string,
};

function hostValue(shape: Shape, dtype: number | string, values: unknown): HostValue {
  const known = typeof dtype === 'string' ? TFJS_DTYPES[dtype] : (dtype as DType);
  const array = known === undefined ? undefined : valuesOf(values, known);
  const size = sizeOf(shape) * (known === DType.complex64 ? 2 : 1);
  if (known === undefined || array === undefined || array.length !== size) {
    throw new Error(
      `a tensor of dtype ${dtype} and shape ${shapeText(shape)} cannot be made of ${array ? array.length : typeof values} values`,
    );
  }
  return { values: array, shape, dtype: known };
}

/** tfjs hands over typed arrays, plain arrays of numbers and booleans, the bytes of strings, and an int64 as two 32-bit halves. */
function valuesOf(values: unknown, dtype: DType): HostValues | undefined {
  if (dtype === DType.int64 && values instanceof Int32Array) return new BigInt64Array(values.slice().buffer);
  if (dtype === DType.string) return stringBytes(values);
  if (values instanceof Float32Array || values instanceof Int32Array || values instanceof Uint8Array) return values;
  if (!Array.isArray(values)) return undefined;
  if (dtype === DType.float32 || dtype === DType.complex64) return Float32Array.from(values as number[]);
  return dtype === DType.int32 ? Int32Array.from(values as number[]) : Uint8Array.from(values as number[]);
}

function stringBytes(values: unknown): Uint8Array[] | undefined {
  if (!Array.isArray(values)) return undefined;
  return (values as (string | Uint8Array)[]).map((value) => (typeof value === 'string' ? Buffer.from(value) : value));
}

function readWhileRecording(): DtrainError {
  const message =
    `recording step: a value is read with dataSync(), data(), array() or print()${placeInUserCode()}; ` +
    'a recorded step has no values yet. Use tf.where, or move the read out of the step.';
  return new DtrainError('DTRAIN_READ_WHILE_RECORDING', ExitCode.configuration, message);
}

function foreignValue(): DtrainError {
  const message =
    'recording step: a tensor of another recording is used. Make it inside the step, or read it before with dataSync().';
  return new DtrainError('DTRAIN_FOREIGN_TENSOR', ExitCode.configuration, message);
}

function unsupported(what: string): DtrainError {
  return new DtrainError(
    'DTRAIN_UNSUPPORTED',
    ExitCode.usage,
    `${what}: dtrain does not run SavedModels through tfjs.`,
  );
}
