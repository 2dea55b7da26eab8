/** Every kernel of the backend, recorded against eager, forward and, where tfjs has one, its gradient; docs/models.md has the table of them. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { test } from 'node:test';
import { startEngine } from '../src/graph/engine.js';
import { tf } from '../src/graph/tfjs.js';
import { OP_CASES } from './ops/cases.js';
import { type CheckedCase, checkCase, kernelsOf } from './ops/check-case.js';
import { operationsTable } from './ops/operations-table.js';
import { CPU_0, testRuntime } from './support/test-runtime.js';

const engine = startEngine(testRuntime(), CPU_0);
const page = new URL('../../docs/models.md', import.meta.url);
const checked = new Map<string, CheckedCase>();

for (const one of OP_CASES) {
  test(`recorded = eager: ${one.name}`, () => {
    checked.set(one.name, checkCase(engine, one));
  });
}

test('a mask by comparison has the gradient 0', () => {
  const x = tf.tensor1d([1, -2, 3]);
  const masked = tf.grad((x) => tf.mul(tf.cast(tf.greater(x, 0), 'float32'), tf.square(x)));
  const gradient = masked(x);
  assert.deepEqual(
    [...gradient.dataSync()].map((value) => value + 0), // a zero has no sign here
    [2, 0, 6],
  );
  gradient.dispose();
  x.dispose();
});

/** Kernels of dtrain's own that other tests hold, and where; tfjs has no function for them. */
const ELSEWHERE: Readonly<Record<string, string>> = {
  BatchNormTraining: 'gradients.test.ts',
  BatchNormTrainingGradient: 'gradients.test.ts',
  BatchNormInference: 'gradients.test.ts',
  SoftmaxCrossEntropy: 'gradients.test.ts',
  StatelessDraw: 'compile.test.ts',
  Multinomial: 'compile.test.ts',
};

test('no kernel is left out', () => {
  const ran = new Set([...checked.values()].flatMap(({ kernels }) => kernels));
  const all = tf.getKernelsForBackend('tensorflow').map(({ kernelName }) => kernelName);
  assert.ok(all.length >= 155, `${all.length} kernels`);
  assert.deepEqual(
    all.filter((kernel) => !ran.has(kernel) && !(kernel in ELSEWHERE)),
    [],
  );
});

test('every gradient that tfjs has is taken', () => {
  const withGradient = [...checked.values()].filter(({ hasGradient }) => hasGradient).flatMap(({ kernels }) => kernels);
  const missing = tf
    .getKernelsForBackend('tensorflow')
    .map(({ kernelName }) => kernelName)
    .filter((kernel) => tf.getGradient(kernel) && !withGradient.includes(kernel));
  assert.deepEqual(missing, ['ComplexAbs']); // its input is complex, and tfjs has no gradient of tf.complex
});

test('docs/models.md has the table that these tests make (npm run test:ops)', () => {
  const table = operationsTable(checked);
  const text = fs.readFileSync(page, 'utf8');
  if (process.env['DTRAIN_WRITE_TABLE']) fs.writeFileSync(page, table.replaceIn(text));
  else assert.equal(text, table.replaceIn(text));
});

test('kernels are seen', () => {
  assert.deepEqual(
    kernelsOf(() => tf.tidy(() => void tf.neg(tf.scalar(1)))),
    ['Neg'],
  );
});
