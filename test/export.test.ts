/** Exports: read back by tfjs itself, folded or not; the same bytes for the same weights; what cannot be exported is refused. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { fillNormal, Purpose } from '../src/core/philox.js';
import { foldBatchNorm } from '../src/export/fold-batch-norm.js';
import type { Network } from '../src/export/network.js';
import { onnxModel } from '../src/export/onnx-model.js';
import { readNetwork } from '../src/export/read-network.js';
import { savedModelFiles } from '../src/export/saved-model.js';
import { tfjsModelFiles } from '../src/export/tfjs-model.js';
import { startEngine } from '../src/graph/engine.js';
import { type Tensor4D, tf } from '../src/graph/tfjs.js';
import { type Model, makeModel } from '../src/model/catalogue.js';
import { initialWeights } from '../src/model/initial-weights.js';
import { exportCheckpoint } from '../src/run/export-checkpoint.js';
import { predictImages } from '../src/run/predict.js';
import { logitsOf } from '../src/train/logits.js';
import { assertClose } from './support/assert-close.js';
import { CPU_0, errorOf, testRuntime } from './support/test-runtime.js';
import { runTraining, temporaryFolder } from './support/train-run.js';

const engine = startEngine(testRuntime(), CPU_0);
const CLASSES = ['ant', 'bee', 'cat', 'dog', 'elk', 'fox', 'gnu', 'hen', 'ibis', 'jay'];
const NORMALIZATION = { mean: [0.49, 0.48, 0.45], std: [0.25, 0.24, 0.26] };

function normal(length: number, index: number, scale: number, offset: number): Float32Array {
  const values = new Float32Array(length);
  fillNormal(values, 7, Purpose.initialization, 1000 + index);
  return values.map((value) => offset + scale * value);
}

/** Weights whose batch norms do something. */
function weightsOf(model: Model) {
  return {
    parameters: initialWeights(model.parameters, 3).map((values, i) =>
      model.parameters[i]!.shape.length === 1 ? normal(values.length, i, 0.1, values[0]!) : values,
    ),
    means: model.statistics.map(({ channels }, i) => normal(channels, 2000 + i, 0.2, 0)),
    variances: model.statistics.map(({ channels }, i) => normal(channels, 3000 + i, 0.1, 1)),
  };
}

const count = 3;

/** Runs tfjs's own reader on an export, on tfjs's CPU backend. */
async function tfjsLogits(network: Network, imagesNHWC: Uint8Array): Promise<Float32Array> {
  const files = tfjsModelFiles(network);
  const model = JSON.parse(Buffer.from(files.at(-1)!.bytes).toString()) as { [key: string]: never };
  const data = Buffer.concat(files.slice(0, -1).map(({ bytes }) => bytes));
  const artifacts = {
    modelTopology: model['modelTopology'],
    weightSpecs: model['weightsManifest']![0]!['weights'],
    weightData: data.buffer.slice(data.byteOffset, data.byteOffset + data.length) as ArrayBuffer,
    signature: model['signature'],
    userDefinedMetadata: model['userDefinedMetadata'],
    format: 'graph-model',
  };
  assert.deepEqual(model['userDefinedMetadata'], { classes: CLASSES, imageSize: [32, 32] });
  const before = tf.getBackend();
  tf.setBackend('cpu');
  try {
    const loaded = await tf.loadGraphModel(tf.io.fromMemory(artifacts));
    const images = tf.tensor4d(Float32Array.from(imagesNHWC), [count, 32, 32, 3]) as Tensor4D;
    const [logits, probabilities] = loaded.execute({ images }, ['logits', 'probabilities']) as [Tensor4D, Tensor4D];
    for (const sum of tf.sum(probabilities, 1).dataSync()) assert(Math.abs(sum - 1) < 1e-5);
    return logits.dataSync() as Float32Array;
  } finally {
    tf.setBackend(before);
  }
}

