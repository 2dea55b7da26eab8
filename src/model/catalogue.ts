/** The models by name, and what a model is made of. */
import { DtrainError, ExitCode } from '../core/errors.js';
import { sizeOf } from '../core/shape.js';
import { nearestWord } from '../core/suggest.js';
import type { Engine } from '../graph/engine.js';
import type { RecordedOperation } from '../graph/recording.js';
import type { Tensor4D } from '../graph/tfjs.js';
import { DescribingNet, type ModelFunction, type ParameterSpec, type StatisticsSpec } from './net.js';
import { cifarResNet, IMAGENET_DEPTHS, imagenetResNet, type Shortcut, type Stem } from './resnet.js';

/** Depths 6n + 2 of the CIFAR family. */
const CIFAR_DEPTHS: readonly number[] = [20, 32, 44, 56, 110];

/** `resnet20` … `resnet110`, `resnet18` … `resnet152`. */
export const MODEL_NAMES: readonly string[] = [...CIFAR_DEPTHS, ...IMAGENET_DEPTHS].map((depth) => `resnet${depth}`);

export interface ModelOptions {
  readonly name: string;
  readonly classes: number;
  /** For the CIFAR family; the ImageNet family projects. */
  readonly shortcut: Shortcut;
  /** For the ImageNet family; the CIFAR family has one stem. */
  readonly stem: Stem;
}

/** A model: its code, and what describing it once found. */
export interface Model {
  readonly name: string;
  readonly classes: number;
  readonly forward: ModelFunction;
  /** In the order of the flat gradient. */
  readonly parameters: readonly ParameterSpec[];
  readonly statistics: readonly StatisticsSpec[];
  readonly numParameters: number;
  /** Of convolutions and dense layers, forward, one image. */
  readonly multiplyAdds: number;
  /** Layers with weights on the main path, as the paper counts depth: projections are not counted. */
  readonly layers: number;
}

/** [height, width] of the images. */
export type ImageSize = readonly [height: number, width: number];

/**
 * The model called `name`, described for images of `imageSize`.
 * @throws DTRAIN_MODEL_UNKNOWN (exit 3).
 */
export function makeModel(engine: Engine, options: ModelOptions, imageSize: ImageSize): Model {
  const forward = modelFunction(options);
  let net: DescribingNet | undefined;
  const operations = engine.trace(() => {
    net = new DescribingNet((shape) => engine.placeholder(shape));
    forward(net, engine.placeholder([1, ...imageSize, 3]) as Tensor4D);
  });
  const { parameters, statistics } = net!;
  return {
    name: options.name,
    classes: options.classes,
    forward,
    parameters,
    statistics,
    numParameters: parameters.reduce((sum, { shape }) => sum + sizeOf(shape), 0),
    multiplyAdds: multiplyAdds(operations),
    layers: parameters.filter(({ name, shape }) => shape.length > 1 && !name.includes('downsample')).length,
  };
}

function modelFunction({ name, classes, shortcut, stem }: ModelOptions): ModelFunction {
  if (!MODEL_NAMES.includes(name)) throw unknownModel(name);
  const depth = Number(name.slice('resnet'.length));
  return IMAGENET_DEPTHS.includes(depth) ? imagenetResNet(depth, classes, stem) : cifarResNet(depth, classes, shortcut);
}

/** Counted over recorded operations: a kernel's size times the positions it is applied at. */
function multiplyAdds(operations: readonly RecordedOperation[]): number {
  let total = 0;
  for (const { type, inputShapes, outputShapes } of operations) {
    if (type === 'Conv2D') {
      const [height, width, channels] = inputShapes[1]!;
      total += sizeOf(outputShapes[0]!) * height! * width! * channels!;
    }
    if (type === 'BatchMatMulV2') total += sizeOf(outputShapes[0]!) * inputShapes[0]!.at(-1)!;
  }
  return total;
}

function unknownModel(name: string): DtrainError {
  const nearest = nearestWord(name, MODEL_NAMES);
  const hint = nearest ? ` (did you mean ${nearest}?)` : '';
  const text = `model.name: unknown model ${name}${hint}. Known: ${MODEL_NAMES.join(', ')}.`;
  return new DtrainError('DTRAIN_MODEL_UNKNOWN', ExitCode.configuration, text);
}
