/** Running one operation, or one recorded function, on a named device. */
import { type Attribute, setAttribute } from './attribute.js';
import type { Pointer } from './c-api.js';
import type { Runtime } from './runtime.js';
import { TensorHandle } from './tensor-handle.js';

export interface Execution {
  /** An operation's type or a function's name. */
  readonly name: string;
  /** In order; a list among them is a list input. Borrowed. */
  readonly inputs: readonly (TensorHandle | readonly TensorHandle[])[];
  readonly attributes?: readonly Attribute[];
  /** `/device:GPU:2`; a resource among the inputs overrides it. */
  readonly device: string;
  readonly numOutputs: number;
}

/**
 * Runs it and returns the outputs, owned by the caller. Blocks until a CPU device is done; a GPU may still be working.
 * @throws DTRAIN_TENSORFLOW, DTRAIN_OUT_OF_MEMORY.
 */
export function execute(
  runtime: Runtime,
  { name, inputs, attributes = [], device, numOutputs }: Execution,
): TensorHandle[] {
  const { c, status, context } = runtime;
  const where = () => `TFE_Execute ${name} on ${device}`;
  const op = c.TFE_NewOp(context, name, status.pointer);
  status.check(where);
  try {
    c.TFE_OpSetDevice(op, device, status.pointer);
    status.check(where);
    for (const input of inputs) addInput(runtime, op, input);
    status.check(where);
    for (const attribute of attributes) setAttribute(runtime, 'TFE_OpSetAttr', op, attribute);
    const handles = new BigUint64Array(Math.max(1, numOutputs));
    const count = Int32Array.of(numOutputs);
    c.TFE_Execute(op, handles, count, status.pointer);
    status.check(where);
    return Array.from(handles.subarray(0, count[0]), (pointer) => new TensorHandle(runtime, pointer));
  } finally {
    c.TFE_DeleteOp(op);
  }
}

function addInput({ c, status }: Runtime, op: Pointer, input: TensorHandle | readonly TensorHandle[]): void {
  if (input instanceof TensorHandle) {
    c.TFE_OpAddInput(op, input.pointer, status.pointer);
  } else {
    const pointers = BigUint64Array.from(input, (handle) => handle.pointer);
    c.TFE_OpAddInputList(op, pointers, pointers.length, status.pointer);
  }
}
