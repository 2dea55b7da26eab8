/**
 * One training step that PyTorch computed in float64, for dtrain to repeat: test/golden/parity.py.
 *
 * Idea: weights and images are formulas over Philox, so a file holds results alone, and a large tensor is stored as its count sketch, from
 * which the distance of two tensors can be told but not the tensor.
 * Layouts are PyTorch's: kernels OIHW, dense [out, in]; images NHWC. Names are torchvision's.
 */
import { drawWords, fillNormal, Purpose } from '../../src/core/philox.js';
import { decodeSafetensors, decodeSafetensorsMetadata, type StoredTensor } from '../../src/core/safetensors.js';
import { sizeOf } from '../../src/core/shape.js';
import { readGolden } from './golden.js';

export const PARITY_CASES = ['resnet20', 'resnet18', 'resnet18-imagenet', 'resnet50', 'resnet50-imagenet'] as const;

export interface ParityCase {
  readonly model: string;
  readonly stem: 'cifar' | 'imagenet';
  readonly classes: number;
  readonly imageShape: readonly [n: number, h: number, w: number, c: number];
  readonly imagesNHWC: Uint8Array;
  readonly labels: Int32Array;
  readonly normalization: { readonly mean: readonly number[]; readonly std: readonly number[] };
  /** Weights and running statistics before the step: what `encodeSafetensors` makes a file for `model.initFrom` of. */
  readonly state: ReadonlyMap<string, StoredTensor>;
  /** Mean cross-entropy over the images, in training mode. */
  readonly loss: number;
  /** [n, classes], in training mode. */
  readonly logits: Float64Array;
  /** [n, classes], in evaluation mode, with the running statistics that the forward pass of the step left. */
  readonly evalLogits: Float64Array;
  /** Names of parameters, of which there are gradients, and of running statistics, in the order of PyTorch's state. */
  readonly parameters: readonly string[];
  readonly statistics: readonly string[];
  /** |got - PyTorch's| / |PyTorch's|, exact for tensors stored whole, else an estimate that deviates by about 6 %. */
  gradientError(parameter: string, got: Float32Array): number;
  statisticsError(statistic: string, got: Float32Array): number;
}

/** What parity.py writes as JSON into the metadata. */
interface Golden {
  readonly model: string;
  readonly stem: 'cifar' | 'imagenet';
  readonly classes: number;
  readonly seed: number;
  readonly imageShape: readonly [number, number, number, number];
  readonly imageSum: number;
  readonly labels: readonly number[];
  readonly mean: readonly number[];
  readonly std: readonly number[];
  readonly state: readonly StateRow[];
  readonly loss: number;
  readonly norms: Readonly<Record<string, number>>;
}
type StateRow = readonly [name: string, shape: readonly number[], offset: number, scale: number, norm: number];

export function loadParityCase(name: (typeof PARITY_CASES)[number]): ParityCase {
  const { golden, tensors } = readParityFile(name);
  const float64 = (key: string) => tensors.get(key)!.values as Float64Array;
  const error = (key: string, got: Float32Array) => {
    const reference = tensors.get(key)?.values as Float32Array | undefined;
    if (reference === undefined) throw new Error(`parity-${name}.safetensors has no ${key}`);
    return relativeError(got, reference, golden.norms[key]!);
  };
  const namesUnder = (prefix: string) =>
    Object.keys(golden.norms)
      .filter((key) => key.startsWith(prefix))
      .map((key) => key.slice(prefix.length));
  return {
    model: golden.model,
    stem: golden.stem,
    classes: golden.classes,
    imageShape: golden.imageShape,
    imagesNHWC: makeImages(golden.imageShape, golden.seed),
    labels: Int32Array.from(golden.labels),
    normalization: { mean: golden.mean, std: golden.std },
    state: makeState(golden, tensors),
    loss: golden.loss,
    logits: float64('logits'),
    evalLogits: float64('evalLogits'),
    parameters: namesUnder('gradient/'),
    statistics: namesUnder('running/'),
    gradientError: (parameter, got) => error(`gradient/${parameter}`, got),
    statisticsError: (statistic, got) => error(`running/${statistic}`, got),
  };
}

/** The golden file itself, for tests of this file. */
export function readParityFile(name: string): { golden: Golden; tensors: Map<string, StoredTensor> } {
  const file = `parity-${name}.safetensors`;
  const bytes = readGolden(file);
  const golden = JSON.parse(decodeSafetensorsMetadata(bytes, file)['golden']!) as Golden;
  return { golden, tensors: decodeSafetensors(bytes, file) };
}

/** offset + scale * normal, by the index of each tensor; the biases before ReLUs come from the file, shifted away from ReLUs near 0. */
function makeState({ seed, state }: Golden, tensors: ReadonlyMap<string, StoredTensor>): Map<string, StoredTensor> {
  const made = new Map<string, StoredTensor>();
  for (const [index, [name, shape, offset, scale]] of state.entries()) {
    const values = new Float32Array(sizeOf(shape));
    fillNormal(values, seed, Purpose.initialization, index);
    for (let i = 0; i < values.length; i++) values[i] = offset + scale * values[i]!;
    made.set(name, tensors.get(`bias/${name}`) ?? { dtype: 'F32', shape, values });
  }
  return made;
}

const COARSE = 0;
const FINE = 1;
const SKETCH = 2;
const SQUARE = 4;

/** Three parts squares of 4 x 4 pixels, one part noise; image i is the same for any count. */
export function makeImages([count, height, width, channels]: Golden['imageShape'], seed: number): Uint8Array {
  const imageBytes = height * width * channels;
  const images = new Uint8Array(count * imageBytes);
  const drawByte = (stream: number, image: number, i: number) =>
    drawWords(seed, Purpose.synthetic, stream, image, i >>> 2)[i & 3]! >>> 24;
  for (let image = 0; image < count; image++) {
    for (let i = 0; i < imageBytes; i++) {
      const [y, x, c] = [Math.floor(i / (width * channels)), Math.floor(i / channels) % width, i % channels];
      const square = (Math.floor(y / SQUARE) * (width / SQUARE) + Math.floor(x / SQUARE)) * channels + c;
      images[image * imageBytes + i] = (3 * drawByte(COARSE, image, square) + drawByte(FINE, image, i)) >>> 2;
    }
  }
  return images;
}

/** |got - reference| / norm; a reference shorter than `got` is a sketch. */
export function relativeError(got: Float32Array, reference: Float32Array, norm: number): number {
  const comparable = reference.length === got.length ? got : sketch(got, reference.length);
  let squares = 0;
  for (let i = 0; i < reference.length; i++) squares += (comparable[i]! - reference[i]!) ** 2;
  return Math.sqrt(squares) / norm;
}

/** Count sketch: each element added to a bucket with a sign, both drawn from its index. */
export function sketch(values: Float32Array, buckets: number): Float64Array {
  const sums = new Float64Array(buckets);
  for (let i = 0; i < values.length; i += 4) {
    const words = drawWords(0, Purpose.synthetic, SKETCH, i >>> 2);
    for (let k = 0; k < 4 && i + k < values.length; k++) {
      const word = words[k]!;
      const value = values[i + k]!;
      sums[word % buckets]! += word >>> 31 === 1 ? -value : value;
    }
  }
  return sums;
}
