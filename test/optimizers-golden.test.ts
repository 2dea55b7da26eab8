/** Every optimizer, decay, clipping and the averages, in place, against ten steps of PyTorch in float64 (test/golden/optimizers.py). */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Scope } from '../src/core/scope.js';
import { sizeOf } from '../src/core/shape.js';
import { type InputSpec, startEngine } from '../src/graph/engine.js';
import { moveAverage, optimizerUpdates } from '../src/optim/optimizer.js';
import { NUM_RATES, type OptimizerOptions, optimizerSlots, ratesOf } from '../src/optim/optimizer-options.js';
import { DType } from '../src/tensorflow/dtype.js';
import { execute } from '../src/tensorflow/execute.js';
import { tensorFrom } from '../src/tensorflow/tensor-handle.js';
import { Variable } from '../src/tensorflow/variable.js';
import { assertClose } from './support/assert-close.js';
import { type GoldenArray, readGoldenJson } from './support/golden.js';
import { CPU_0, testRuntime } from './support/test-runtime.js';

interface GoldenOptimizer {
  readonly options: OptimizerOptions;
  readonly ema: number;
  readonly learningRates: readonly number[];
  readonly values: readonly GoldenArray[];
  /** [steps, …shape] of each parameter. */
  readonly gradients: readonly GoldenArray[];
  /** [steps, all parameters]. */
  readonly parameters: GoldenArray;
  readonly averages: GoldenArray;
}

const runtime = testRuntime();
const engine = startEngine(runtime, CPU_0);

/** Of the relative L2 error after each step. */
const TOLERANCE = 1e-5;

function recordUpdate(name: string, { options, values }: GoldenOptimizer): void {
  const variables = values.map(({ shape }): InputSpec => ({ kind: 'variable', shape }));
  const tensor = (shape: readonly number[]): InputSpec => ({ kind: 'tensor', shape, dtype: DType.float32 });
  const slots = optimizerSlots(options);
  const state = [...variables, ...slots.flatMap(() => variables), ...variables];
  const inputs = [...state, ...values.map(({ shape }) => tensor(shape)), tensor([NUM_RATES]), tensor([])];
  engine.recordFunction({ name, precision: 'float32' }, inputs, (recorded) => {
    const n = values.length;
    const part = (i: number) => recorded.slice(i * n, (i + 1) * n);
    const parameters = part(0);
    const gradients = part(slots.length + 2).map((input) => input.value());
    const [rates, averageRate] = recorded.slice(-2);
    const slotInputs = slots.map((_, i) => part(1 + i));
    const optimizerState = { parameters, slots: slotInputs, gradients, rates: rates!.value() };
    const updates = optimizerUpdates(engine, optimizerState, options);
    const averaged = part(1 + slots.length).map((average, i) =>
      moveAverage(engine, average, engine.readAgain(parameters[i]!, updates[i]!), averageRate!.value()),
    );
    return { outputs: [], effects: [...updates.flat(), ...averaged] };
  });
}

const { cases } = readGoldenJson<{ cases: readonly GoldenOptimizer[] }>('optimizers.json');

test('every optimizer is among the golden ones', () => {
  assert.deepEqual([...new Set(cases.map(({ options }) => options.name))], ['sgd', 'adamw', 'lars', 'muon']);
});

for (const [index, golden] of cases.entries()) {
  const { options, ema, learningRates, values, gradients, parameters, averages } = golden;
  const { name, nesterov, decoupled, exempt, clipNorm } = options;
  test(`as PyTorch's: ${name}, nesterov ${nesterov}, decoupled ${decoupled}, exempt ${exempt}, clip ${clipNorm}`, () => {
    using scope = new Scope();
    const fn = `optimizer_${index}`;
    recordUpdate(fn, golden);
    const variable = (shape: readonly number[], first: Float32Array) =>
      scope.use(new Variable(runtime, CPU_0, first, shape));
    const copy = () => values.map((value) => variable(value.shape, Float32Array.from(value.values)));
    const weights = copy();
    const slots = optimizerSlots(options).flatMap(() =>
      values.map(({ shape }) => variable(shape, new Float32Array(sizeOf(shape)))),
    );
    const average = copy();
    const flat = (variables: readonly Variable[]) =>
      Float32Array.from(variables.flatMap((v) => [...v.readInto(new Float32Array(sizeOf(v.shape)))]));
    for (const [i, learningRate] of learningRates.entries()) {
      using feeds = new Scope();
      const feed = (array: ArrayLike<number>, shape: readonly number[]) =>
        feeds.use(tensorFrom(runtime, CPU_0, Float32Array.from(array), shape));
      const own = gradients.map((all, p) => {
        const { shape } = values[p]!;
        const size = sizeOf(shape);
        return feed(all.values.slice(i * size, (i + 1) * size), shape);
      });
      const rates = feed(ratesOf(learningRate, i + 1, options), [NUM_RATES]);
      const averageRate = feed([i === 0 ? 1 : 1 - ema], []);
      const state = [...weights, ...slots, ...average].map(({ handle }) => handle);
      execute(runtime, { name: fn, inputs: [...state, ...own, rates, averageRate], device: CPU_0, numOutputs: 0 });
      const length = parameters.shape[1]!;
      const expected = (of: GoldenArray) => of.values.slice(i * length, (i + 1) * length);
      assertClose(flat(weights), expected(parameters), TOLERANCE, `weights, step ${i + 1}`);
      assertClose(flat(average), expected(averages), TOLERANCE, `averages, step ${i + 1}`);
    }
  });
}
