/**
 * tfjs's random operations inside a recorded step: drawn by TensorFlow from a key that is an input, so other numbers come in every step
 * and the same ones for the same key.
 *
 * Idea: `withRandomKey` numbers the draws of a step; draw i uses the key (k0 + i, k1) of TensorFlow's stateless generators (Philox).
 * Without a key tfjs draws in JavaScript as ever; in a recording that is refused. A `seed` argument only chooses numbers where there is no key.
 */
import type { Shape } from '../core/shape.js';
import { attr, FLOAT_T } from '../tensorflow/attribute.js';
import { DType } from '../tensorflow/dtype.js';
import { frozenRandom } from './random-source.js';
import {
  type DataType,
  defineKernel,
  runKernel,
  stockKernel,
  type Tensor,
  type TensorInfo,
  tf,
  tfjsCore,
} from './tfjs.js';

interface Draws {
  /** int32 [2]. */
  readonly key: Tensor;
  count: number;
}

let current: Draws | undefined;

/** Runs `build`, with the random numbers of tfjs's operations drawn from `key` (int32 [2]). */
export function withRandomKey<T>(key: Tensor, build: () => T): T {
  const outer = current;
  current = { key, count: 0 };
  try {
    return build();
  } finally {
    current = outer;
  }
}

type Operation = 'StatelessRandomUniform' | 'StatelessRandomNormal' | 'StatelessTruncatedNormal';

/** Replaces tfjs's functions. `isRecording` tells whether this thread records. Once a thread, by startEngine. */
export function installRandomOps(isRecording: () => boolean): void {
  const functions = tfjsCore as unknown as Record<string, (...args: never[]) => Tensor>;
  const replace = <Args extends unknown[]>(
    name: string,
    drawn: ((draws: Draws, ...args: Args) => Tensor) | undefined,
  ) => {
    const stock = functions[name] as unknown as (...args: Args) => Tensor;
    const replaced = (...args: Args): Tensor => {
      if (current && drawn) {
        const draws = current;
        return tf.tidy(() => drawn(draws, ...args));
      }
      if (isRecording()) throw frozenRandom(`tf.${name}`);
      return stock(...args);
    };
    functions[name] = replaced as unknown as (...args: never[]) => Tensor;
  };
  type Extents = number[];
  const affine = (x: Tensor, factor: number, shift: number, dtype: DataType = 'float32') =>
    tf.cast(tf.add(tf.mul(x, factor), shift), dtype);
  replace('randomUniform', (draws, shape: Extents, low: number = 0, high: number = 1, dtype: DataType = 'float32') =>
    affine(next(draws, 'StatelessRandomUniform', shape), high - low, low, dtype),
  );
  replace('randomUniformInt', (draws, shape: Extents, low: number, high: number) =>
    affine(next(draws, 'StatelessRandomUniform', shape), high - low, low, 'int32'),
  );
  replace(
    'randomNormal',
    (draws, shape: Extents, mean: number = 0, deviation: number = 1, dtype: DataType = 'float32') =>
      affine(next(draws, 'StatelessRandomNormal', shape), deviation, mean, dtype),
  );
  replace('randomStandardNormal', (draws, shape: Extents, dtype: DataType = 'float32') =>
    tf.cast(next(draws, 'StatelessRandomNormal', shape), dtype),
  );
  replace(
    'truncatedNormal',
    (draws, shape: Extents, mean: number = 0, deviation: number = 1, dtype: DataType = 'float32') =>
      affine(next(draws, 'StatelessTruncatedNormal', shape), deviation, mean, dtype),
  );
  replace('dropout', (draws, x: Tensor, rate: number, noiseShape?: (number | null)[]) => {
    if (rate === 0) return x.clone();
    const shape = (noiseShape ?? x.shape).map((extent, axis) => extent ?? x.shape[axis]!);
    const kept = tf.greaterEqual(next(draws, 'StatelessRandomUniform', shape), rate);
    return tf.mul(x, tf.mul(tf.cast(kept, 'float32'), 1 / (1 - rate)));
  });
  const multinomial = functions['multinomial'] as unknown as typeof tf.multinomial;
  replace('multinomial', (_draws, logits: Tensor, numSamples: number, _seed?: number, normalized?: boolean) =>
    multinomial(logits as never, numSamples, 1, normalized),
  );
  replace('randomGamma', undefined);
  replace('rand', undefined);
  installKernels();
}

/** The next numbers of a step, float32. */
function next(draws: Draws, operation: Operation, shape: Shape): Tensor {
  const extents = tf.tensor1d([...shape], 'int32');
  return runKernel('StatelessDraw', { extents, key: nextKey(draws) }, { operation });
}

function nextKey(draws: Draws): Tensor {
  return tf.add(draws.key, tf.tensor1d([draws.count++, 0], 'int32'));
}

function installKernels(): void {
  const types = [attr.type('T', DType.int32), attr.type('Tseed', DType.int32), attr.type('dtype', DType.float32)];
  defineKernel<{ extents: TensorInfo; key: TensorInfo }, { operation: Operation }>(
    'StatelessDraw',
    ({ inputs: { extents, key }, attrs: { operation }, backend }) =>
      backend.executeSingleOutput(operation, types, [extents, key]),
  );
  const stock = stockKernel('Multinomial');
  type Attrs = { numSamples: number; normalized: boolean };
  defineKernel<{ logits: TensorInfo }, Attrs>('Multinomial', (call) => {
    if (!current || call.attrs.normalized) return stock(call); // which refuses probabilities
    const own = nextKey(current);
    const attributes = [FLOAT_T, attr.type('Tseed', DType.int32), attr.type('output_dtype', DType.int32)];
    const samples = tf.scalar(call.attrs.numSamples, 'int32');
    return call.backend.executeSingleOutput('StatelessMultinomial', attributes, [call.inputs.logits, samples, own]);
  });
}
