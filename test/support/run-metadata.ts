/**
 * Where TensorFlow really placed what it ran: the operations of the partitioned function graphs in its run metadata.
 *
 * Reads just enough of the protocol buffers (https://protobuf.dev/programming-guides/encoding): RunMetadata.function_graphs (4),
 * FunctionGraphs.partition_graphs (1), GraphDef.node (1), NodeDef.op (2) and .device (4).
 */
import type { Native, Pointer } from '../../src/tensorflow/c-api.js';
import { fieldsOf } from '../../src/tensorflow/protobuf-reader.js';
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
