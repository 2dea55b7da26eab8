/**
 * Tensors on devices, owned.
 *
 * Idea: a TensorHandle owns one TFE_TensorHandle; `using` or a Scope ends it. Live handles are counted, and tests see that the count
 * returns to where it was.
 * Must stay true: only the thread that made a handle uses it; a disposed handle throws on use.
 */
import { internalError } from '../core/errors.js';
import { type Shape, shapeText, sizeOf } from '../core/shape.js';
import { ALIGNMENT_BYTES } from '../core/shared-memory.js';
import { int64s } from './attribute.js';
import type { Pointer } from './c-api.js';
import { DType, dtypeOf, type HostValues, type Values } from './dtype.js';
import { type Device, deviceNamed, type Runtime } from './runtime.js';

let live = 0;

/** Handles of this thread that are not disposed. */
export function liveHandles(): number {
  return live;
}

export class TensorHandle {
  readonly #runtime: Runtime;
  #pointer: Pointer | undefined;

  /** Takes ownership of `pointer`. */
  constructor(runtime: Runtime, pointer: Pointer) {
    this.#runtime = runtime;
    this.#pointer = pointer;
    live++;
  }

  get pointer(): Pointer {
    if (this.#pointer === undefined) throw internalError('a tensor handle was used after it was disposed');
    return this.#pointer;
  }

  get shape(): number[] {
    const { c, status } = this.#runtime;
    const rank = c.TFE_TensorHandleNumDims(this.pointer, status.pointer);
    return Array.from({ length: rank }, (_, axis) => Number(c.TFE_TensorHandleDim(this.pointer, axis, status.pointer)));
  }

  get dtype(): DType {
    return this.#runtime.c.TFE_TensorHandleDataType(this.pointer) as DType;
  }

  /** `/device:CPU:1` */
  get deviceName(): string {
    const { c, status } = this.#runtime;
    const name = c.TFE_TensorHandleDeviceName(this.pointer, status.pointer);
    return name.slice(name.indexOf('/device:'));
  }

  /** Where the elements are, on the device; to see that an update was made in place. */
  get address(): Pointer {
    const { c, status } = this.#runtime;
    const address = c.TFE_TensorHandleDevicePointer(this.pointer, status.pointer);
    status.check(() => 'TFE_TensorHandleDevicePointer');
    return address;
  }

  /** Copies all elements into `target` (of the same size in bytes) and returns it; waits for the device. */
  readInto<T extends ArrayBufferView>(target: T): T {
    const { c, status, native } = this.#runtime;
    const tensor = c.TFE_TensorHandleResolve(this.pointer, status.pointer);
    status.check(() => 'TFE_TensorHandleResolve');
    const bytes = Number(c.TF_TensorByteSize(tensor));
    const fits = bytes === target.byteLength;
    if (fits) native.copyBytes(target, c.TF_TensorData(tensor), bytes);
    c.TF_DeleteTensor(tensor);
    if (!fits) throw internalError(`a tensor of ${bytes} bytes was read into an array of ${target.byteLength}`);
    return target;
  }

  /** Copies the tensor, cut into equal rows, into `rows`; waits for the device. */
  readRowsInto(rows: readonly ArrayBufferView[]): void {
    const { c, status, native } = this.#runtime;
    const tensor = c.TFE_TensorHandleResolve(this.pointer, status.pointer);
    status.check(() => 'TFE_TensorHandleResolve');
    const data = c.TF_TensorData(tensor);
    const bytes = Number(c.TF_TensorByteSize(tensor));
    const fits = bytes === rows.reduce((sum, { byteLength }) => sum + byteLength, 0);
    let at = 0;
    for (const row of fits ? rows : []) {
      native.copyBytes(row, data + BigInt(at), row.byteLength);
      at += row.byteLength;
    }
    c.TF_DeleteTensor(tensor);
    if (!fits) throw internalError(`a tensor of ${bytes} bytes was read into ${rows.length} rows of another size`);
  }

  /** The elements as a new array of the fitting class. */
  read(): Values {
    const size = sizeOf(this.shape);
    if (this.dtype === DType.float32) return this.readInto(new Float32Array(size));
    if (this.dtype === DType.int32) return this.readInto(new Int32Array(size));
    return this.readInto(new Uint8Array(size));
  }

  /** The same for every element type that tfjs has, and int64. */
  readAll(): HostValues {
    const size = sizeOf(this.shape);
    if (this.dtype === DType.string) return this.#readStrings(size);
    if (this.dtype === DType.complex64) return this.readInto(new Float32Array(2 * size));
    return this.dtype === DType.int64 ? this.readInto(new BigInt64Array(size)) : this.read();
  }

  #readStrings(size: number): Uint8Array[] {
    const { c, status, native } = this.#runtime;
    const tensor = c.TFE_TensorHandleResolve(this.pointer, status.pointer);
    status.check(() => 'TFE_TensorHandleResolve');
    const first = c.TF_TensorData(tensor);
    const strings = Array.from({ length: size }, (_, i) => {
      const string = first + BigInt(i * STRING_BYTES);
      const bytes = new Uint8Array(Number(c.TF_StringGetSize(string)));
      if (bytes.length > 0) native.copyBytes(bytes, c.TF_StringGetDataPointer(string), bytes.length);
      return bytes;
    });
    c.TF_DeleteTensor(tensor);
    return strings;
  }

