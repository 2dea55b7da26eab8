/** Golden values: files under test/golden, each beside the Python script that made it. */
import fs from 'node:fs';

const FOLDER = new URL('../../../test/golden/', import.meta.url);

/** An array of a golden JSON file, row-major. */
export interface GoldenArray {
  readonly shape: readonly number[];
  readonly values: readonly number[];
}

/** optimizer.json: `parameters` is [steps, size], after each step. */
export interface GoldenSgd {
  readonly momentum: number;
  readonly nesterov: boolean;
  readonly weightDecay: number;
  readonly learningRates: readonly number[];
  readonly parameter: GoldenArray;
  readonly gradients: GoldenArray;
  readonly parameters: GoldenArray;
}

/** augmentation.json: per image, cropYX in [0, 2 crop], flip 0 or 1, cutoutYX a pixel of the flipped image. */
export interface GoldenAugmentation {
  readonly crop: number;
  readonly cutout: number;
  readonly mean: readonly number[];
  readonly std: readonly number[];
  readonly imagesNHWC: GoldenArray;
  readonly cropYX: readonly (readonly [number, number])[];
  readonly flip: readonly number[];
  readonly cutoutYX: readonly (readonly [number, number])[];
  readonly outputNHWC: GoldenArray;
}

/** layers.json: in NHWC and HWIO; `gradients` of sum(output * upstream), by the name of the input. */
export type GoldenLayer = {
  readonly inputs: Readonly<Record<string, GoldenArray>>;
  readonly output: GoldenArray;
  readonly upstream: GoldenArray;
  readonly gradients: Readonly<Record<string, GoldenArray>>;
} & (
  | { readonly layer: 'convolution'; readonly stride: number; readonly padding: number }
  | { readonly layer: 'max-pool'; readonly window: number; readonly stride: number; readonly padding: number }
  | { readonly layer: 'global-average' }
  | { readonly layer: 'shortcut-a'; readonly stride: number; readonly channels: number }
  | {
      readonly layer: 'batch-norm';
      readonly training: boolean;
      readonly epsilon: number;
      /** PyTorch's: the share of the new statistics. */
      readonly momentum: number;
      readonly before: { readonly mean: GoldenArray; readonly variance: GoldenArray };
      readonly after: { readonly mean: GoldenArray; readonly variance: GoldenArray };
    }
  | { readonly layer: 'cross-entropy'; readonly smoothing: number; readonly labels: readonly number[] }
);

interface GoldenCases {
  readonly 'optimizer.json': GoldenSgd;
  readonly 'augmentation.json': GoldenAugmentation;
  readonly 'layers.json': GoldenLayer;
}

/** The cases of one of the files above. */
export function readGoldenCases<F extends keyof GoldenCases>(file: F): readonly GoldenCases[F][] {
  return readGoldenJson<{ cases: readonly GoldenCases[F][] }>(file).cases;
}

/** A golden JSON file; the caller names the type that its script writes. */
export function readGoldenJson<T>(file: string): T {
  return JSON.parse(fs.readFileSync(new URL(file, FOLDER), 'utf8')) as T;
}

/** A golden file's bytes. */
export function readGolden(file: string): Uint8Array {
  return fs.readFileSync(new URL(file, FOLDER));
}
