/**
 * The step as recorded functions: `compute`, `update` and `evaluate`.
 *
 *   compute   parameters, data set, indices, random draws  →  one row: gradients, batch statistics, loss, correct
 *   reduce    the rows of a rank  →  the mean row of all ranks; only where TensorFlow adds them (collective-reduce.ts)
 *   update    parameters, optimizer's slots, running statistics, their averages, the mean row, rates  →  (all in place)
 *   evaluate  parameters, running statistics, data set, indices  →  loss, predicted class, its probability, the label's place, of each image
 *
 * Idea: the main thread records them once; what it hands to the ranks is plain data (names and sizes), and each rank runs the same
 * functions on its own device. A rank never loads tfjs.
 * Must stay true: everything that changes from step to step is an input.
 */
import { DtrainError, ExitCode } from '../core/errors.js';
import type { Normalization } from '../core/events.js';
import { type Shape, sizeOf } from '../core/shape.js';
import type { CompiledFunction, Engine, InputSpec, RecordedInput } from '../graph/engine.js';
import { softmaxCrossEntropy } from '../graph/fused-ops.js';
import type { GraphValue } from '../graph/graph-value.js';
import { withRandomKey } from '../graph/random-ops.js';
import type { Precision } from '../graph/recording.js';
import { type Scalar, type Tensor, type Tensor1D, type Tensor2D, type Tensor4D, tf } from '../graph/tfjs.js';
import type { Model } from '../model/catalogue.js';
import { EvaluationNet, STATISTICS_RATE, type Statistics, TrainingNet } from '../model/net.js';
import { moveAverage, optimizerUpdates } from '../optim/optimizer.js';
import { NUM_RATES, type OptimizerOptions, optimizerSlots } from '../optim/optimizer-options.js';
import { attr } from '../tensorflow/attribute.js';
import { DType } from '../tensorflow/dtype.js';
import type { Operation } from '../tensorflow/graph-builder.js';
import { type AugmentOptions, augmentedImages, changesColour, type ImageSource, plainImages } from './augment.js';
import { type CollectivePlan, type CollectiveReduce, recordCollectiveReduce } from './collective-reduce.js';
import { type RowLayout, rowLayout } from './row-layout.js';

/** One split of a data set, as far as a recording must know it. */
export interface SplitShape {
  readonly numImages: number;
  readonly height: number;
  readonly width: number;
}

export interface ProgramOptions {
  readonly precision: Precision;
  /** Compile `compute` by XLA. */
  readonly xla: boolean;
  /** Images of one logical shard. */
  readonly shardBatch: number;
  readonly evaluationBatch: number;
  readonly train: SplitShape;
  readonly test: SplitShape;
  readonly normalization: Normalization;
  readonly augment: AugmentOptions;
  readonly labelSmoothing: number;
  readonly optimizer: OptimizerOptions;
  /** Decay per step of the averaged weights; 0: none are kept. */
  readonly ema: number;
  /** Evaluate each image and its mirror image, and take the mean of their logits. */
  readonly evaluationFlip: boolean;
  /** Gradients leave `compute` in bfloat16. */
  readonly lowGradients?: boolean;
  /** TensorFlow adds the rows; absent: the ranks do, in shared memory. */
  readonly collective?: CollectivePlan | undefined;
}

/** What a rank needs to run the functions. Plain data. */
export interface StepProgram {
  readonly compute: string;
  readonly update: string;
  readonly evaluate: string;
  /** Where TensorFlow adds the rows. */
  readonly reduce: CollectiveReduce | null;
  readonly xla: boolean;
  readonly shardBatch: number;
  readonly evaluationBatch: number;
  readonly layout: RowLayout;
  readonly optimizer: OptimizerOptions;
  readonly ema: number;
  readonly feed: FeedOptions;
}

export interface RecordedProgram {
  readonly program: StepProgram;
  readonly functions: {
    readonly compute: CompiledFunction;
    readonly update: CompiledFunction;
    readonly evaluate: CompiledFunction;
  };
}

