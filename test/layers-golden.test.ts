/**
 * Single layers and their gradients against PyTorch in float64 (test/golden/layers.py), and with them the conventions that frameworks differ in:
 * padding, epsilon and variance of batch normalisation, the share of new statistics, label smoothing.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startEngine } from '../src/graph/engine.js';
import { type Scalar, type Tensor, type Tensor4D, tf } from '../src/graph/tfjs.js';
import type { Model } from '../src/model/catalogue.js';
import { subsample } from '../src/model/convolution.js';
import { batchNorm, conv2d, globalAveragePool, maxPool3x3, padChannels } from '../src/model/layers.js';
import { EvaluationNet, type ModelFunction, TrainingNet } from '../src/model/net.js';
import { lossAndGradients } from '../src/train/step-program.js';
import { assertClose } from './support/assert-close.js';
import { type GoldenArray, type GoldenLayer, readGoldenCases } from './support/golden.js';
import { type ImageShape, modelOf } from './support/layer-model.js';
import { floats, type HostTensor, integers, record, recorded, run } from './support/recorded-function.js';
import { CPU_0, testRuntime } from './support/test-runtime.js';

const engine = startEngine(testRuntime(), CPU_0);

/** Of the relative L2 error of an output or gradient. */
const TOLERANCE = 1e-6;

const host = ({ values, shape }: GoldenArray): HostTensor => floats(values, shape);

type Convolution = Extract<GoldenLayer, { layer: 'convolution' }>;
type BatchNorm = Extract<GoldenLayer, { layer: 'batch-norm' }>;
type CrossEntropy = Extract<GoldenLayer, { layer: 'cross-entropy' }>;

/** Layers with parameters `names`, in the order in which they are asked for, as dtrain's models use them. */
function checkLayer(golden: GoldenLayer, layer: ModelFunction, names: readonly string[] = []): void {
  const model = modelOf(engine, layer, golden.inputs['x']!.shape as unknown as ImageShape);
  const inputs = ['x', ...names].map((name) => host(golden.inputs[name]!));
  assert.deepEqual(
    model.parameters.map(({ shape }) => shape),
    inputs.slice(1).map(({ shape }) => shape),
  );
  const fn = record(engine, [...inputs, host(golden.upstream)], (values) => {
    const tensors = values.map((input) => input.value());
    const upstream = tensors.pop()!;
    const outputOf = (x: Tensor, ...parameters: Tensor[]) => trained(model, x, parameters);
    const loss = (...args: Tensor[]) => tf.sum(tf.mul(outputOf(args[0]!, ...args.slice(1)), upstream)) as Scalar;
    const { grads } = tf.valueAndGrads(loss as never)(tensors as never);
    return [outputOf(tensors[0]!, ...tensors.slice(1)), ...grads];
  });
  const [output, ...gradients] = run(engine, fn, [...inputs, host(golden.upstream)]);
  assertClose(output!, golden.output.values, TOLERANCE, 'output');
  for (const [i, name] of ['x', ...names].entries()) {
    assertClose(gradients[i]!, golden.gradients[name]!.values, TOLERANCE, `gradient by ${name}`);
  }
}

function trained(model: Model, x: Tensor, parameters: readonly Tensor[]): Tensor {
  const net = new TrainingNet(model.parameters, parameters);
  const y = model.forward(net, x as Tensor4D);
  for (const { meanC, varianceC } of net.batchStatistics) tf.dispose([meanC, varianceC]);
  return y;
}

function checkConvolution(golden: Convolution): void {
  const [size, , , filters] = golden.inputs['kernel']!.shape as [number, number, number, number];
  assert.equal(golden.padding, (size - 1) / 2, 'dtrain pads by (size − 1) / 2');
  checkLayer(golden, (net, x) => conv2d(net, 'c', x, { filters, size, stride: golden.stride }), ['kernel']);
}

const normalization: ModelFunction = (net, x) => batchNorm(net, 'bn', x);

