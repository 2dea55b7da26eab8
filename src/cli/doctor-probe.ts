/**
 * Shows that TensorFlow's library works here: loads it, multiplies two matrices on each device, takes the time of larger ones, prints what it
 * found as one JSON line.
 * The entry of a process of its own: whatever native code does to it, `dtrain doctor` survives and reports.
 */
import path from 'node:path';
import { nowSeconds } from '../core/clock.js';
import { preload } from '../tensorflow/c-api.js';
import { type DriverTrouble, driverTrouble, newCards, readDriver } from '../tensorflow/cuda-driver.js';
import { execute } from '../tensorflow/execute.js';
import { cudaLibraries, openLibrary } from '../tensorflow/library.js';
import { createRuntime, type Runtime } from '../tensorflow/runtime.js';
import { tensorFrom } from '../tensorflow/tensor-handle.js';

export interface ProbeReport {
  /** TensorFlow's version. */
  readonly version: string;
  readonly devices: readonly { readonly name: string; readonly kind: 'cpu' | 'gpu'; readonly memoryBytes: number }[];
  /** Devices that compute nothing or something wrong, and why. */
  readonly faulty: readonly { readonly name: string; readonly why: string }[];
  /** CUDA libraries beside TensorFlow in the order in which they are loaded; what the loader says of one that it refuses. */
  readonly cuda: readonly { readonly name: string; readonly why: string | null }[];
  /** Of one thread of one core, in a float32 product of large matrices. */
  readonly flopsPerSecond: number;
  /** What is wrong with NVIDIA's driver, or with the cards; null where nothing is. */
  readonly trouble: DriverTrouble | null;
  /** Sentences about cards that are newer than TensorFlow. */
  readonly newCards: readonly string[];
}

function probe(): ProbeReport {
  const library = openLibrary();
  const cuda = cudaLibraries(library.path).map((file) => ({ name: path.basename(file), why: preload(file) ?? null }));
  const runtime = createRuntime(library.path, { cpuDevices: 1, threadsPerDevice: 1 });
  const driver = readDriver();
  const devices = runtime.devices.map(({ name, kind, memoryBytes }) => ({ name, kind, memoryBytes }));
  return {
    version: runtime.c.TF_Version(),
    devices,
    faulty: devices.flatMap(({ name }) => faultOf(runtime, name)),
    cuda,
    flopsPerSecond: coreSpeed(runtime),
    trouble: driverTrouble(driver, library.visibleGpus),
    newCards: newCards(driver),
  };
}

const SIDE = 768;
const ROUNDS = 6;

/** The fastest of some rounds, so that a busy moment costs nothing. */
function coreSpeed(runtime: Runtime): number {
  const device = runtime.devices.find(({ kind }) => kind === 'cpu')!.name;
  using matrix = tensorFrom(runtime, device, new Float32Array(SIDE * SIDE).fill(0.5), [SIDE, SIDE]);
  const seconds = Array.from({ length: ROUNDS }, () => {
    const begun = nowSeconds();
    using _product = execute(runtime, { name: 'MatMul', inputs: [matrix, matrix], device, numOutputs: 1 })[0]!;
    return nowSeconds() - begun;
  });
  return (2 * SIDE ** 3) / Math.min(...seconds);
}

/** [1 2; 3 4] times itself. */
function faultOf(runtime: Runtime, device: string): { name: string; why: string }[] {
  try {
    using matrix = tensorFrom(runtime, device, Float32Array.of(1, 2, 3, 4), [2, 2]);
    using product = execute(runtime, { name: 'MatMul', inputs: [matrix, matrix], device, numOutputs: 1 })[0]!;
    const values = [...product.read()].join(' ');
    return values === '7 10 15 22' ? [] : [{ name: device, why: `expected 7 10 15 22, got ${values}` }];
  } catch (error) {
    return [{ name: device, why: (error as Error).message }];
  }
}

process.stdout.write(`${JSON.stringify(probe())}\n`, () => process.exit(0));