const float32 = (shape: Shape): InputSpec => ({ kind: 'tensor', shape, dtype: DType.float32 });
const int32 = (shape: Shape): InputSpec => ({ kind: 'tensor', shape, dtype: DType.int32 });
const uint8 = (shape: Shape): InputSpec => ({ kind: 'tensor', shape, dtype: DType.uint8 });
const variable = (shape: Shape): InputSpec => ({ kind: 'variable', shape });

let numPrograms = 0;

/** Records the three functions of a model into the process's context. */
export function recordProgram(engine: Engine, model: Model, options: ProgramOptions): RecordedProgram {
  const layout = rowLayout(
    model.parameters.map(({ shape }) => shape),
    model.statistics.map(({ channels }) => channels),
    {
      slots: optimizerSlots(options.optimizer),
      averages: options.ema > 0,
      lowGradients: options.lowGradients ?? false,
    },
  );
  const suffix = `${model.name.replace(/[^\w.-]/g, '_')}_${numPrograms++}`; // names are one space in the context
  const functions = {
    compute: recordCompute(engine, `Compute_${suffix}`, model, layout, options),
    update: recordUpdate(engine, `Update_${suffix}`, model, layout, options.optimizer),
    evaluate: recordEvaluate(engine, `Evaluate_${suffix}`, model, layout, options),
  };
  const { collective } = options;
  const reduce = collective ? recordCollectiveReduce(engine.runtime, `Reduce_${suffix}`, layout, collective) : null;
  const program = {
    compute: functions.compute.name,
    update: functions.update.name,
    evaluate: functions.evaluate.name,
    reduce,
    xla: options.xla,
    shardBatch: options.shardBatch,
    evaluationBatch: options.evaluationBatch,
    layout,
    optimizer: options.optimizer,
    ema: options.ema,
    feed: feedOf(options.augment),
  };
  return { program, functions };
}

/**
 * Inputs: parameters, images, labels, dropoutKey [2], the samples; with mixtures the partners and shares [N]. Output: the row; in two parts where
 * the first is bfloat16.
 */
function recordCompute(
  engine: Engine,
  name: string,
  model: Model,
  { lowLength, length }: RowLayout,
  options: ProgramOptions,
): CompiledFunction {
  const n = options.shardBatch;
  const { colour, mixture } = feedOf(options.augment);
  const parameters = model.parameters.map(({ shape }) => variable(shape));
  const samples = [int32([n]), int32([n, 2]), int32([n]), int32([n, 2]), ...(colour ? [float32([n, 2])] : [])];
  const partners = mixture ? [...samples, float32([n])] : [];
  const inputs = [...parameters, ...splitInputs(options.train), int32([2]), ...samples, ...partners];
  return engine.recordFunction({ name, precision: options.precision }, inputs, (recorded) => {
    const take = taker(recorded);
    const values = take(parameters.length).map((input) => input.value());
    const [images, labels, dropoutKey] = take(3) as [RecordedInput, RecordedInput, RecordedInput];
    const source = { ...options.train, imagesMHWC: images.raw, normalization: options.normalization };
    const read = () => augmentedSamples(engine, source, labels, take(samples.length), options.augment);
    const own = read();
    const batch = mixture ? mixed(own, read(), take(1)[0]!.value()) : own;
    const { loss, gradients, statistics, correct } = withRandomKey(dropoutKey.value(), () =>
      lossAndGradients(model, values, batch.imagesNHWC, batch, options.labelSmoothing),
    );
    const flat = [
      ...gradients.map((gradient) => tf.reshape(gradient, [gradient.size])),
      ...statistics.map(({ meanC }) => meanC),
      ...statistics.map(({ varianceC }) => varianceC),
      tf.reshape(loss, [1]),
      tf.reshape(correct, [1]),
    ];
    const row = tf.concat(flat as Tensor1D[]);
    tf.dispose([statistics as never, correct]);
    if (lowLength === 0) return { outputs: [row] };
    return { outputs: [inBfloat16(engine, tf.slice(row, 0, lowLength)), tf.slice(row, lowLength, length - lowLength)] };
  });
}

