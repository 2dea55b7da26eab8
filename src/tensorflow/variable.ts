/**
 * Variables: tensors on a device that operations change in place.
 * Owns its resource handle. One thread, one device; recorded functions take the handle as an input.
 */
import type { Shape } from '../core/shape.js';
import { attr } from './attribute.js';
import { DType, type Values } from './dtype.js';
import { execute } from './execute.js';
import { deviceNamed, type Runtime } from './runtime.js';
import { type TensorHandle, tensorFrom } from './tensor-handle.js';

/** Without this reserved name (ResourceHandle::ANONYMOUS_NAME) all variables of one device would be one and the same. */
const ANONYMOUS = 'cd2c89b7-88b7-44c8-ad83-06c2a9158347';
const DTYPE = attr.type('dtype', DType.float32);

/** A float32 variable. */
export class Variable {
  readonly #runtime: Runtime;
  readonly #device: string;
  readonly shape: Shape;
  /** The resource handle, an input of recorded functions, in host memory where they expect it. Owned by the variable. */
  readonly handle: TensorHandle;
  /** The same handle on the variable's device, where single operations expect it. */
  readonly #handleOnDevice: TensorHandle;

  constructor(runtime: Runtime, device: string, values: Values, shape: Shape) {
    this.#runtime = runtime;
    this.#device = device;
    this.shape = shape;
    const attributes = [DTYPE, attr.shape('shape', shape), attr.string('shared_name', ANONYMOUS)];
    const target = deviceNamed(runtime, device);
    this.handle = execute(runtime, { name: 'VarHandleOp', inputs: [], attributes, device, numOutputs: 1 })[0]!;
    this.#handleOnDevice = this.handle.copyTo(target);
    try {
      this.assign(values);
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  assign(values: Values): void {
    using value = tensorFrom(this.#runtime, this.#device, values, this.shape);
    this.#execute('AssignVariableOp', [this.#handleOnDevice, value], 0);
  }

  /** The current value, owned by the caller. Dispose it before the next update, or that update has to copy. */
  value(): TensorHandle {
    return this.#execute('ReadVariableOp', [this.#handleOnDevice], 1)[0]!;
  }

  /** Copies the current value into `target`. */
  readInto(target: Float32Array): Float32Array {
    using value = this.value();
    return value.readInto(target);
  }

  #execute(name: string, inputs: readonly TensorHandle[], numOutputs: number): TensorHandle[] {
    return execute(this.#runtime, { name, inputs, attributes: [DTYPE], device: this.#device, numOutputs });
  }

  [Symbol.dispose](): void {
    this.handle[Symbol.dispose]();
    this.#handleOnDevice[Symbol.dispose]();
  }
}