/** Running statistics: (1 − momentum) · before + momentum · of this batch, the variance over n − 1. */
function checkBatchStatistics(golden: BatchNorm): void {
  const model = modelOf(engine, normalization, golden.inputs['x']!.shape as unknown as ImageShape);
  const inputs = ['x', 'gamma', 'beta'].map((name) => host(golden.inputs[name]!));
  const [mean, variance] = recorded(engine, inputs, (x, ...parameters) => {
    const net = new TrainingNet(model.parameters, parameters);
    normalization(net, x as Tensor4D);
    const { meanC, varianceC } = net.batchStatistics[0]!;
    return [meanC, varianceC];
  });
  const { before, after, momentum } = golden;
  const batch = (key: 'mean' | 'variance') =>
    after[key].values.map((value, i) => (value - (1 - momentum) * before[key].values[i]!) / momentum);
  assertClose(mean!, batch('mean'), TOLERANCE, 'batch mean');
  assertClose(variance!, batch('variance'), TOLERANCE, 'batch variance');
}

/** In evaluation there is no gradient to check. */
function checkInference(golden: BatchNorm): void {
  const model = modelOf(engine, normalization, golden.inputs['x']!.shape as unknown as ImageShape);
  const inputs = ['x', 'gamma', 'beta'].map((name) => host(golden.inputs[name]!));
  const statistics = [host(golden.before.mean), host(golden.before.variance)];
  const [output] = recorded(engine, [...inputs, ...statistics], (...tensors) => {
    const [x, gamma, beta, meanC, varianceC] = tensors as [Tensor4D, ...Tensor[]];
    const net = new EvaluationNet(model.parameters, [gamma!, beta!], [{ meanC, varianceC } as never]);
    return [normalization(net, x)];
  });
  assertClose(output!, golden.output.values, TOLERANCE, 'output');
  assert.deepEqual(golden.after, golden.before);
}

/** The product's own loss, of a model that is nothing but its logits. */
function checkCrossEntropy({ inputs, labels, smoothing, output, gradients }: CrossEntropy): void {
  const logits = host(inputs['logits']!);
  const model = modelOf(engine, (net) => net.parameter('logits', logits.shape, { value: 0 }), [1, 1, 1, 1], 5);
  const [loss, gradient, correct] = recorded(engine, [logits, integers(labels)], (values, labelsN) => {
    const step = lossAndGradients(model, [values!], values!, { labelsN: labelsN! }, smoothing);
    return [step.loss, step.gradients[0]!, step.correct];
  });
  assertClose(loss!, output.values, TOLERANCE, 'loss');
  assertClose(gradient!, gradients['logits']!.values, TOLERANCE, 'gradient');
  const rows = labels.map((_, i) => Array.from(logits.values.subarray(5 * i, 5 * i + 5)));
  const right = rows.filter((row, i) => row.indexOf(Math.max(...row)) === labels[i]).length;
  assert.equal(correct![0], right / labels.length);
}

function check(golden: GoldenLayer): void {
  switch (golden.layer) {
    case 'convolution':
      return checkConvolution(golden);
    case 'max-pool':
      return checkLayer(golden, (_, x) => maxPool3x3(x));
    case 'global-average':
      return checkLayer(golden, (_, x) => globalAveragePool(x));
    case 'shortcut-a':
      return checkLayer(golden, (_, x) => padChannels(subsample(x, golden.stride), golden.channels));
    case 'batch-norm':
      if (!golden.training) return checkInference(golden);
      checkLayer(golden, normalization, ['gamma', 'beta']);
      return checkBatchStatistics(golden);
    case 'cross-entropy':
      return checkCrossEntropy(golden);
    default:
      return golden satisfies never;
  }
}

/** `convolution stride 2 padding 1, [2,7,5,2]` */
function title(golden: GoldenLayer): string {
  const options = Object.entries(golden).filter(([, value]) => typeof value === 'number' || typeof value === 'boolean');
  const shapes = Object.values(golden.inputs).map(({ shape }) => `[${shape}]`);
  return [golden.layer, ...options.map(([key, value]) => `${key} ${value}`), ...shapes].join(' ');
}

for (const golden of readGoldenCases('layers.json')) {
  test(`as PyTorch: ${title(golden)}`, () => check(golden));
}