/** Rounded to the nearest, the even one of two (collective/reference.ts). */
function inBfloat16(engine: Engine, values: Tensor): GraphValue {
  const attributes = [attr.type('SrcT', DType.float32), attr.type('DstT', DType.bfloat16)];
  return engine.operation('Cast', [values], attributes, 1).outputs[0]!;
}

/** Which draws a step is fed beside the usual ones. */
export interface FeedOptions {
  readonly colour: boolean;
  readonly mixture: boolean;
}

function feedOf(augment: AugmentOptions): FeedOptions {
  return { colour: changesColour(augment), mixture: (augment.mixup ?? 0) > 0 };
}

/** What the loss is told of the classes: of a mixture those of both images, and the share of the first, [N]. */
export interface BatchLabels {
  readonly labelsN: Tensor;
  readonly mixture?: { readonly labelsN: Tensor; readonly shareN: Tensor };
}

type Batch = BatchLabels & { readonly imagesNHWC: Tensor };

/** `samples`: indices [N], cropYX [N, 2], flip [N], cutoutYX [N, 2], with changes of colour also their factors [N, 2]. */
function augmentedSamples(
  engine: Engine,
  source: ImageSource,
  labels: RecordedInput,
  samples: readonly RecordedInput[],
  augment: AugmentOptions,
): Batch {
  const [indices, cropYX, flip, cutoutYX, colour] = samples.map((input) => input.value());
  const draws = { cropYX: cropYX!, flip: flip!, cutoutYX: cutoutYX!, ...(colour && { colour }) };
  return {
    imagesNHWC: augmentedImages(engine, source, indices!, draws, augment),
    labelsN: tf.gather(labels.value() as Tensor1D, indices as Tensor1D),
  };
}

/** Share of the one and the rest of the other, images and classes. */
function mixed(own: Batch, partner: Batch, shareN: Tensor): Batch {
  const share = tf.reshape(shareN, [-1, 1, 1, 1]);
  const imagesNHWC = tf.add(tf.mul(own.imagesNHWC, share), tf.mul(partner.imagesNHWC, tf.sub(1, share)));
  return { imagesNHWC, labelsN: own.labelsN, mixture: { labelsN: partner.labelsN, shareN } };
}

interface LossAndGradients {
  readonly loss: Scalar;
  readonly gradients: readonly Tensor[];
  readonly statistics: readonly Statistics[];
  /** Fraction of images whose most probable class is the label. */
  readonly correct: Scalar;
}

/** The step as the paper has it: forward, mean cross-entropy, and tfjs's gradients of it. */
export function lossAndGradients(
  model: Model,
  parameters: readonly Tensor[],
  imagesNHWC: Tensor,
  labels: BatchLabels,
  labelSmoothing: number,
): LossAndGradients {
  let statistics: readonly Statistics[] = [];
  let correct: Scalar | undefined;
  const forward = (...values: Tensor[]): Scalar => {
    const net = new TrainingNet(model.parameters, values);
    const logitsNK = model.forward(net, imagesNHWC as never) as Tensor2D;
    statistics = net.batchStatistics;
    correct = tf.keep(fractionCorrect(logitsNK, labels));
    const loss = tf.mean(softmaxCrossEntropy(mixedTargets(labels, model.classes, labelSmoothing), logitsNK)) as Scalar;
    return net.penalties.length === 0 ? loss : (tf.addN([loss, ...net.penalties]) as Scalar);
  };
  const run = () => forward(...(parameters as Tensor[]));
  const { value: loss, grads: gradients } = tf.engine().gradients(run, parameters as Tensor[], undefined, true) as {
    readonly value: Scalar;
    readonly grads: readonly (Tensor | null | undefined)[];
  };
  const unused = gradients.findIndex((gradient) => !gradient);
  if (unused >= 0) throw unusedParameter(model, unused);
  return { loss, gradients: gradients as readonly Tensor[], statistics, correct: correct! };
}

