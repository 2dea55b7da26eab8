/**
 * Where bfloat16 goes: convolutions and matrix products in bfloat16, what lies between them follows, everything else in float32.
 *
 * Weights, statistics, loss and optimizer stay float32; an activation stays bfloat16 from one convolution to the next.
 */
import { DType } from '../tensorflow/dtype.js';
import type { GraphValue } from './graph-value.js';

/** Inputs of an operation that are always cast to bfloat16. */
const ALWAYS: Readonly<Record<string, readonly number[]>> = {
  Conv2D: [0, 1],
  Conv2DBackpropInput: [1, 2],
  Conv2DBackpropFilter: [0, 2],
  BatchMatMulV2: [0, 1],
};

/** Inputs that are cast if one of them is bfloat16 already. */
const FOLLOWING: Readonly<Record<string, readonly number[]>> = {
  Relu: [0],
  ReluGrad: [0, 1],
  Add: [0, 1],
  AddV2: [0, 1],
  AddN: [0, 1],
  FusedBatchNormV3: [0],
  FusedBatchNormGradV3: [0, 1],
  AvgPool: [0],
  AvgPoolGrad: [1],
  MaxPool: [0],
  MaxPoolGrad: [0, 1, 2],
  PadV2: [0, 2],
  Pad: [0],
  Slice: [0],
  StridedSlice: [0],
  Reshape: [0],
};

/** Indices of the inputs to cast to bfloat16; undefined where the operation stays float32. */
export function lowPrecisionInputs(type: string, inputs: readonly GraphValue[]): readonly number[] | undefined {
  if (type === 'ConcatV2') return concatInputs(inputs);
  const following = FOLLOWING[type];
  if (!following) return ALWAYS[type];
  return following.some((i) => inputs[i]?.dtype === DType.bfloat16) ? following : undefined;
}

/** What is concatenated (all but the axis, which comes last), if all of it is bfloat16 already. */
function concatInputs(inputs: readonly GraphValue[]): readonly number[] | undefined {
  const parts = inputs.slice(0, -1);
  return parts.every(({ dtype }) => dtype === DType.bfloat16) ? [...parts.keys()] : undefined;
}
