/**
 * Shows that TensorFlow's library works here: loads it, multiplies two matrices on each device, prints what it found as one JSON line.
 * The entry of a process of its own: whatever native code does to it, `dtrain doctor` survives and reports.
 */
import fs from 'node:fs';
import path from 'node:path';
import { preload } from '../tensorflow/c-api.js';
import { type DriverTrouble, driverTrouble, newCards, readDriver } from '../tensorflow/cuda-driver.js';
import { execute } from '../tensorflow/execute.js';
import { openLibrary } from '../tensorflow/library.js';
import { createRuntime, type Runtime } from '../tensorflow/runtime.js';
import { tensorFrom } from '../tensorflow/tensor-handle.js';

export interface ProbeReport {
  /** TensorFlow's version. */
  readonly version: string;
  readonly devices: readonly { readonly name: string; readonly kind: 'cpu' | 'gpu'; readonly memoryBytes: number }[];
  /** Devices that compute nothing or something wrong, and why. */
  readonly faulty: readonly { readonly name: string; readonly why: string }[];
  /** CUDA libraries beside TensorFlow that do not load, and the loader's text. */
  readonly unloadable: readonly { readonly name: string; readonly why: string }[];
  /** What is wrong with NVIDIA's driver, or with the cards; null where nothing is. */
  readonly trouble: DriverTrouble | null;
  /** Sentences about cards that are newer than TensorFlow. */
  readonly newCards: readonly string[];
}

function probe(): ProbeReport {
  const library = openLibrary();
  const runtime = createRuntime(library.path, { cpuDevices: 1, threadsPerDevice: 1 });
  const driver = readDriver();
  const devices = runtime.devices.map(({ name, kind, memoryBytes }) => ({ name, kind, memoryBytes }));
  return {
    version: runtime.c.TF_Version(),
    devices,
    faulty: devices.flatMap(({ name }) => faultOf(runtime, name)),
    unloadable: unloadableLibraries(path.join(path.dirname(path.dirname(library.path)), 'nvidia')),
    trouble: driverTrouble(driver, library.visibleGpus),
    newCards: newCards(driver),
  };
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

function unloadableLibraries(nvidia: string): { name: string; why: string }[] {
  if (!fs.existsSync(nvidia)) return [];
  const files = fs
    .readdirSync(nvidia, { recursive: true, encoding: 'utf8' })
    .filter((file) => /\/lib\/[^/]+\.so\.\d/.test(file));
  return files.sort().flatMap((file) => {
    const why = preload(path.join(nvidia, file));
    return why === undefined ? [] : [{ name: path.basename(file), why }];
  });
}

process.stdout.write(`${JSON.stringify(probe())}\n`, () => process.exit(0));
