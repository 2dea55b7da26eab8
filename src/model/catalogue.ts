/** The models by name, and what a model is made of. */
import { DtrainError, ExitCode } from '../core/errors.js';
import { sizeOf } from '../core/shape.js';
import { nearestWord } from '../core/suggest.js';
import type { Engine } from '../graph/engine.js';
import type { RecordedOperation } from '../graph/recording.js';
import type { Tensor4D } from '../graph/tfjs.js';
import { DescribingNet, type ModelFunction, type ParameterSpec, type StatisticsSpec } from './net.js';
import { preActivationResNet } from './preact-resnet.js';
import { cifarResNet, imagenetResNet, type Shortcut, type Stem } from './resnet.js';
import { speedNet } from './speed-net.js';
import type { Weights } from './torch-layout.js';
import { vgg } from './vgg.js';

/** The code of a model, once the options are known. */
type Maker = (options: Omit<ModelOptions, 'name'>) => ModelFunction;

const cifar =
  (depth: number): Maker =>
  ({ classes, shortcut }) =>
    cifarResNet(depth, classes, shortcut);
const imagenet =
  (depth: number): Maker =>
  ({ classes, stem, shortcut }) =>
    imagenetResNet(depth, classes, stem, shortcut);
/** Without shortcuts, whatever the options say. */
const plain =
  (maker: Maker): Maker =>
  (options) =>
    maker({ ...options, shortcut: 'none' });
const preActivation =
  (units: number, bottleneck: boolean): Maker =>
  ({ classes, shortcut }) =>
    // Bottlenecks widen in their first stage too; the paper projects there.
    preActivationResNet({
      units,
      bottleneck,
      width: 1,
      classes,
      shortcut: bottleneck && shortcut === 'A' ? 'B' : shortcut,
    });
/** Zagoruyko and Komodakis project where dimensions grow. */
const wide =
  (depth: number, width: number): Maker =>
  ({ classes }) =>
    preActivationResNet({ units: (depth - 4) / 6, bottleneck: false, width, classes, shortcut: 'B' });
const vggOf =
  (depth: number): Maker =>
  ({ classes, stem }) =>
    vgg(depth, classes, stem);

const MAKERS: Readonly<Record<string, Maker>> = {
  resnet20: cifar(20),
  resnet32: cifar(32),
  resnet44: cifar(44),
  resnet56: cifar(56),
  resnet110: cifar(110),
  resnet1202: cifar(1202),
  resnet18: imagenet(18),
  resnet34: imagenet(34),
  resnet50: imagenet(50),
  resnet101: imagenet(101),
  resnet152: imagenet(152),
  plain20: plain(cifar(20)),
  plain32: plain(cifar(32)),
  plain44: plain(cifar(44)),
  plain56: plain(cifar(56)),
  plain18: plain(imagenet(18)),
  plain34: plain(imagenet(34)),
  vgg16: vggOf(16),
  vgg19: vggOf(19),
  resnet20v2: preActivation(3, false),
  resnet56v2: preActivation(9, false),
  resnet110v2: preActivation(18, false),
  resnet164v2: preActivation(18, true),
  resnet1001v2: preActivation(111, true),
  'wrn-16-8': wide(16, 8),
  'wrn-28-10': wide(28, 10),
  speednet: ({ classes }) => speedNet(classes),
};

export const MODEL_NAMES: readonly string[] = Object.keys(MAKERS);

export interface ModelOptions {
  readonly name: string;
  readonly classes: number;
  /** The ImageNet family takes A as B; plain and wide networks, VGG and speednet have their own. */
  readonly shortcut: Shortcut;
  /** For the ImageNet family and VGG; the others are for small images. */
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
  /** The weights to begin with, of a model that has its own; else they are drawn from the seed. */
  readonly first?: Weights;
  /** SHA-256 of the file that it comes from, of a module of the user's own; what that file imports is not seen. */
  readonly codeHash?: string;
  /** Layers with weights on the main path, as the paper counts depth: projections are not counted. */
  readonly layers: number;
}

/** [height, width] of the images. */
export type ImageSize = readonly [height: number, width: number];

/**
 * The model called `name`, described for images of `imageSize`.
 * @throws DTRAIN_MODEL_UNKNOWN, DTRAIN_MODEL_IMAGES (exit 3).
 */
export function makeModel(engine: Engine, options: ModelOptions, imageSize: ImageSize): Model {
  const { name, classes } = options;
  const forward = modelFunction(options);
  try {
    return describeModel(engine, { name, classes, forward }, imageSize);
  } catch (error) {
    if (error instanceof DtrainError && error.code === 'DTRAIN_TENSORFLOW')
      throw imagesDoNotFit(name, imageSize, error);
    throw error;
  }
}

/** A model from its code: parameters, statistics and sizes are read off a recording of it. */
export function describeModel(
  engine: Engine,
  { name, classes, forward }: Pick<Model, 'name' | 'classes' | 'forward'>,
  imageSize: ImageSize,
): Model {
  let net: DescribingNet | undefined;
  const operations = engine.trace(() => {
    net = new DescribingNet((shape) => engine.placeholder(shape));
    forward(net, engine.placeholder([1, ...imageSize, 3]) as Tensor4D);
  });
  const { parameters, statistics } = net!;
  return {
    name,
    classes,
    forward,
    parameters,
    statistics,
    numParameters: parameters.reduce((sum, { shape }) => sum + sizeOf(shape), 0),
    multiplyAdds: multiplyAdds(operations),
    layers: parameters.filter(({ name, shape }) => shape.length > 1 && !name.includes('downsample')).length,
  };
}

function modelFunction({ name, ...options }: ModelOptions): ModelFunction {
  const maker = Object.hasOwn(MAKERS, name) ? MAKERS[name] : undefined;
  if (!maker) throw unknownModel(name);
  return maker(options);
}

/** Counted over recorded operations: a kernel's size times the positions it is applied at. */
function multiplyAdds(operations: readonly RecordedOperation[]): number {
  let total = 0;
  for (const { type, inputShapes, outputShapes } of operations) {
    if (type === 'Conv2D') {
      const [height, width, channels] = inputShapes[1]!;
      total += sizeOf(outputShapes[0]!) * height! * width! * channels!;
    }
    if (type === 'DepthwiseConv2dNative') {
      const [height, width] = inputShapes[1]!;
      total += sizeOf(outputShapes[0]!) * height! * width!;
    }
    if (type === 'BatchMatMulV2') total += sizeOf(outputShapes[0]!) * inputShapes[0]!.at(-1)!;
  }
  return total;
}

/** Of a network of ours, TensorFlow refuses nothing but maps that its poolings have made too small. */
function imagesDoNotFit(name: string, [height, width]: ImageSize, cause: DtrainError): DtrainError {
  const text =
    `model.name: ${name} cannot be made for images of ${height}×${width}: ${cause.message}. ` +
    'Take larger images, or a network that pools less (every ResNet takes any size).';
  return new DtrainError('DTRAIN_MODEL_IMAGES', ExitCode.configuration, text, { cause });
}

function unknownModel(name: string): DtrainError {
  const nearest = nearestWord(name, MODEL_NAMES);
  const hint = nearest ? ` (did you mean ${nearest}?)` : '';
  const text = `model.name: unknown model ${name}${hint}. Known: ${MODEL_NAMES.join(', ')}.`;
  return new DtrainError('DTRAIN_MODEL_UNKNOWN', ExitCode.configuration, text);
}
