/**
 * VGG-16 and -19 and torchvision's, both ways at 224×224: torchvision's weights in dtrain, and dtrain's in torchvision, give the same logits
 * (relative error at most 1e-4). Weights travel as the files of model.initFrom and of `dtrain export --format safetensors`.
 * Run by npm run test:consumers.
 */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { drawWords, fillNormal, Purpose } from '../../src/core/philox.js';
import { encodeSafetensors } from '../../src/core/safetensors.js';
import { startEngine } from '../../src/graph/engine.js';
import type { Tensor4D } from '../../src/graph/tfjs.js';
import { type Model, makeModel } from '../../src/model/catalogue.js';
import { initialWeights } from '../../src/model/initial-weights.js';
import { EvaluationNet } from '../../src/model/net.js';
import { toTorch, type Weights } from '../../src/model/torch-layout.js';
import { readWeights } from '../../src/train/checkpoint.js';
import { assertClose } from '../support/assert-close.js';
import { floats, record, run } from '../support/recorded-function.js';
import { CPU_0, testRuntime } from '../support/test-runtime.js';
import { temporaryFolder } from '../support/train-run.js';
import { runPython } from './python.js';

const COUNT = 2;
const SIZE = 224;
const CLASSES = 10;
const TOLERANCE = 1e-4;

const engine = startEngine(testRuntime({ threadsPerDevice: 2 }), CPU_0);

/** Pixels from -1 to 1. */
const imagesNHWC = Float32Array.from(
  { length: COUNT * SIZE * SIZE * 3 },
  (_, i) => (drawWords(2, Purpose.synthetic, 0, i)[0] >>> 24) / 127.5 - 1,
);

/** The first weights of a run, with biases that are not zero. */
function ownWeights({ parameters }: Model): Weights {
  const values = initialWeights(parameters, 5);
  for (const [i, { shape }] of parameters.entries()) {
    if (shape.length !== 1) continue;
    fillNormal(values[i]!, 6, Purpose.initialization, i);
    for (const [k, value] of values[i]!.entries()) values[i]![k] = 0.1 * value;
  }
  return { parameters: values, means: [], variances: [] };
}

function logitsOf(model: Model, weights: Weights): Float32Array {
  const images = floats(imagesNHWC, [COUNT, SIZE, SIZE, 3]);
  const inputs = [images, ...weights.parameters.map((values, i) => floats(values, model.parameters[i]!.shape))];
  const fn = record(engine, inputs, ([batch, ...parameters]) => {
    const net = new EvaluationNet(
      model.parameters,
      parameters.map((input) => input.value()),
      [],
    );
    return [model.forward(net, batch!.value() as Tensor4D)];
  });
  return run(engine, fn, inputs)[0] as Float32Array;
}

for (const name of ['vgg16', 'vgg19']) {
  test(`${name}: torchvision's weights in dtrain, and dtrain's in torchvision`, () => {
    const model = makeModel(engine, { name, classes: CLASSES, shortcut: 'A', stem: 'imagenet' }, [SIZE, SIZE]);
    const folder = temporaryFolder();
    const weights = ownWeights(model);
    fs.writeFileSync(path.join(folder, 'images.bin'), imagesNHWC);
    fs.writeFileSync(path.join(folder, 'dtrain.safetensors'), encodeSafetensors(toTorch(model, weights)));
    const words = [folder, String(COUNT), name];
    const { versions, own, loaded } = runPython('DTRAIN_TORCH_PYTHON', 'torch_vgg.py', words);
    const theirs = readWeights(path.join(folder, 'torch.safetensors'), model);
    const errors = {
      'theirs here': assertClose(logitsOf(model, theirs), own as number[], TOLERANCE, "torchvision's weights"),
      'ours there': assertClose(loaded as number[], logitsOf(model, weights), TOLERANCE, "dtrain's weights"),
    };
    assert(
      (own as number[]).some((logit) => Math.abs(logit) > 0.01),
      'logits of any size',
    );
    console.log(`${name}: relative errors ${JSON.stringify(errors)} (${JSON.stringify(versions)})`);
  });
}