function unusedParameter({ name, parameters }: Model, index: number): DtrainError {
  const text = `model ${name}: ${parameters[index]!.name}: expected the loss to depend on it, it does not. Use it in the model, or do not make it.`;
  return new DtrainError('DTRAIN_MODEL_MODULE', ExitCode.configuration, text);
}

/** One-hot rows, moved towards the uniform distribution by `smoothing` (Szegedy et al., arXiv 1512.00567, section 7). */
function targets(labelsN: Tensor, classes: number, smoothing: number): Tensor2D {
  const oneHot = tf.cast(tf.oneHot(labelsN as Tensor1D, classes), 'float32') as Tensor2D;
  return smoothing === 0 ? oneHot : tf.add(tf.mul(oneHot, 1 - smoothing), smoothing / classes);
}

function mixedTargets({ labelsN, mixture }: BatchLabels, classes: number, smoothing: number): Tensor2D {
  const own = targets(labelsN, classes, smoothing);
  if (!mixture) return own;
  const share = tf.expandDims(mixture.shareN, 1);
  const partners = targets(mixture.labelsN, classes, smoothing);
  return tf.add(tf.mul(own, share), tf.mul(partners, tf.sub(1, share)));
}

/** Of a mixture an answer counts as much as the image that it is right for. */
function fractionCorrect(logitsNK: Tensor2D, { labelsN, mixture }: BatchLabels): Scalar {
  const predicted = tf.argMax(logitsNK, 1);
  const isRight = (labels: Tensor) => tf.cast(tf.equal(predicted, labels), 'float32');
  if (!mixture) return tf.mean(isRight(labelsN));
  const { shareN } = mixture;
  return tf.mean(tf.add(tf.mul(isRight(labelsN), shareN), tf.mul(isRight(mixture.labelsN), tf.sub(1, shareN))));
}

/**
 * Inputs: parameters, the optimizer's slots, running statistics [2, channels]; with averages those of parameters and statistics; then the
 * row, the optimizer's rates and the rate of the averages.
 */
function recordUpdate(
  engine: Engine,
  name: string,
  model: Model,
  layout: RowLayout,
  optimizer: OptimizerOptions,
): CompiledFunction {
  const variables = layout.parameterShapes.map(variable);
  const statisticsSpec = variable([2, layout.numChannels]);
  const averagesSpecs = layout.averages ? [...variables, statisticsSpec] : [];
  const slotsSpecs = layout.slots.flatMap(() => variables);
  const state = [...variables, ...slotsSpecs, statisticsSpec, ...averagesSpecs];
  const inputs = [...state, float32([layout.length]), float32([NUM_RATES]), float32([])];
  return engine.recordFunction({ name, precision: 'float32' }, inputs, (recorded) => {
    const take = taker(recorded);
    const parameters = take(variables.length);
    const slots = layout.slots.map(() => take(variables.length));
    const running = take(1)[0]!;
    const averages = take(averagesSpecs.length);
    const [row, rates, averageRate] = take(3) as [RecordedInput, RecordedInput, RecordedInput];
    const { gradients, statistics } = splitRow(row.value(), layout);
    const updates = optimizerUpdates(engine, { parameters, slots, gradients, rates: rates.value() }, optimizer);
    const moved = moveStatistics(engine, model, running, statistics);
    const averaged = averages.map((average, i) => {
      const now = engine.readAgain(parameters[i] ?? running, updates[i] ?? [moved]);
      return moveAverage(engine, average, now, averageRate.value());
    });
    return { outputs: [], effects: [...updates.flat(), moved, ...averaged] };
  });
}

/** Gives the next so many of a list, each time it is called. */
function taker<T>(items: readonly T[]): (count: number) => readonly T[] {
  let at = 0;
  return (count) => {
    at += count;
    return items.slice(at - count, at);
  };
}

