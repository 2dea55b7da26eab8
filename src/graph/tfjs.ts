/**
 * The door to tfjs: tfjs-core, tfjs-layers and the JavaScript half of tfjs-node-gpu, whose 155 kernels compute through our binding.
 *
 * Idea: `dist/index` of tfjs-node-gpu would load its addon (CUDA 11.2, no device choice); its backend and kernels are imported
 * directly instead and given a TFJSBinding over TensorFlow's C library (binding.ts).
 * Must stay true: one copy of tfjs-core in the process, required as CommonJS; kernels are keyed to the backend name `tensorflow`.
 */
import { createRequire } from 'node:module';
import type { KernelBackend, Tensor, TensorInfo } from '@tensorflow/tfjs';
import type { Attribute } from '../tensorflow/attribute.js';

export type {
  DataType,
  LayersModel,
  NamedTensorMap,
  Scalar,
  Tensor,
  Tensor1D,
  Tensor2D,
  Tensor3D,
  Tensor4D,
  Tensor5D,
  TensorInfo,
  Variable,
} from '@tensorflow/tfjs';

/** What tfjs is told about a tensor that the binding made. */
export interface TensorMetadata {
  readonly id: number;
  readonly shape: number[];
  readonly dtype: number;
}

/** tfjs-node-gpu's backend, as its kernels use it (its own types call some of this private). */
export interface NodeBackend {
  executeSingleOutput(name: string, attributes: readonly Attribute[], inputs: readonly TensorInfo[]): Tensor;
  executeMultipleOutputs(
    name: string,
    attributes: readonly Attribute[],
    inputs: readonly TensorInfo[],
    numOutputs: number,
  ): Tensor[];
  createOutputTensor(metadata: TensorMetadata): Tensor;
  getInputTensorIds(tensors: readonly TensorInfo[]): number[];
  incRef(dataId: object): void;
}

const require = createRequire(import.meta.url);

// Two functions that tfjs-node-gpu 4.22 still calls: deprecated with a warning in Node 22, gone in later ones (tfjs#8609).
const util = require('node:util') as { isNullOrUndefined?: unknown; isArray?: unknown };
util.isNullOrUndefined = (value: unknown) => value === null || value === undefined;
util.isArray = Array.isArray;

/** tfjs: what a model is written in. */
export const tf = require('@tensorflow/tfjs') as typeof import('@tensorflow/tfjs');

/** tfjs-core as tfjs and its layers have it: what is replaced here is replaced for both. */
export const tfjsCore = createRequire(require.resolve('@tensorflow/tfjs'))('@tensorflow/tfjs-core') as object;

const { NodeJSKernelBackend: Backend } = require('@tensorflow/tfjs-node-gpu/dist/nodejs_kernel_backend') as {
  NodeJSKernelBackend: new (binding: object, packageName: string) => NodeBackend;
};

const BACKEND_NAME = 'tensorflow';

/**
 * Makes `binding` the backend of all tfjs calls of this thread, in place of an earlier one, whose tensors are then void.
 * The first call also registers the kernels.
 */
export function registerBackend(binding: object): NodeBackend {
  require('@tensorflow/tfjs-node-gpu/dist/register_all_kernels');
  if (tf.findBackend(BACKEND_NAME)) tf.removeBackend(BACKEND_NAME);
  const backend = new Backend(binding, 'dtrain');
  tf.registerBackend(BACKEND_NAME, () => backend as unknown as KernelBackend);
  tf.setBackend(BACKEND_NAME);
  return backend;
}

/** What a kernel of ours is called with. */
export interface KernelCall<Inputs, Attrs> {
  readonly inputs: Inputs;
  readonly attrs: Attrs;
  readonly backend: NodeBackend;
}

/** Registers a kernel, in place of the stock one of that name where there is one. */
export function defineKernel<Inputs, Attrs>(name: string, kernel: (call: KernelCall<Inputs, Attrs>) => unknown): void {
  if (tf.getKernel(name, BACKEND_NAME)) tf.unregisterKernel(name, BACKEND_NAME);
  const kernelFunc = kernel as unknown as Parameters<typeof tf.registerKernel>[0]['kernelFunc'];
  tf.registerKernel({ kernelName: name, backendName: BACKEND_NAME, kernelFunc });
}

/** The stock kernel of that name, to be wrapped. */
export function stockKernel(name: string): (call: KernelCall<unknown, unknown>) => unknown {
  return tf.getKernel(name, BACKEND_NAME).kernelFunc as unknown as (call: KernelCall<unknown, unknown>) => unknown;
}

/** Runs a kernel by name on the tape of tfjs's autograd. */
export function runKernel<Result>(name: string, inputs: object, attrs: object = {}): Result {
  return tf.engine().runKernel(name, inputs as never, attrs as never) as unknown as Result;
}
