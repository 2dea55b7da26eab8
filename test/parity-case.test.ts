import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fillNormal, Purpose } from '../src/core/philox.js';
import { loadParityCase, PARITY_CASES, readParityFile, relativeError, sketch } from './support/parity-case.js';

const BUCKETS = 128;

function norm(values: Float32Array): number {
  let squares = 0;
  for (let i = 0; i < values.length; i++) squares += values[i]! ** 2;
  return Math.sqrt(squares);
}

function normals(length: number, stream: number): Float32Array {
  const values = new Float32Array(length);
  fillNormal(values, 1, Purpose.initialization, stream);
  return values;
}

for (const name of PARITY_CASES) {
  test(`${name}: weights and images are rebuilt as the script made them`, () => {
    const { golden, tensors } = readParityFile(name);
    const { state, imagesNHWC, imageShape, labels, parameters, statistics } = loadParityCase(name);
    assert.equal(
      imagesNHWC.reduce((sum, pixel) => sum + pixel, 0),
      golden.imageSum,
    );
    assert.equal(labels.length, imageShape[0]);
    assert.deepEqual([...state.keys()].sort(), [...parameters, ...statistics].sort());
    for (const [tensor, , , , expected] of golden.state) {
      const shift = tensors.has(`bias/${tensor}`) ? 2e-3 * Math.sqrt(state.get(tensor)!.values.length) : 0;
      const difference = Math.abs(norm(state.get(tensor)!.values as Float32Array) - expected);
      assert(difference <= 1e-6 * expected + shift, `${tensor}: norm off by ${difference}`);
    }
  });
}

test('a gradient stored whole has its stated norm and no error against itself', () => {
  const { gradientError, parameters } = loadParityCase('resnet20');
  const { tensors } = readParityFile('resnet20');
  for (const parameter of parameters) {
    const whole = tensors.get(`gradient/${parameter}`)!.values as Float32Array;
    assert.equal(gradientError(parameter, whole), 0);
    assert(
      Math.abs(
        gradientError(
          parameter,
          whole.map((value) => value * 2),
        ) - 1,
      ) < 1e-5,
      parameter,
    );
  }
});

test('the error that a sketch tells is the error, to a quarter, for small and for gross differences', () => {
  const whole = normals(20_000, 0);
  const reference = Float32Array.from(sketch(whole, BUCKETS));
  const told = (got: Float32Array) => relativeError(got, reference, norm(whole));
  assert(told(whole) < 1e-6);
  for (const [stream, size] of [1e-3, 5e-4, 1e-4, 1].entries()) {
    const noise = normals(whole.length, stream + 1);
    const error = told(whole.map((value, i) => value + size * noise[i]!));
    assert(error > 0.75 * size && error < 1.25 * size, `${size}: told ${error}`);
  }
  const oneWrong = Float32Array.from(whole);
  oneWrong[777]! += 1;
  assert(Math.abs(told(oneWrong) * norm(whole) - 1) < 1e-3, 'one wrong element is told exactly');
  assert(told(Float32Array.from(whole).reverse()) > 1, 'another order is told');
});
