/**
 * Replacements in tfjs's registries of kernels and gradients.
 *
 * Why: stock gradients build activation-sized JavaScript arrays of ones (Relu, Sum, Mean: 1 GB in a step of ResNet-50 at batch 8),
 * reshape where nothing changes (Add), or read values while recording (GatherV2). The replacements compute the same numbers.
 * No second derivatives through them. Installed once a thread, by startEngine.
 */
import type { Shape } from '../core/shape.js';
import { attr, FLOAT_T } from '../tensorflow/attribute.js';
import { DType } from '../tensorflow/dtype.js';
import { defineKernel, runKernel, stockKernel, type Tensor, type TensorInfo, tf } from './tfjs.js';

/** `isRecording` tells whether this thread records. */
export function installOverrides(isRecording: () => boolean): void {
  overrideGradients();
  addZeroGradients();
  repairBroadcastGradients();
  overrideCast();
  overrideGather(isRecording);
  overrideRound();
}

function overrideGradients(): void {
  defineKernel<{ dy: TensorInfo; y: TensorInfo }, object>('ReluGradient', ({ inputs: { dy, y }, backend }) =>
    backend.executeSingleOutput('ReluGrad', [FLOAT_T], [dy, y]),
  );
  defineKernel<{ x: TensorInfo }, { shape: number[] }>('SpreadTo', ({ inputs: { x }, attrs: { shape }, backend }) => {
    const extents = tf.tensor1d(shape, 'int32');
    const types = [FLOAT_T, attr.type('Tidx', DType.int32)];
    const spread = backend.executeSingleOutput('BroadcastTo', types, [x, extents]);
    extents.dispose();
    return spread;
  });
  replaceGradient('Relu', {
    outputsToSave: [true],
    gradFunc: (dy, [y]) => ({ x: () => runKernel('ReluGradient', { dy, y: y! }) }),
  });
  replaceGradient('Sum', {
    inputsToSave: ['x'],
    gradFunc: (dy, [x], attrs) => ({ x: () => spread(dy, x!.shape, attrs['axis'] as number[], 1) }),
  });
  replaceGradient('Mean', {
    inputsToSave: ['x'],
    gradFunc: (dy, [x], attrs) => ({ x: () => spread(dy, x!.shape, attrs['axis'] as number[], dy.size / x!.size) }),
  });
  replaceGradient('Add', {
    inputsToSave: ['a', 'b'],
    gradFunc: (dy, [a, b]) => ({ a: () => sumTo(dy, a!.shape), b: () => sumTo(dy, b!.shape) }),
  });
}

/** tfjs's own do not sum over broadcast axes. */
function repairBroadcastGradients(): void {
  type Part = (a: Tensor, b: Tensor) => Tensor;
  const byParts = (kernelName: string, ofA: Part, ofB: Part) =>
    replaceGradient(kernelName, {
      inputsToSave: ['a', 'b'],
      gradFunc: (dy, [a, b]) => ({
        a: () => sumTo(tf.mul(dy, ofA(a!, b!)), a!.shape),
        b: () => sumTo(tf.mul(dy, ofB(a!, b!)), b!.shape),
      }),
    });
  const mask = (isTrue: Tensor) => tf.cast(isTrue, 'float32');
  byParts(
    'Maximum',
    (a, b) => mask(tf.greaterEqual(a, b)),
    (a, b) => mask(tf.less(a, b)),
  );
  byParts(
    'Minimum',
    (a, b) => mask(tf.lessEqual(a, b)),
    (a, b) => mask(tf.greater(a, b)),
  );
  byParts(
    'SquaredDifference',
    (a, b) => tf.mul(tf.sub(a, b), 2),
    (a, b) => tf.mul(tf.sub(b, a), 2),
  );
}

/**
 * Comparisons and logic have the gradient 0, as in TensorFlow, so that code between them and the loss can be differentiated: a mask from
 * tf.where(tf.greater(x, 0), …). tfjs has it for GreaterEqual alone and throws for the others.
 */