for (const [name, stem, shortcut, unfolded] of [
  ['resnet20', 'cifar', 'A', 0],
  ['resnet20', 'cifar', 'B', 0],
  ['resnet18', 'imagenet', 'A', 0],
  ['resnet50', 'imagenet', 'A', 0],
  ['speednet', 'cifar', 'A', 3], // a pooling stands between the convolution and the norm
] as const) {
  test(`tfjs reads the export of ${name} (${stem} stem, shortcut ${shortcut}) and gives the same logits, folded too`, async () => {
    const model = makeModel(engine, { name, classes: 10, shortcut, stem }, [32, 32]);
    const weights = weightsOf(model);
    const imagesNHWC = Uint8Array.from(normal(count * 32 * 32 * 3, 9, 60, 128));
    const expected = logitsOf(model, weights, NORMALIZATION, { imagesNHWC, count, height: 32, width: 32 });
    const source = { model, weights, imageSize: [32, 32], normalization: NORMALIZATION, classes: CLASSES } as const;
    const network = readNetwork(engine, source);
    const folded = foldBatchNorm(network);
    assert.equal(folded.layers.filter(({ op }) => op === 'batchNorm').length, unfolded);
    assert.equal(network.layers.filter(({ op }) => op === 'batchNorm').length, model.statistics.length);
    for (const each of [network, folded]) {
      assertClose(await tfjsLogits(each, imagesNHWC), expected, 1e-5, 'logits');
    }
  });
}

test('equal weights give equal bytes, other weights others', () => {
  const model = makeModel(engine, { name: 'resnet20', classes: 10, shortcut: 'A', stem: 'cifar' }, [32, 32]);
  const bytesOf = (weights: ReturnType<typeof weightsOf>) => {
    const source = { model, weights, imageSize: [32, 32], normalization: NORMALIZATION, classes: CLASSES } as const;
    const network = readNetwork(engine, source);
    const folders = [...tfjsModelFiles(network), ...savedModelFiles(network)].map(({ bytes }) => bytes);
    return [...folders, onnxModel(network)].map((bytes) => Buffer.from(bytes).toString('base64'));
  };
  const weights = weightsOf(model);
  const [first, second] = [bytesOf(weights), bytesOf(weightsOf(model))];
  assert.deepEqual(first, second);
  weights.parameters[0]![0]! += 1;
  const moved = bytesOf(weights);
  assert.deepEqual(
    moved.map((bytes, i) => bytes !== first[i]),
    [true, false, false, true, true], // shard, model.json, classes.txt, saved_model.pb, onnx
  );
});

test('an operation that no format has is refused by name', () => {
  const model = makeModel(engine, { name: 'resnet20', classes: 10, shortcut: 'A', stem: 'cifar' }, [32, 32]);
  const odd: Model = { ...model, forward: (net, images) => tf.tanh(model.forward(net, images)) };
  const source = { weights: weightsOf(model), imageSize: [32, 32], normalization: NORMALIZATION } as const;
  const { message } = errorOf(() => readNetwork(engine, { ...source, model: odd, classes: CLASSES }));
  assert.equal(
    message,
    'export of resnet20: expected operations that every format has, got Tanh [1,10]. Export it with --format safetensors, which takes any model.',
  );
});

test('a folder that holds something else is left alone; an earlier export is replaced; predict names the likely classes', async () => {
  const { runDir } = await runTraining(1, ['train.maxSteps=1']);
  const folder = temporaryFolder();
  const out = path.join(folder, 'model');
  const options = { checkpoint: runDir, out, fold: false } as const;
  await exportCheckpoint({ ...options, format: 'tfjs' });
  await exportCheckpoint({ ...options, format: 'saved-model' });
  assert.deepEqual(fs.readdirSync(out).sort(), ['assets.extra', 'saved_model.pb']);
  fs.writeFileSync(path.join(out, 'thesis.txt'), 'mine');
  const error = await exportCheckpoint({ ...options, format: 'tfjs' }).catch((thrown: Error) => thrown);
  assert.equal(
    (error as Error).message,
    `--out: ${out}: expected a new or empty folder, or an earlier export, got one that holds thesis.txt. Choose another folder.`,
  );
  assert.deepEqual(fs.readdirSync(out).sort(), ['assets.extra', 'saved_model.pb', 'thesis.txt']);

  const absent = path.join(folder, 'absent.png');
  const missing = await predictImages({ checkpoint: runDir, images: [absent] }).catch((thrown: Error) => thrown);
  assert.equal(
    (missing as Error).message,
    `${absent}: expected a JPEG or PNG file, it cannot be read (ENOENT). Check the path.`,
  );
});
