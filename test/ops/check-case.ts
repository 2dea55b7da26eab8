/** Runs a case eagerly and recorded, forward and backward, and tells which kernels it ran. */
import assert from 'node:assert/strict';
import type { Engine } from '../../src/graph/engine.js';
import { type Tensor, tf } from '../../src/graph/tfjs.js';
import { DType } from '../../src/tensorflow/dtype.js';
import { assertClose } from '../support/assert-close.js';
import { eager, recorded } from '../support/recorded-function.js';
import { errorOf } from '../support/test-runtime.js';
import type { OpCase } from './cases.js';

export interface CheckedCase {
  /** In the order in which they first ran, those of the gradient too. */
  readonly kernels: readonly string[];
  readonly hasGradient: boolean;
}

/** Several kernels in a row may be fused in a function: another order of sums. */
const FUSED = 1e-6;

export function checkCase(engine: Engine, { name, inputs, code, by, tolerance = FUSED, refused }: OpCase): CheckedCase {
  const run = code as (...tensors: Tensor[]) => Tensor | readonly Tensor[];
  const forward = (...tensors: Tensor[]) => [run(...tensors)].flat() as Tensor[];
  const wanted = by ?? inputs.flatMap(({ dtype }, i) => (dtype === DType.float32 ? [i] : []));
  const all = (...tensors: Tensor[]) => [...forward(...tensors), ...gradients(forward, tensors, wanted)];
  let expected: ReturnType<typeof eager> = [];
  const kernels = kernelsOf(() => {
    expected = eager(inputs, all);
  });
  if (refused) {
    assert.match(errorOf(() => recorded(engine, inputs, forward)).message, refused, name);
    return { kernels, hasGradient: false };
  }
  const got = recorded(engine, inputs, all);
  assert.equal(got.length, expected.length, name);
  for (const [i, values] of expected.entries()) {
    assert.ok(values.some(Boolean), `${name}: output ${i} is all zero and tells nothing`);
    assertClose(got[i]!, values, tolerance, `${name}: output ${i}`);
  }
  return { kernels, hasGradient: wanted.length > 0 };
}

/** Of the mean square of the result, by the inputs `wanted`. */
function gradients(
  forward: (...tensors: Tensor[]) => Tensor[],
  tensors: readonly Tensor[],
  wanted: readonly number[],
): Tensor[] {
  if (wanted.length === 0) return [];
  const loss = () => tf.mean(tf.square(tf.add(tf.cast(forward(...tensors)[0]!, 'float32'), 0.5)));
  const by = wanted.map((i) => tensors[i]!);
  const { grads } = tf.engine().gradients(loss, by, undefined, false);
  return grads;
}

/** The kernels that `run` runs. */
export function kernelsOf(run: () => void): string[] {
  const engine = tf.engine() as unknown as { runKernel(...args: unknown[]): unknown };
  const kernels = new Set<string>();
  engine.runKernel = (...args) => {
    kernels.add(args[0] as string);
    return Object.getPrototypeOf(engine).runKernel.apply(engine, args) as unknown;
  };
  try {
    run();
  } finally {
    delete (engine as Partial<typeof engine>).runKernel;
  }
  return [...kernels];
}