/** Slices, not one `split`: a slice that starts and ends on a cache line is the row's own memory, and nearly all of them do. */
function splitRow(row: Tensor, layout: RowLayout): { gradients: Tensor[]; statistics: Tensor } {
  let at = 0;
  const next = (shape: Shape) => {
    const size = sizeOf(shape);
    const piece = tf.reshape(tf.slice(row, at, size), [...shape]);
    at += size;
    return piece;
  };
  return { gradients: layout.parameterShapes.map(next), statistics: next([2, layout.numChannels]) };
}

/** running ← running − rate · (running − batch), in place. */
function moveStatistics(engine: Engine, model: Model, running: RecordedInput, batch: Tensor): Operation {
  const difference = tf.mul(tf.sub(running.value(), batch), statisticsRate(model));
  return engine.operation('AssignSubVariableOp', [running.raw, difference], [attr.type('dtype', DType.float32)], 0)
    .operation;
}

/** One rate, or one a channel where the layers differ. */
function statisticsRate({ statistics }: Model): number | Tensor1D {
  const rates = statistics.flatMap(({ channels, rate = STATISTICS_RATE }) => new Array<number>(channels).fill(rate));
  const [first = STATISTICS_RATE] = rates;
  return rates.every((rate) => rate === first) ? first : tf.tensor1d(rates);
}

/**
 * Inputs: parameters, running statistics [2, channels], images, labels, indices [N]. Outputs, each [N]: loss, predicted class, its
 * probability, and how many classes are more probable than the label.
 */
function recordEvaluate(
  engine: Engine,
  name: string,
  model: Model,
  layout: RowLayout,
  options: ProgramOptions,
): CompiledFunction {
  const parameters = layout.parameterShapes.map(variable);
  const split = splitInputs(options.test);
  const inputs = [...parameters, variable([2, layout.numChannels]), ...split, int32([options.evaluationBatch])];
  return engine.recordFunction({ name, precision: options.precision }, inputs, (recorded) => {
    const values = recorded.slice(0, parameters.length).map((input) => input.value());
    const [running, images, labels, indices] = recorded.slice(parameters.length) as FourInputs;
    const source: ImageSource = { ...options.test, imagesMHWC: images.raw, normalization: options.normalization };
    const batch = plainImages(engine, source, indices.value());
    const logitsOf = (images: Tensor4D) => {
      const net = new EvaluationNet(model.parameters, values, splitStatistics(running.value(), layout));
      return model.forward(net, images) as Tensor2D;
    };
    const plain = logitsOf(batch);
    const logitsNK = options.evaluationFlip ? tf.mul(tf.add(plain, logitsOf(tf.reverse(batch, 2))), 0.5) : plain;
    const labelsN = tf.gather(labels.value() as Tensor1D, indices.value() as Tensor1D);
    const lossN = softmaxCrossEntropy(targets(labelsN, model.classes, 0), logitsNK as Tensor2D);
    const labelLogitN1 = tf.sum(tf.mul(logitsNK, targets(labelsN, model.classes, 0)), 1, true);
    const aboveN = tf.sum(tf.cast(tf.greater(logitsNK, labelLogitN1), 'float32'), 1);
    return { outputs: [lossN, tf.argMax(logitsNK, 1), tf.max(tf.softmax(logitsNK), 1), aboveN] };
  });
}

type FourInputs = [RecordedInput, RecordedInput, RecordedInput, RecordedInput];

/** [2, channels] as mean and variance of each batch norm. */
function splitStatistics(running: Tensor, { channels, numChannels }: RowLayout): Statistics[] {
  if (numChannels === 0) return []; // tfjs does not split into nothing
  const [means, variances] = tf
    .split(running, 2, 0)
    .map((half) => tf.split(tf.reshape(half, [numChannels]), [...channels]));
  return channels.map((_, i) => ({ meanC: means![i] as Tensor1D, varianceC: variances![i] as Tensor1D }));
}

function splitInputs({ numImages, height, width }: SplitShape): InputSpec[] {
  return [uint8([numImages, height, width, 3]), int32([numImages])];
}
