/** The recorded step compiled by XLA (`_XlaMustCompile`) is the step that TensorFlow's executor runs. On CPUs it is slower; GPUs use it. */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { startEngine } from '../src/graph/engine.js';
import { makeModel } from '../src/model/catalogue.js';
import { fromTorch } from '../src/model/torch-layout.js';
import { liveHandles } from '../src/tensorflow/tensor-handle.js';
import { assertClose } from './support/assert-close.js';
import { OneRank, type OneRankOptions } from './support/one-rank.js';
import { loadParityCase } from './support/parity-case.js';
import { operationsByDevice } from './support/run-metadata.js';
import { CPU_1, testRuntime } from './support/test-runtime.js';

const runtime = testRuntime({ threadsPerDevice: 2 });
const engine = startEngine(runtime, CPU_1);
after(() => assert.deepEqual([engine.liveTensors, liveHandles()], [0, 0], 'live tensors and handles'));

/** All relative: the loss, and the whole gradient of each parameter. */
const LOSS = 1e-6;
const GRADIENT = 2e-5;

/** The parity case: no ReLU input is so near 0 that another order of sums flips it. */
const golden = loadParityCase('resnet20');
const [, height, width] = golden.imageShape;
const model = makeModel(engine, { ...golden, name: golden.model, shortcut: 'A' }, [height, width]);

function resnet20(options: OneRankOptions): OneRank {
  const weights = fromTorch(model, golden.state, 'parity case');
  return new OneRank(engine, model, weights, { ...golden, height, width }, { device: CPU_1, ...options });
}

/** The result of `act`, and the types of the operations that TensorFlow's executor ran for it, without the names that oneDNN adds. */
function observed<T>(act: () => T): [T, Set<string>] {
  let result: T | undefined;
  const byDevice = operationsByDevice(runtime, () => {
    result = act();
  });
  const types = [...byDevice.values()].flatMap((own) => [...own]);
  return [result!, new Set(types.map((type) => type.replace(/^_MklNative/, '')))];
}

test('ResNet-20 compiled by XLA: loss, gradients and moved weights are those of the executor', () => {
  using graph = resnet20({ xla: false });
  using compiled = resnet20({ xla: true });
  const [expected, ranOne] = observed(() => graph.step());
  const [got, compiledOne] = observed(() => compiled.step());
  assert(ranOne.has('Conv2DBackpropFilter'), 'the executor runs the operations one by one');
  assert(!compiledOne.has('Conv2DBackpropFilter'), 'XLA makes one program of them');
  assertClose([got.loss], [expected.loss], LOSS, 'loss');
  assert.equal(got.correct, expected.correct);
  const gradients = graph.gradients();
  for (const [i, gradient] of compiled.gradients().entries()) {
    assertClose(gradient, gradients[i]!, GRADIENT, `gradient of ${model.parameters[i]!.name}`);
  }
  assertClose(compiled.state().statistics, graph.state().statistics, LOSS, 'running statistics');
  assert.deepEqual(compiled.evaluate().predictedN, graph.evaluate().predictedN);
  const again = compiled.gradients();
  compiled.step(0);
  compiled.step(0);
  assert.notDeepEqual(compiled.gradients(), again, 'a step from moved weights');
  assert.deepEqual(compiled.step(0), compiled.step(0), 'the same step, the same bits');
});