  /** The same tensor on `device`, as a handle of its own; on CPU devices it shares the memory. */
  copyTo(device: Device): TensorHandle {
    const { c, status, context } = this.#runtime;
    const pointer = c.TFE_TensorHandleCopyToDevice(this.pointer, context, device.fullName, status.pointer);
    status.check(() => `TFE_TensorHandleCopyToDevice to ${device.name}`);
    return new TensorHandle(this.#runtime, pointer);
  }

  [Symbol.dispose](): void {
    if (this.#pointer === undefined) return;
    this.#runtime.c.TFE_DeleteTensorHandle(this.#pointer);
    this.#pointer = undefined;
    live--;
  }
}

/** A new tensor on the named device, with a copy of `values`. */
export function tensorFrom(
  runtime: Runtime,
  device: string,
  values: HostValues,
  shape: Shape,
  dtype: DType = dtypeOf(values as Values),
): TensorHandle {
  return placed(runtime, deviceNamed(runtime, device), newTensor(runtime, values, shape, dtype));
}

/** A TF_Tensor with a copy of `values`; the caller deletes it. */
export function newTensor(runtime: Runtime, values: HostValues, shape: Shape, dtype: DType): Pointer {
  const size = sizeOf(shape) * (dtype === DType.complex64 ? 2 : 1);
  if (values.length !== size) {
    throw internalError(`${values.length} values do not fill a tensor of shape ${shapeText(shape)}`);
  }
  if (isStrings(values)) return newStrings(runtime, values, shape);
  const { c, native } = runtime;
  const tensor = c.TF_AllocateTensor(dtype, int64s(shape), shape.length, values.byteLength);
  if (values.byteLength > 0) native.copyBytes(c.TF_TensorData(tensor), values, values.byteLength);
  return tensor;
}

/** Size of TF_TString. */
const STRING_BYTES = 24;

function isStrings(values: HostValues): values is readonly Uint8Array[] {
  return Array.isArray(values);
}

/** TensorFlow frees what a string of more than 22 bytes holds with the process only: it does not know that the strings are ours. */
function newStrings({ c }: Runtime, values: readonly Uint8Array[], shape: Shape): Pointer {
  const tensor = c.TF_AllocateTensor(DType.string, int64s(shape), shape.length, values.length * STRING_BYTES);
  const first = c.TF_TensorData(tensor);
  for (const [i, bytes] of values.entries()) {
    const string = first + BigInt(i * STRING_BYTES);
    c.TF_StringInit(string);
    c.TF_StringCopy(string, bytes, bytes.length);
  }
  return tensor;
}

/**
 * A tensor that is `values`' own memory: what JavaScript writes there later, TensorFlow reads. On CPU devices nothing is copied.
 * Borrows `values`, which must start at a multiple of 64 bytes and outlive the handle.
 */
export function tensorOver(runtime: Runtime, device: string, values: Values, shape: Shape): TensorHandle {
  const { c, native } = runtime;
  const target = deviceNamed(runtime, device);
  if (native.addressOf(values) % BigInt(ALIGNMENT_BYTES) !== 0n) {
    throw internalError(
      `memory that TensorFlow is to read in place must start at a multiple of ${ALIGNMENT_BYTES} bytes`,
    );
  }
  if (values.length !== sizeOf(shape)) {
    throw internalError(`${values.length} values do not fill a tensor of shape ${shapeText(shape)}`);
  }
  const dims = int64s(shape);
  const dtype = dtypeOf(values);
  const tensor = c.TF_NewTensor(dtype, dims, shape.length, values, values.byteLength, native.doNothing, null);
  return placed(runtime, target, tensor);
}

/** Takes ownership of `tensor`. int32 tensors and strings stay in host memory, where TensorFlow's functions expect them on every device. */
function placed(runtime: Runtime, device: Device, tensor: Pointer): TensorHandle {
  const { c, status } = runtime;
  const pointer = c.TFE_NewTensorHandle(tensor, status.pointer);
  c.TF_DeleteTensor(tensor);
  status.check(() => 'TFE_NewTensorHandle');
  const onHost = new TensorHandle(runtime, pointer);
  if (device.name === HOST_DEVICE || onHost.dtype === DType.int32 || onHost.dtype === DType.string) return onHost;
  using host = onHost;
  return host.copyTo(device);
}

/** Tensors made from host memory begin here. */
export const HOST_DEVICE = '/device:CPU:0';