function addZeroGradients(): void {
  const binary = ['Equal', 'NotEqual', 'Greater', 'GreaterEqual', 'Less', 'LessEqual', 'LogicalAnd', 'LogicalOr'];
  for (const kernelName of binary) {
    replaceGradient(kernelName, {
      inputsToSave: ['a', 'b'],
      gradFunc: (_dy, [a, b]) => ({ a: () => tf.zeros(a!.shape), b: () => tf.zeros(b!.shape) }),
    });
  }
  for (const kernelName of ['LogicalNot', 'All', 'Any']) {
    replaceGradient(kernelName, {
      inputsToSave: ['x'],
      gradFunc: (_dy, [x]) => ({ x: () => tf.zeros(x!.shape) }),
    });
  }
}

interface GradientConfig {
  inputsToSave?: string[];
  outputsToSave?: boolean[];
  gradFunc: (dy: Tensor, saved: Tensor[], attrs: Record<string, unknown>) => Record<string, () => Tensor>;
}

function replaceGradient(kernelName: string, { gradFunc, ...saved }: GradientConfig): void {
  if (tf.getGradient(kernelName)) tf.unregisterGradient(kernelName);
  tf.registerGradient({ kernelName, ...saved, gradFunc: gradFunc as never });
}

/** The gradient of a reduction over `axis`: `dy` times `factor`, repeated along the reduced axes. */
function spread(dy: Tensor, shape: number[], axis: number[], factor: number): Tensor {
  const kept = [...shape];
  for (const a of tf.util.parseAxisParam(axis, shape)) kept[a] = 1;
  const scaled = factor === 1 ? dy : tf.mul(dy, factor);
  return runKernel('SpreadTo', { x: tf.reshape(scaled, kept) }, { shape });
}

/** The gradient of a broadcast: `dy` summed to `shape`. */
function sumTo(dy: Tensor, shape: Shape): Tensor {
  if (tf.util.arraysEqual([...shape], dy.shape)) return dy.clone();
  const axes = tf.backend_util.getReductionAxes([...shape], dy.shape);
  return tf.reshape(tf.sum(dy, axes), [...shape]);
}

/** A cast to the type that a tensor has already is the tensor itself; the stock kernel runs an operation. */
function overrideCast(): void {
  const stock = stockKernel('Cast');
  defineKernel<{ x: TensorInfo }, { dtype: string }>('Cast', (call) => {
    const { x } = call.inputs;
    if (x.dtype !== call.attrs.dtype) return stock(call);
    call.backend.incRef(x.dataId);
    return { dataId: x.dataId, shape: x.shape, dtype: x.dtype };
  });
}

/** In a recording without the stock kernel's check of the indices, which reads their values; TensorFlow checks them on the CPU. */
function overrideGather(isRecording: () => boolean): void {
  type Attrs = { axis: number; batchDims: number };
  const stock = stockKernel('GatherV2');
  defineKernel<{ x: TensorInfo; indices: TensorInfo }, Attrs>('GatherV2', (call) => {
    if (!isRecording()) return stock(call);
    const { inputs, attrs, backend } = call;
    const { x, indices } = inputs;
    const axis = tf.scalar(tf.util.parseAxisParam(attrs.axis, x.shape)[0]!, 'int32');
    const types = [
      attr.int('batch_dims', attrs.batchDims),
      attr.type('Tparams', DTYPES[x.dtype] ?? DType.float32),
      attr.type('Tindices', DType.int32),
      attr.type('Taxis', DType.int32),
    ];
    const gathered = backend.executeSingleOutput('GatherV2', types, [x, indices, axis]);
    axis.dispose();
    return gathered;
  });
}

const DTYPES: Readonly<Record<string, DType>> = { int32: DType.int32, bool: DType.bool, string: DType.string };

/** Whole numbers are rounded already; TensorFlow 2.21 gives zeros for int32. */
function overrideRound(): void {
  const stock = stockKernel('Round');
  defineKernel<{ x: TensorInfo }, object>('Round', (call) => {
    const { x } = call.inputs;
    if (x.dtype !== 'int32') return stock(call);
    call.backend.incRef(x.dataId);
    return { dataId: x.dataId, shape: x.shape, dtype: x.dtype };
  });
}
