/** The forms of a convolution: in training, small images by matrix products; values and both gradients are the convolution's. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startEngine } from '../src/graph/engine.js';
import { type Tensor, type Tensor4D, tf } from '../src/graph/tfjs.js';
import { convolve, convolveInTraining } from '../src/model/convolution.js';
import { relativeL2 } from './support/assert-close.js';
import { type HostTensor, normals, record, recorded, type TensorCode } from './support/recorded-function.js';
import { CPU_0, testRuntime } from './support/test-runtime.js';

const engine = startEngine(testRuntime(), CPU_0);

interface Case {
  readonly height: number;
  readonly width: number;
  readonly size: number;
  readonly stride: number;
  /** The product that computes it; undefined: the convolution itself. */
  readonly product: boolean;
}

const cases: readonly Case[] = [
  { height: 1, width: 1, size: 3, stride: 1, product: true },
  { height: 2, width: 2, size: 3, stride: 2, product: true },
  { height: 1, width: 2, size: 3, stride: 2, product: true },
  { height: 3, width: 2, size: 7, stride: 3, product: true },
  { height: 2, width: 2, size: 3, stride: 1, product: true },
  { height: 4, width: 4, size: 3, stride: 2, product: true },
  { height: 3, width: 4, size: 3, stride: 2, product: true },
  { height: 1, width: 4, size: 5, stride: 1, product: true },
  { height: 4, width: 4, size: 1, stride: 1, product: true },
  { height: 7, width: 8, size: 1, stride: 2, product: true },
  { height: 1, width: 1, size: 1, stride: 1, product: true },
  { height: 3, width: 2, size: 3, stride: 1, product: false },
  { height: 5, width: 5, size: 3, stride: 2, product: false },
  { height: 5, width: 4, size: 1, stride: 1, product: false },
];

/** Values, and the gradients of a weighted sum of their sines, by images and kernel. */
function valueAndGradients(form: typeof convolve, stride: number): TensorCode {
  return (...tensors) => {
    const [x, kernel] = tensors as [Tensor, Tensor];
    const y = (x: Tensor, kernel: Tensor) => form(x as Tensor4D, kernel as Tensor4D, stride);
    const gradients = tf.grads((x, kernel) => tf.sum(tf.sin(y(x!, kernel!))))([x, kernel]);
    return [y(x, kernel), ...gradients];
  };
}

/** Sums of a few hundred products in another order. */
const ROUNDING = 1e-6;

for (const { height, width, size, stride, product } of cases) {
  test(`${height}×${width} by ${size}×${size}, stride ${stride}: ${product ? 'a product, equal to the convolution' : 'the convolution'}`, () => {
    const inputs: HostTensor[] = [normals([3, height, width, 4], 1), normals([size, size, 4, 5], 2)];
    const expected = recorded(engine, inputs, valueAndGradients(convolve, stride));
    const code = valueAndGradients(convolveInTraining, stride);
    const { operations } = record(engine, inputs, (values) => code(...values.map((input) => input.value())));
    assert.equal(
      operations.some(({ type }) => type === 'Conv2D'),
      !product,
    );
    for (const [i, values] of recorded(engine, inputs, code).entries()) {
      assert.equal(values.length, expected[i]!.length);
      assert.ok(relativeL2(values, expected[i]!) <= ROUNDING, `${['value', 'by images', 'by kernel'][i]}`);
    }
  });
}
