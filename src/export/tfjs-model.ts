/**
 * A Network as a graph model of tfjs: model.json and the weights in pieces of 4 MiB, which browsers cache.
 * Read by tf.loadGraphModel; class names and image size are in its userDefinedMetadata. Source: tfjs-core, io/types.ts.
 */
import { sizeOf } from '../core/shape.js';
import type { ExportedFile } from './exported-file.js';
import type { Network } from './network.js';
import {
  bytesOf,
  type ConstantTensor,
  graphDefJson,
  INPUT_NAME,
  OUTPUT_NAMES,
  shapeJson,
  tensorflowNodes,
} from './tensorflow-graph.js';

const SHARD_BYTES = 4 * 2 ** 20;

export function tfjsModelFiles(network: Network): readonly ExportedFile[] {
  const nodes = tensorflowNodes(network);
  const constants = nodes.flatMap(({ name, attributes: { value } }) =>
    value !== undefined && 'tensor' in value ? [{ name, ...value.tensor }] : [],
  );
  const data = Buffer.concat(constants.map(({ values }) => bytesOf(values)));
  const numShards = Math.max(1, Math.ceil(data.length / SHARD_BYTES));
  const shards = Array.from({ length: numShards }, (_, i) => ({
    path: `group1-shard${i + 1}of${numShards}.bin`,
    bytes: data.subarray(i * SHARD_BYTES, (i + 1) * SHARD_BYTES),
  }));
  const info = (name: string, shape: readonly number[]) => ({
    name: `${name}:0`,
    dtype: 'DT_FLOAT',
    tensorShape: shapeJson(shape),
  });
  const outputShape = [-1, sizeOf(network.layers.at(-1)!.shape)];
  const model = {
    format: 'graph-model',
    generatedBy: 'dtrain',
    convertedBy: null,
    signature: {
      inputs: { [INPUT_NAME]: info(INPUT_NAME, [-1, ...network.layers[0]!.shape]) },
      outputs: Object.fromEntries(OUTPUT_NAMES.map((name) => [name, info(name, outputShape)])),
    },
    userDefinedMetadata: { classes: network.classes, imageSize: network.imageSize },
    modelTopology: graphDefJson(nodes),
    weightsManifest: [
      {
        paths: shards.map(({ path }) => path),
        weights: constants.map(({ name, shape, dtype }) => ({ name, shape, dtype: dtypeWord(dtype) })),
      },
    ],
  };
  return [...shards, { path: 'model.json', bytes: Buffer.from(`${JSON.stringify(model)}\n`) }];
}

function dtypeWord(dtype: ConstantTensor['dtype']): string {
  return dtype === 1 ? 'float32' : 'int32';
}
