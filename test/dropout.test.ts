/** Dropout in the recorded step: fresh numbers in every step and shard, none in evaluation, the same for the same key. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startEngine } from '../src/graph/engine.js';
import { withRandomKey } from '../src/graph/random-ops.js';
import { type Tensor, tf } from '../src/graph/tfjs.js';
import { EvaluationNet, TrainingNet } from '../src/model/net.js';
import { floats, integers, record, run } from './support/recorded-function.js';
import { CPU_0, testRuntime } from './support/test-runtime.js';

const engine = startEngine(testRuntime(), CPU_0);
const SIZE = 4000;
const RATE = 0.25;

const step = record(engine, [integers([0, 0]), floats(new Array(SIZE).fill(2))], ([key, x]) => {
  const net = new TrainingNet([], []);
  return withRandomKey(key!.value(), () => [net.dropout(x!.value(), RATE), net.dropout(x!.value(), RATE)]);
});

const dropped = (key: readonly number[]) =>
  run(engine, step, [integers(key), floats(new Array(SIZE).fill(2))]).map((values) => [...values]) as [
    number[],
    number[],
  ];

test('a quarter is zero, the rest grows so that the mean stays', () => {
  for (const values of dropped([7, 9])) {
    const zeros = values.filter((value) => value === 0).length / SIZE;
    assert.ok(Math.abs(zeros - RATE) < 0.03, `${zeros}`);
    assert.deepEqual([...new Set(values)].sort(), [0, Math.fround(2 / (1 - RATE))].sort());
  }
});

test('the same for the same key; other numbers for another key and for the second dropout of a step', () => {
  const [first, second] = dropped([7, 9]);
  assert.deepEqual(dropped([7, 9]), [first, second]);
  assert.notDeepEqual(first, second);
  assert.notDeepEqual(dropped([7, 10])[0], first);
});

test('evaluation drops nothing', () => {
  const x = tf.tensor1d([1, 2, 3]);
  const y: Tensor = new EvaluationNet([], [], []).dropout(x);
  assert.equal(y, x);
  x.dispose();
});
