/**
 * One device: the step against PyTorch's in float64, by TensorFlow's executor and by XLA; recorded against eager. scripts/test-gpu.mjs turns TF32 off
 * for this file, which rounds the inputs of convolutions to ten bits.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startEngine } from '../../src/graph/engine.js';
import { batchNormTraining } from '../../src/graph/fused-ops.js';
import type { Precision } from '../../src/graph/recording.js';
import { type Scalar, type Tensor, type Tensor1D, type Tensor4D, tf } from '../../src/graph/tfjs.js';
import { makeModel } from '../../src/model/catalogue.js';
import { fromTorch, toTorch } from '../../src/model/torch-layout.js';
import type { Values } from '../../src/tensorflow/dtype.js';
import { recordProof } from '../faults/record.js';
import { relativeL2 } from '../support/assert-close.js';
import { OneRank } from '../support/one-rank.js';
import { loadParityCase } from '../support/parity-case.js';
import { eager, type HostTensor, normals, record, run, type TensorCode } from '../support/recorded-function.js';
import { devicesText, first, firstDevice } from './test-devices.js';

const { runtime, device } = firstDevice();
const engine = startEngine(runtime, device);

/** What is promised of gradients (docs/numerics.md), and of the two ways to run the same step. */
const GRADIENT = { resnet20: 5e-4, resnet18: 5e-4, resnet50: 2e-3 } as const;
const LOSS = 1e-5;
const XLA_LOSS = 2e-6;
const EAGER = 1e-5;

const names = first.short ? (['resnet20'] as const) : (['resnet20', 'resnet18', 'resnet50'] as const);

for (const name of names) {
  test(`${name}: loss, gradients and statistics of PyTorch's step, with XLA and without`, () => {
    const golden = loadParityCase(name);
    const [, height, width] = golden.imageShape;
    const model = makeModel(engine, { ...golden, name: golden.model, shortcut: 'A' }, [height, width]);
    const losses: number[] = [];
    for (const xla of [false, true]) {
      const weights = fromTorch(model, golden.state, name);
      using rank = new OneRank(engine, model, weights, { ...golden, height, width }, { device, xla });
      const { loss } = rank.step(0);
      losses.push(loss);
      assert(Math.abs(loss / golden.loss - 1) <= LOSS, `loss ${loss} for ${golden.loss}`);
      const { means, variances } = rank.state();
      const tensors = toTorch(model, { parameters: rank.gradients(), means, variances });
      const values = (of: string) => tensors.get(of)!.values as Float32Array;
      const errors = golden.parameters.map((of) => golden.gradientError(of, values(of)));
      const worst = Math.max(...errors);
      assert(worst <= GRADIENT[name], `gradients: ${worst}`);
      for (const of of golden.statistics) assert(golden.statisticsError(of, values(of)) <= 1e-4, of);
      recordProof({
        name: `${name} on ${devicesText({ ...first, count: 1 })}, ${xla ? 'XLA' : 'executor'}, against PyTorch in float64`,
        goal: `gradient of each parameter within ${GRADIENT[name]}`,
        observed: `worst ${worst.toExponential(1)}, loss ${Math.abs(loss / golden.loss - 1).toExponential(1)}`,
        pass: true,
      });
    }
    assert(Math.abs(losses[1]! / losses[0]! - 1) <= XLA_LOSS, `XLA ${losses[1]}, executor ${losses[0]}`);
  });
}

test('bfloat16: one convolution, its gradients and a dense layer within 1e-2 of float32', () => {
  const inputs = [normals([4, 16, 16, 8]), normals([3, 3, 8, 16], 1), normals([256, 32], 2), normals([32, 10], 3)];
  const code: TensorCode = (x, w, a, b) => {
    const loss = (x: Tensor, w: Tensor) =>
      tf.sum(tf.square(tf.conv2d(x as Tensor4D, w as Tensor4D, 1, 'same'))) as Scalar;
    return [...tf.grads(loss as never)([x!, w!]), tf.matMul(a as never, b as never)];
  };
  const full = recordedOn(inputs, code, 'float32');
  const low = recordedOn(inputs, code, 'bfloat16');
  const errors = full.map((values, i) => relativeL2(low[i]!, values));
  for (const error of errors) assert(error > 0 && error < 1e-2, `${errors}`);
});

test('recorded = eager: convolution, batch norm, ReLU, pooling, dense, and all gradients', () => {
  const inputs = [
    normals([4, 8, 8, 3]),
    normals([3, 3, 3, 8], 1),
    normals([8], 2),
    normals([8], 3),
    normals([8, 5], 4),
  ];
  const code: TensorCode = (...tensors) => {
    const loss = (x: Tensor, w: Tensor, scale: Tensor, shift: Tensor, dense: Tensor): Scalar => {
      const y = tf.conv2d(x as Tensor4D, w as Tensor4D, 1, 'same');
      const { y: normal } = batchNormTraining(y as Tensor4D, scale as Tensor1D, shift as Tensor1D, 1e-5);
      const pooled = tf.mean(tf.maxPool(tf.relu(normal) as Tensor4D, 2, 2, 'valid'), [1, 2]);
      return tf.mean(tf.square(tf.matMul(pooled as never, dense as never)));
    };
    return [loss(...(tensors as [Tensor, Tensor, Tensor, Tensor, Tensor])), ...tf.grads(loss as never)(tensors)];
  };
  const expected = eager(inputs, code);
  for (const [i, values] of recordedOn(inputs, code, 'float32').entries()) {
    const error = relativeL2(values, expected[i]!);
    assert(error <= EAGER, `output ${i}: ${error}`);
  }
});

function recordedOn(inputs: readonly HostTensor[], code: TensorCode, precision: Precision): Values[] {
  const fn = record(engine, inputs, (values) => code(...values.map((input) => input.value())), precision);
  return run(engine, fn, inputs, device);
}
