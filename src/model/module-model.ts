/**
 * A network in a file of the user's own: a module whose function returns a tf.LayersModel, or a plain function of tfjs tensors, as a Model.
 *
 * Idea: the variables that it reads are its parameters. In each recording they stand for the step's values (graph/bound-variables.ts), its
 * batch normalisations become the net's, and its random numbers come from the step's key; so a step of it is a step like any other.
 * Must stay true: all its trained weights are parameters, all its moving averages are statistics, and what is neither is refused.
 */
import { DtrainError, ExitCode } from '../core/errors.js';
import { shapeText } from '../core/shape.js';
import { registeredVariables, withValues } from '../graph/bound-variables.js';
import type { Engine } from '../graph/engine.js';
import { type BatchNormLayer, type LayerWeight, weightName, withNormalizer } from '../graph/layer-hooks.js';
import { withSeededRandom } from '../graph/random-source.js';
import {
  type LayersModel,
  type Scalar,
  type Tensor,
  type Tensor1D,
  type Tensor4D,
  tf,
  type Variable,
} from '../graph/tfjs.js';
import { describeModel, type ImageSize, type Model } from './catalogue.js';
import type { ModelFunction, Net } from './net.js';

/** What a module's function is told. */
export interface ModuleContext {
  readonly tf: typeof tf;
  readonly classes: number;
  readonly height: number;
  readonly width: number;
  readonly channels: 3;
}

/** Images are normalised, float32, [N, H, W, 3]; logits are [N, classes]. */
export type PlainModel = (imagesNHWC: Tensor4D, mode: { readonly training: boolean }) => Tensor;

/** The function that a module exports, as `model` or by default. */
export type ModelModule = (context: ModuleContext) => LayersModel | PlainModel | Promise<LayersModel | PlainModel>;

export interface ModuleModelOptions {
  /** For messages. */
  readonly file: string;
  /** The model's name. */
  readonly name: string;
  readonly classes: number;
  readonly imageSize: ImageSize;
  /** Of the first weights. */
  readonly seed: number;
}

/** @throws DTRAIN_MODEL_MODULE (exit 3) for what is no model, or one that dtrain cannot train. */
export async function makeModuleModel(engine: Engine, make: ModelModule, options: ModuleModelOptions): Promise<Model> {
  const network = new ModuleNetwork(options);
  await network.make(make);
  const model = describeModel(engine, { ...options, forward: network.forward }, options.imageSize);
  network.checkStatistics();
  return { ...model, first: network.takeWeights() };
}

interface Parameter {
  readonly name: string;
  readonly variable: Variable;
}

/** The user's model, its variables, and how it is read. */
class ModuleNetwork {
  readonly #options: ModuleModelOptions;
  #made: LayersModel | PlainModel | undefined;
  #parameters: readonly Parameter[] = [];
  #others: readonly Parameter[] = [];
  /** Batch normalisations in the order of their calls, found while the model is described. */
  readonly #batchNorms: BatchNormLayer[] = [];
  readonly #names = new StableNames();
  #isDescribed = false;

  constructor(options: ModuleModelOptions) {
    this.#options = options;
  }

