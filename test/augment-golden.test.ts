/** Crop, flip, cutout and normalisation in the graph against torchvision in float64 (test/golden/augmentation.py). */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sizeOf } from '../src/core/shape.js';
import { type InputSpec, startEngine } from '../src/graph/engine.js';
import type { Tensor } from '../src/graph/tfjs.js';
import { DType } from '../src/tensorflow/dtype.js';
import { augmentedImages, plainImages } from '../src/train/augment.js';
import { assertClose } from './support/assert-close.js';
import { type GoldenAugmentation, readGoldenCases } from './support/golden.js';
import { type HostTensor, integers, run } from './support/recorded-function.js';
import { CPU_0, testRuntime } from './support/test-runtime.js';

const engine = startEngine(testRuntime(), CPU_0);
/** Of the relative L2 error of a batch. */
const TOLERANCE = 3e-7;
const cases = readGoldenCases('augmentation.json');

interface Options {
  readonly flip: boolean;
  /** Which images of the set, in order. */
  readonly indices: readonly number[];
}

let numFunctions = 0;

/** The batch as the recorded step makes it. Draws are those of the images taken. */
function augmented(golden: GoldenAugmentation, { flip, indices }: Options): Float32Array {
  const shape = golden.imagesNHWC.shape as [number, number, number, number];
  const images: HostTensor = { values: Uint8Array.from(golden.imagesNHWC.values), shape, dtype: DType.uint8 };
  const pairs = (draws: readonly (readonly number[])[]) =>
    integers(
      indices.flatMap((i) => draws[i]!),
      [indices.length, 2],
    );
  const flips = integers(indices.map((i) => golden.flip[i]!));
  const inputs = [images, integers(indices), pairs(golden.cropYX), flips, pairs(golden.cutoutYX)];
  const specs = inputs.map(({ shape: s, dtype }): InputSpec => ({ kind: 'tensor', shape: s, dtype }));
  const options = { crop: golden.crop, flip, cutout: golden.cutout };
  const fn = engine.recordFunction({ name: `augment_${numFunctions++}`, precision: 'float32' }, specs, (recorded) => {
    const [raw, ...rest] = recorded;
    const [ids, cropYX, flipN, cutoutYX] = rest.map((input) => input.value()) as [Tensor, Tensor, Tensor, Tensor];
    const [numImages, height, width] = shape;
    const normalization = { mean: golden.mean, std: golden.std };
    const source = { imagesMHWC: raw!.raw, numImages, height, width, normalization };
    return { outputs: [augmentedImages(engine, source, ids, { cropYX, flip: flipN, cutoutYX }, options)] };
  });
  return run(engine, fn, inputs)[0] as Float32Array;
}

/** The expected images `indices`, as float64. */
function expected({ outputNHWC: { shape, values } }: GoldenAugmentation, indices: readonly number[]): number[] {
  const size = sizeOf(shape.slice(1));
  return indices.flatMap((i) => values.slice(i * size, (i + 1) * size));
}

/** What is padding or cut out is the mean colour: exactly 0, there and only there. */
function assertZerosAgree(got: Float32Array, want: readonly number[]): void {
  const zeros = (values: ArrayLike<number>) => Array.from(values).flatMap((value, i) => (value === 0 ? [i] : []));
  assert.deepEqual(zeros(got), zeros(want));
}

for (const golden of cases) {
  const all = golden.flip.map((_, i) => i);
  const flips = golden.flip.includes(1) ? 'some flipped' : 'none flipped';
  test(`as torchvision: crop ${golden.crop}, cutout ${golden.cutout}, ${flips}`, () => {
    for (const indices of [all, [...all].reverse(), [0, 0, all.length - 1]]) {
      const got = augmented(golden, { flip: true, indices });
      const want = expected(golden, indices);
      assertClose(got, want, TOLERANCE, 'images');
      assertZerosAgree(got, want);
    }
  });
}

test('with flipping switched off the drawn flips do nothing', () => {
  for (const golden of cases.filter(({ flip }) => !flip.includes(1))) {
    const drawn = { ...golden, flip: golden.flip.map(() => 1) };
    const indices = golden.flip.map((_, i) => i);
    assertClose(augmented(drawn, { flip: false, indices }), expected(golden, indices), TOLERANCE, 'images');
    const flipped = augmented(drawn, { flip: true, indices });
    assert.notDeepEqual(Array.from(flipped), Array.from(augmented(golden, { flip: true, indices })));
  }
});

test('evaluation takes the images as they are, bit for bit what training without augmentation takes', () => {
  const golden = cases.find(({ crop, cutout, flip }) => crop === 0 && cutout === 0 && !flip.includes(1))!;
  const shape = golden.imagesNHWC.shape as [number, number, number, number];
  const images: HostTensor = { values: Uint8Array.from(golden.imagesNHWC.values), shape, dtype: DType.uint8 };
  const inputs = [images, integers([1, 0])];
  const specs = inputs.map(({ shape: s, dtype }): InputSpec => ({ kind: 'tensor', shape: s, dtype }));
  const fn = engine.recordFunction({ name: 'plain', precision: 'float32' }, specs, ([raw, ids]) => {
    const [numImages, height, width] = shape;
    const source = {
      imagesMHWC: raw!.raw,
      numImages,
      height,
      width,
      normalization: { mean: golden.mean, std: golden.std },
    };
    return { outputs: [plainImages(engine, source, ids!.value())] };
  });
  const plain = run(engine, fn, inputs)[0]!;
  assertClose(plain, expected(golden, [1, 0]), TOLERANCE, 'images');
  for (const flip of [false, true]) assert.deepEqual(plain, augmented(golden, { flip, indices: [1, 0] }));
});
