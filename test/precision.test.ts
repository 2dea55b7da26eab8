/**
 * A whole step in bfloat16: each gradient is as near to float32's as PyTorch's autocast comes on the same weights and images, to a quarter
 * (test/golden/autocast.py). No absolute bound would do: a ReLU that changes its mind changes what lies before it.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sizeOf } from '../src/core/shape.js';
import { median } from '../src/core/statistics.js';
import { startEngine } from '../src/graph/engine.js';
import { type Model, makeModel } from '../src/model/catalogue.js';
import { fromTorch } from '../src/model/torch-layout.js';
import { readGoldenJson } from './support/golden.js';
import { OneRank } from './support/one-rank.js';
import { loadParityCase, makeImages, type PARITY_CASES } from './support/parity-case.js';
import { CPU_0, testRuntime } from './support/test-runtime.js';

/** What autocast.py writes: `losses` are PyTorch's [float32, autocast] of each batch. */
interface Golden {
  readonly case: (typeof PARITY_CASES)[number];
  readonly batch: number;
  readonly batches: number;
  readonly losses: readonly (readonly [full: number, low: number])[];
  readonly errors: Readonly<Record<string, number>>;
}

/** Of PyTorch autocast's own error. */
const AT_MOST = 1.25;

const engine = startEngine(testRuntime({ threadsPerDevice: 2 }), CPU_0);

for (const golden of readGoldenJson<{ cases: readonly Golden[] }>('autocast.json').cases) {
  test(`${golden.case}: no gradient in bfloat16 is farther from float32 than ${AT_MOST} times PyTorch autocast's`, () => {
    const { model, full, low } = gradientsOf(golden);
    const errors = new Map(model.parameters.map(({ name }, i) => [name, errorOf(low, full, i)]));
    assert.deepEqual([...errors.keys()].sort(), Object.keys(golden.errors).sort());
    const shares = Array.from(errors, ([name, error]) => ({ name, error, share: error / golden.errors[name]! }));
    const worst = shares.reduce((a, b) => (b.share > a.share ? b : a));
    const { name, error, share } = worst;
    assert(
      share <= AT_MOST,
      `gradient of ${name}: expected a relative error of at most ${AT_MOST} × ${golden.errors[name]}, got ${error} (${share} ×)`,
    );
    assert(median(shares.map((tensor) => tensor.share)) > 0.5, 'bfloat16 has errors of its own');
  });
}

type Gradients = readonly (readonly Float32Array[])[];

/** By batch and parameter, in both precisions; the float32 losses are PyTorch's. */
function gradientsOf({ case: name, batch, batches, losses }: Golden): {
  model: Model;
  full: Gradients;
  low: Gradients;
} {
  const parity = loadParityCase(name);
  const [, height, width, channels] = parity.imageShape;
  const model = makeModel(engine, { ...parity, name: parity.model, shortcut: 'A' }, [height, width]);
  // The first batch twice: the mean takes the place of the first shard's row.
  const count = batch * (1 + batches);
  const imageOf = (i: number) => Math.max(0, i - batch);
  const made = makeImages([batch * batches, height, width, channels], 0);
  const bytes = height * width * channels;
  const imagesNHWC = new Uint8Array(count * bytes);
  for (let i = 0; i < count; i++)
    imagesNHWC.set(made.subarray(imageOf(i) * bytes, (imageOf(i) + 1) * bytes), i * bytes);
  const labels = Int32Array.from({ length: count }, (_, i) => (3 * imageOf(i) + 1) % parity.classes);
  const weights = fromTorch(model, parity.state, name);
  const [full, low] = (['float32', 'bfloat16'] as const).map((precision) => {
    const images = { imagesNHWC, labels, height, width, normalization: parity.normalization };
    using rank = new OneRank(engine, model, weights, images, { precision, shardBatch: batch });
    rank.step(0);
    return Array.from({ length: batches }, (_, shard) => {
      const row = rank.row(1 + shard);
      const expected = losses[shard]![precision === 'float32' ? 0 : 1];
      const loss = row[rank.layout.loss]!;
      assert(Math.abs(loss / expected - 1) < (precision === 'float32' ? 1e-5 : 0.02), `${precision} loss ${loss}`);
      let at = 0;
      return rank.layout.parameterShapes.map((shape) => row.slice(at, (at += sizeOf(shape))));
    });
  });
  return { model, full: full!, low: low! };
}

/** Of one parameter over all batches, as autocast.py has it. */
function errorOf(got: Gradients, expected: Gradients, parameter: number): number {
  let differences = 0;
  let squares = 0;
  for (const [batch, gradients] of expected.entries()) {
    for (const [i, value] of gradients[parameter]!.entries()) {
      differences += (got[batch]![parameter]![i]! - value) ** 2;
      squares += value ** 2;
    }
  }
  return Math.sqrt(differences / squares);
}
