/**
 * One training step of each kind of network against PyTorch in float64 (test/golden/parity.py): loss, logits, gradients, running statistics,
 * evaluation. It runs through the product's recorded step and replica, from weights as `model.initFrom` reads them.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startEngine } from '../src/graph/engine.js';
import type { GraphValue } from '../src/graph/graph-value.js';
import type { Tensor, Tensor1D, Tensor4D } from '../src/graph/tfjs.js';
import { tf } from '../src/graph/tfjs.js';
import { type Model, makeModel } from '../src/model/catalogue.js';
import { EvaluationNet, TrainingNet } from '../src/model/net.js';
import { fromTorch, toTorch, type Weights } from '../src/model/torch-layout.js';
import { DType } from '../src/tensorflow/dtype.js';
import { plainImages } from '../src/train/augment.js';
import { assertClose } from './support/assert-close.js';
import { OneRank } from './support/one-rank.js';
import { loadParityCase, PARITY_CASES, type ParityCase } from './support/parity-case.js';
import { floats, type HostTensor, integers, record, run } from './support/recorded-function.js';
import { CPU_0, testRuntime } from './support/test-runtime.js';

/** All relative. Gradients are L2 errors of whole tensors against float64; 5e-4 is promised (ResNet-50: 2e-3). */
const TOLERANCE = {
  loss: 2e-6,
  logits: 2e-5,
  gradient: { resnet20: 2e-5, resnet18: 2e-5, resnet50: 1e-4 },
  statistics: 5e-6,
  evaluation: 5e-6,
} as const;

const engine = startEngine(testRuntime({ threadsPerDevice: 2 }), CPU_0);

for (const name of PARITY_CASES) {
  test(`${name}: a step is PyTorch's, to float32's rounding`, () => {
    const golden = loadParityCase(name);
    const [, height, width] = golden.imageShape;
    const model = makeModel(engine, { ...golden, name: golden.model, shortcut: 'A' }, [height, width]);
    const weights = fromTorch(model, golden.state, name);
    using rank = new OneRank(engine, model, weights, { ...golden, height, width });

    const { loss } = rank.step(0); // moves the running statistics alone
    assertClose([loss], [golden.loss], TOLERANCE.loss, 'loss');
    checkRow(golden, model, rank);
    checkLogits(golden, model, weights, rank);
    checkEvaluation(golden, rank);

    rank.step(1);
    checkMovedByGradient(weights, rank);
  });
}

/** Gradients, and the running statistics that the step left. */
function checkRow(golden: ParityCase, model: Model, rank: OneRank): void {
  const { means, variances } = rank.state();
  const tensors = toTorch(model, { parameters: rank.gradients(), means, variances });
  const values = (name: string) => tensors.get(name)!.values as Float32Array;
  assert.equal(golden.parameters.length + golden.statistics.length, tensors.size);
  const tolerance = TOLERANCE.gradient[golden.model as keyof typeof TOLERANCE.gradient];
  for (const name of golden.parameters)
    checkError(`gradient of ${name}`, golden.gradientError(name, values(name)), tolerance);
  for (const name of golden.statistics)
    checkError(name, golden.statisticsError(name, values(name)), TOLERANCE.statistics);
}

function checkError(what: string, error: number, tolerance: number): void {
  assert(error <= tolerance, `${what}: expected a relative error of at most ${tolerance}, got ${error}`);
}

/** The model's own output, in training and in evaluation mode, which the recorded step does not show. */
function checkLogits(golden: ParityCase, model: Model, weights: Weights, rank: OneRank): void {
  const { means, variances } = rank.state();
  const images: HostTensor = { values: golden.imagesNHWC, shape: golden.imageShape, dtype: DType.uint8 };
  const parameters = weights.parameters.map((values, i) => floats(values, model.parameters[i]!.shape));
  const statistics = [...means, ...variances].map((values) => floats(values));
  const ids = integers(golden.labels.map((_, i) => i));
  const inputs = [images, ids, ...parameters, ...statistics];
  const fn = record(engine, inputs, ([raw, indices, ...rest]) => {
    const tensors = rest.map((input) => input.value());
    const batch = imagesOf(golden, raw!.raw, indices!.value());
    return [trainingLogits(model, tensors, batch), evaluationLogits(model, tensors, batch)];
  });
  const [training, evaluation] = run(engine, fn, inputs);
  assertClose(training!, golden.logits, TOLERANCE.logits, 'logits in training');
  assertClose(evaluation!, golden.evalLogits, TOLERANCE.evaluation, 'logits in evaluation');
}

function imagesOf({ imageShape, normalization }: ParityCase, imagesMHWC: GraphValue, indices: Tensor): Tensor4D {
  const [numImages, height, width] = imageShape;
  return plainImages(engine, { imagesMHWC, numImages, height, width, normalization }, indices);
}

function trainingLogits(model: Model, tensors: readonly Tensor[], batch: Tensor4D): Tensor {
  const net = new TrainingNet(model.parameters, tensors.slice(0, model.parameters.length));
  const logits = model.forward(net, batch);
  for (const { meanC, varianceC } of net.batchStatistics) tf.dispose([meanC, varianceC]);
  return logits;
}

/** `tensors`: parameters, then means, then variances. */
function evaluationLogits(model: Model, tensors: readonly Tensor[], batch: Tensor4D): Tensor {
  const parameters = tensors.slice(0, model.parameters.length);
  const means = tensors.slice(parameters.length, parameters.length + model.statistics.length) as Tensor1D[];
  const variances = tensors.slice(parameters.length + means.length) as Tensor1D[];
  const statistics = means.map((meanC, i) => ({ meanC, varianceC: variances[i]! }));
  return model.forward(new EvaluationNet(model.parameters, parameters, statistics), batch);
}

/** Loss and class of each image from PyTorch's logits, against the replica's own evaluation. */
function checkEvaluation({ evalLogits, labels, classes }: ParityCase, rank: OneRank): void {
  const rows = Array.from(labels, (_, i) => Array.from(evalLogits.subarray(i * classes, (i + 1) * classes)));
  const { lossN, predictedN } = rank.evaluate();
  assertClose(
    lossN,
    rows.map((row, i) => logSumExp(row) - row[labels[i]!]!),
    TOLERANCE.evaluation,
    'evaluation loss',
  );
  assert.deepEqual(
    Array.from(predictedN),
    rows.map((row) => row.indexOf(Math.max(...row))),
  );
}

function logSumExp(row: readonly number[]): number {
  const largest = Math.max(...row);
  return largest + Math.log(row.reduce((sum, value) => sum + Math.exp(value - largest), 0));
}

/** With rate 1, without momentum and decay: parameter ← parameter − gradient, rounded once. */
function checkMovedByGradient(weights: Weights, rank: OneRank): void {
  const gradients = rank.gradients();
  for (const [i, moved] of rank.state().parameters.entries()) {
    const expected = weights.parameters[i]!.map((value, k) => value - gradients[i]![k]!);
    assert(Buffer.from(moved.slice().buffer).equals(Buffer.from(expected.buffer)), `parameter ${i}`);
  }
}
