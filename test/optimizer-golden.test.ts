/** Momentum SGD, in place, against ten steps of PyTorch's SGD in float64 with a rate that changes (test/golden/optimizer.py). */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { Scope } from '../src/core/scope.js';
import { type InputSpec, type RecordedInput, startEngine } from '../src/graph/engine.js';
import { momentumUpdates } from '../src/optim/sgd.js';
import { DType } from '../src/tensorflow/dtype.js';
import { execute } from '../src/tensorflow/execute.js';
import { liveHandles, tensorFrom } from '../src/tensorflow/tensor-handle.js';
import { Variable } from '../src/tensorflow/variable.js';
import { assertClose } from './support/assert-close.js';
import { type GoldenSgd, readGoldenCases } from './support/golden.js';
import { CPU_1, testRuntime } from './support/test-runtime.js';

const runtime = testRuntime({ explicitPlacement: true });
const engine = startEngine(runtime, CPU_1);
after(() => assert.deepEqual([engine.liveTensors, liveHandles()], [0, 0], 'live tensors and handles'));

/** Of the relative L2 error of the parameters after each of the steps. */
const TOLERANCE = 5e-7;

type Four<T> = [T, T, T, T];

let numFunctions = 0;

/** Records the update of one parameter: parameter, momentum, gradient, learning rate. */
function recordUpdate({ momentum, nesterov, weightDecay, parameter }: GoldenSgd): string {
  const { shape } = parameter;
  const variable: InputSpec = { kind: 'variable', shape };
  const tensor = (of: readonly number[]): InputSpec => ({ kind: 'tensor', shape: of, dtype: DType.float32 });
  const name = `sgd_${numFunctions++}`;
  const options = { momentum, nesterov, weightDecay };
  engine.recordFunction({ name, precision: 'float32' }, [variable, variable, tensor(shape), tensor([])], (inputs) => {
    const [weights, velocity, gradient, rate] = inputs as Four<RecordedInput>;
    const state = {
      parameters: [weights],
      momenta: [velocity],
      gradients: [gradient.value()],
      learningRate: rate.value(),
    };
    return { outputs: [], effects: momentumUpdates(engine, state, options) };
  });
  return name;
}

for (const golden of readGoldenCases('optimizer.json')) {
  const { momentum, nesterov, weightDecay, learningRates, parameter, gradients, parameters } = golden;
  test(`as PyTorch's SGD: momentum ${momentum}${nesterov ? ', Nesterov' : ''}, weight decay ${weightDecay}`, () => {
    using scope = new Scope();
    const { shape } = parameter;
    const size = parameter.values.length;
    const name = recordUpdate(golden);
    const weights = scope.use(new Variable(runtime, CPU_1, Float32Array.from(parameter.values), shape));
    const velocity = scope.use(new Variable(runtime, CPU_1, new Float32Array(size), shape));
    const addresses = () => [weights, velocity].map(addressOf);
    const before = addresses();
    for (const [step, learningRate] of learningRates.entries()) {
      const own = (values: readonly number[]) => values.slice(step * size, (step + 1) * size);
      using gradient = tensorFrom(runtime, CPU_1, Float32Array.from(own(gradients.values)), shape);
      using rate = tensorFrom(runtime, CPU_1, Float32Array.of(learningRate), []);
      const inputs = [weights.handle, velocity.handle, gradient, rate];
      execute(runtime, { name, inputs, device: CPU_1, numOutputs: 0 });
      assertClose(weights.readInto(new Float32Array(size)), own(parameters.values), TOLERANCE, `step ${step + 1}`);
    }
    assert.deepEqual(addresses(), before, 'updated in place');
  });
}

function addressOf(variable: Variable): bigint {
  using value = variable.value();
  return value.address;
}
