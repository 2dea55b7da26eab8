/**
 * A Network as TensorFlow's SavedModel: one protobuf whose graph holds the weights as constants, with the signature `serving_default`,
 * and the class names in assets.extra/classes.txt. Source: tensorflow/core/protobuf/{saved_model,meta_graph}.proto.
 */
import { type Shape, sizeOf } from '../core/shape.js';
import { field, mapEntry, message } from '../tensorflow/protobuf.js';
import type { ExportedFile } from './exported-file.js';
import type { Network } from './network.js';
import { graphDefProto, INPUT_NAME, OUTPUT_NAMES, shapeProto, tensorflowNodes } from './tensorflow-graph.js';

const SCHEMA_VERSION = 1;
const FLOAT = 1;

export function savedModelFiles(network: Network): readonly ExportedFile[] {
  const outputShape = [-1, sizeOf(network.layers.at(-1)!.shape)];
  const outputs = OUTPUT_NAMES.map((name) => mapEntry(2, name, tensorInfo(name, outputShape)));
  const input = mapEntry(1, INPUT_NAME, tensorInfo(INPUT_NAME, [-1, ...network.layers[0]!.shape]));
  const signature = message(input, ...outputs, field(3, 'tensorflow/serving/predict'));
  const metaGraph = message(
    field(1, field(4, 'serve')),
    field(2, graphDefProto(tensorflowNodes(network))),
    mapEntry(5, 'serving_default', signature),
  );
  return [
    { path: 'assets.extra/classes.txt', bytes: Buffer.from(`${network.classes.join('\n')}\n`) },
    { path: 'saved_model.pb', bytes: message(field(1, SCHEMA_VERSION), field(2, metaGraph)) },
  ];
}

function tensorInfo(name: string, shape: Shape): Buffer {
  return message(field(1, `${name}:0`), field(2, FLOAT), field(3, shapeProto(shape)));
}