  /** Makes the model and its variables; a plain function is called once, since layers make their weights then. */
  async make(make: ModelModule): Promise<void> {
    const { classes, seed } = this.#options;
    const [height, width] = this.#options.imageSize;
    const known = new Set(Object.values(registeredVariables()));
    const context: ModuleContext = { tf, classes, height, width, channels: 3 };
    await withSeededRandom(seed, async () => {
      try {
        this.#made = await make(context);
        if (!isLayersModel(this.#made) && typeof this.#made !== 'function')
          throw this.#error(
            `expected its function to return a tf.LayersModel or a function, got ${typeName(this.#made)}.`,
          );
        this.#checkLogits();
      } catch (cause) {
        throw cause instanceof DtrainError ? cause : this.#error(`it failed: ${(cause as Error).message}`, cause);
      }
    });
    if (isLayersModel(this.#made)) this.#checkLayers(this.#made);
    const variables = isLayersModel(this.#made)
      ? this.#made.weights.map((weight) => (weight as unknown as LayerWeight).val)
      : Object.values(registeredVariables()).filter((variable) => !known.has(variable));
    const named = variables.map((variable) => ({ name: this.#names.of(variable), variable }));
    const trained = isLayersModel(this.#made)
      ? this.#made.trainableWeights.map((weight) => (weight as unknown as LayerWeight).val)
      : variables.filter(({ trainable }) => trainable);
    this.#parameters = named.filter(({ variable }) => trained.includes(variable));
    this.#others = named.filter(({ variable }) => !trained.includes(variable));
    if (this.#parameters.length === 0) throw this.#error('expected trainable variables, got none.');
    const odd = this.#parameters.find(({ variable }) => variable.dtype !== 'float32');
    const twice = named.find(({ name }, i) => named.findIndex((other) => other.name === name) < i);
    if (twice) throw this.#error(`expected a name of its own for each variable, got two called ${twice.name}.`);
    if (odd) throw this.#error(`${odd.name}: expected float32, got ${odd.variable.dtype}.`);
  }

  readonly forward: ModelFunction = (net, images) => {
    const values = this.#parameters.map(
      ({ name, variable }) => [variable, net.parameter(name, variable.shape, UNUSED, OWN_LAYOUT)] as const,
    );
    const normalize = (layer: BatchNormLayer, x: Tensor) => this.#normalize(net, layer, x);
    const run = () => withNormalizer(normalize, () => this.#call(net, images));
    const { result, assigned } = withValues(new Map(values), run);
    this.#isDescribed = true;
    tf.dispose([...assigned.values()]);
    const [changed] = assigned.keys();
    if (changed)
      throw this.#error(`${this.#nameOf(changed)}: expected only the optimizer to change it, the model assigns it.`);
    return result;
  };

  /** Variables that are neither trained nor a batch normalisation's averages. */
  checkStatistics(): void {
    const averages = this.#batchNorms.flatMap(({ movingMean, movingVariance }) => [movingMean.val, movingVariance.val]);
    const frozen = this.#others.find(({ variable }) => !averages.includes(variable));
    if (frozen)
      throw this.#error(
        `${frozen.name}: expected all variables to be trained, got trainable: false. dtrain trains whole networks.`,
      );
  }

  /** The variables' own values, which they give up: from now on they only stand for others, and their names are free again. */
  takeWeights(): NonNullable<Model['first']> {
    const floats = ({ val }: LayerWeight) => floatsOf(val);
    const weights = {
      parameters: this.#parameters.map(({ variable }) => floatsOf(variable)),
      means: this.#batchNorms.map(({ movingMean }) => floats(movingMean)),
      variances: this.#batchNorms.map(({ movingVariance }) => floats(movingVariance)),
    };
    for (const { variable } of [...this.#parameters, ...this.#others]) tf.engine().disposeVariable(variable);
    return weights;
  }

  #call(net: Net, images: Tensor4D): Tensor {
    const made = this.#made!;
    const { training } = net;
    if (!isLayersModel(made)) return made(images, { training });
    const logits = made.apply(images, { training }) as Tensor;
    if (training) for (const penalty of made.calculateLosses()) net.penalize(penalty as Scalar);
    return logits;
  }

  /** Of channels at the end, whatever the layer's axis: the fused operation wants [N, H, W, C]. */
  #normalize(net: Net, layer: BatchNormLayer, x: Tensor): Tensor {
    if (!this.#isDescribed) {
      if (this.#batchNorms.includes(layer))
        throw this.#error(`layer ${layer.name}: expected one call a step, got two: its averages would be of both.`);
      this.#batchNorms.push(layer);
    }
    const axis = layer.axis < 0 ? layer.axis + x.rank : layer.axis;
    const channels = x.shape[axis]!;
    const others = x.shape.map((_, i) => i).filter((i) => i !== axis);
    const isLast = axis === x.rank - 1;
    const moved = isLast ? x : tf.transpose(x, [...others, axis]);
    const flat = x.rank === 4 ? moved : tf.reshape(moved, [-1, 1, 1, channels]);
    const scale = (layer.gamma?.val ?? tf.ones([channels])) as Tensor1D;
    const offset = (layer.beta?.val ?? tf.zeros([channels])) as Tensor1D;
    const options = { epsilon: layer.epsilon, rate: 1 - layer.momentum, variance: 'biased' } as const;
    const normalized = net.normalize(this.#names.ofLayer(layer.name), flat as Tensor4D, scale, offset, options);
    const y = x.rank === 4 ? normalized : tf.reshape(normalized, moved.shape);
    const back = x.shape.map((_, i) => (i === axis ? x.rank - 1 : others.indexOf(i)));
    return isLast ? y : tf.transpose(y, back);
  }

  /** Calls the model once, eagerly. */
  #checkLogits(): void {
    const made = this.#made!;
    const [height, width] = this.#options.imageSize;
    const shape = tf.tidy(() => {
      const images = tf.zeros([1, height, width, 3]) as Tensor4D;
      const logits = isLayersModel(made) ? made.apply(images, { training: false }) : made(images, { training: false });
      return (logits instanceof tf.Tensor ? logits.shape : []) as never;
    }) as readonly number[];
    const { classes } = this.#options;
    if (shape.length !== 2 || shape[1] !== classes)
      throw this.#error(`expected logits [images, ${classes}] of one tensor of images, got ${shapeText(shape)}.`);
  }

  #checkLayers(model: LayersModel): void {
    const last = model.layers.at(-1)!;
    const { activation } = last.getConfig();
    if (activation === 'softmax' || last.getClassName() === 'Softmax')
      throw this.#error(`layer ${last.name}: expected logits, got a softmax: the loss has one already. Leave it out.`);
    const constrained = model.weights.find((weight) => (weight as unknown as LayerWeight).constraint);
    if (constrained)
      throw this.#error(
        `${constrained.name}: expected no constraint, got one. Use a regularizer or optimizer.weightDecay.`,
      );
  }

  #nameOf(variable: Variable): string {
    return this.#parameters.find((parameter) => parameter.variable === variable)!.name;
  }

  #error(what: string, cause?: unknown): DtrainError {
    const text = `model.module: ${this.#options.file}: ${what}`;
    return new DtrainError('DTRAIN_MODEL_MODULE', ExitCode.configuration, text, { cause });
  }
}

/** A parameter's own values come with Model.first. */
const UNUSED = { value: 0 };
const OWN_LAYOUT = { ownLayout: true };

function isLayersModel(made: unknown): made is LayersModel {
  return made instanceof tf.LayersModel;
}

function typeName(value: unknown): string {
  return value === null ? 'null' : typeof value;
}

function floatsOf(variable: Variable): Float32Array {
  return Float32Array.from(variable.dataSync() as Float32Array);
}

/**
 * Names that are the same whenever a model is made. tfjs numbers what has no name over the whole program (conv2d_Conv2D7/kernel, variable
 * 12); here it is counted within the model: conv2d_1.kernel, variable_1.
 */
class StableNames {
  /** Of each kind of unnamed layer, tfjs's names so far. */
  readonly #seen = new Map<string, string[]>();

  of(variable: Variable): string {
    const raw = weightName(variable);
    if (raw === undefined)
      return /^\d+$/.test(variable.name) ? this.#counted('variable', variable.name) : variable.name;
    const parts = raw.split('/');
    return [...parts.slice(0, -1).map((part) => this.ofLayer(part)), parts.at(-1)].join('.');
  }

  ofLayer(name: string): string {
    const [, kind] = /^(.+)_[A-Z]\w*?\d+$/.exec(name) ?? [];
    return kind === undefined ? name : this.#counted(kind, name);
  }

  #counted(kind: string, name: string): string {
    const seen = this.#seen.get(kind) ?? [];
    this.#seen.set(kind, seen);
    if (!seen.includes(name)) seen.push(name);
    return `${kind}_${seen.indexOf(name) + 1}`;
  }
}
