/**
 * Where TensorFlow really placed what it ran: the operations of the partitioned function graphs in its run metadata.
 *
 * Reads just enough of the protocol buffers (https://protobuf.dev/programming-guides/encoding): RunMetadata.function_graphs (4),
 * FunctionGraphs.partition_graphs (1), GraphDef.node (1), NodeDef.op (2) and .device (4).
 */
import type { Native, Pointer } from '../../src/tensorflow/c-api.js';
import type { Runtime } from '../../src/tensorflow/runtime.js';

/** Types of operations by device (`/device:CPU:1`), of all functions that `act` runs. */
export function operationsByDevice(runtime: Runtime, act: () => void): Map<string, Set<string>> {
  const byDevice = new Map<string, Set<string>>();
  const runMetadata = metadataOf(runtime, act);
  for (const functionGraphs of fieldsOf(runMetadata, 4)) {
    for (const graph of fieldsOf(functionGraphs, 1)) {
      for (const node of fieldsOf(graph, 1)) {
        const [type, device] = [2, 4].map((field) => Buffer.from(fieldsOf(node, field)[0] ?? []).toString());
        const name = device!.slice(device!.indexOf('/device:'));
        byDevice.set(name, (byDevice.get(name) ?? new Set()).add(type!));
      }
    }
  }
  return byDevice;
}

function metadataOf({ c, native, context, status }: Runtime, act: () => void): Uint8Array {
  c.TFE_ContextEnableRunMetadata(context);
  act();
  const buffer = c.TF_NewBuffer(); // struct { const void* data; size_t length; … }
  c.TFE_ContextExportRunMetadata(context, buffer, status.pointer);
  status.check(() => 'TFE_ContextExportRunMetadata');
  c.TFE_ContextDisableRunMetadata(context);
  const [data, length] = copied(native, buffer, new BigUint64Array(2));
  const bytes = copied(native, data!, new Uint8Array(Number(length)));
  c.TF_DeleteBuffer(buffer);
  return bytes;
}

function copied<T extends Uint8Array | BigUint64Array>(native: Native, from: Pointer, into: T): T {
  native.copyBytes(into, from, into.byteLength);
  return into;
}

/** The contents of each field `wanted` of a message, of those that are length-delimited. */
function fieldsOf(message: Uint8Array, wanted: number): Uint8Array[] {
  const found: Uint8Array[] = [];
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      const byte = message[at++]!;
      value += (byte % 128) * factor;
      if (byte < 128) return value;
    }
  };
  while (at < message.length) {
    const tag = varint();
    const wireType = tag % 8;
    if (wireType === 0) varint();
    else if (wireType === 1) at += 8;
    else if (wireType === 5) at += 4;
    else {
      const length = varint();
      if (Math.floor(tag / 8) === wanted) found.push(message.subarray(at, at + length));
      at += length;
    }
  }
  return found;
}
