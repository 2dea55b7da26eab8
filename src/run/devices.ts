/**
 * Which devices a run uses.
 *
 * `--gpus N`: the first N GPUs that TensorFlow sees, never silently the CPU. `--cpus N`: N workers, each on a CPU device of its own.
 * Neither: all GPUs, else one CPU worker a core (or the most below that among which the global batch divides).
 */
import os from 'node:os';
import { DtrainError, ExitCode } from '../core/errors.js';
import { type DriverReport, driverTrouble, newCards, readDriver } from '../tensorflow/cuda-driver.js';
import type { ClusterPlace } from '../tensorflow/host-cluster.js';
import { type Library, openLibrary } from '../tensorflow/library.js';
import { createRuntime, type Device, type GpuOptions, type Runtime } from '../tensorflow/runtime.js';

export interface DeviceRequest {
  readonly kind: 'gpu' | 'cpu';
  readonly count: number;
}

export interface RunDevices {
  readonly runtime: Runtime;
  readonly library: Library;
  /** One a rank, by rank: `/device:CPU:1`. */
  readonly names: readonly string[];
  readonly kind: 'gpu' | 'cpu';
  /** No two of them are on one card. */
  readonly areDistinct: boolean;
  /** Sentences for people about the devices. */
  readonly notes: readonly string[];
}

/** Cores that this process may use. */
export function availableCores(): number {
  return os.availableParallelism();
}

export interface DeviceOptions {
  readonly request: DeviceRequest | null;
  /** For messages: what the command was, for instance `dtrain --config resnet50`. */
  readonly command: string;
  /** Workers where nothing was asked for and there is no GPU. */
  readonly defaultWorkers: number;
  readonly threadsPerDevice: (workers: number) => number;
  readonly explicitPlacement?: boolean;
  readonly gpu?: GpuOptions;
  /** Where this host is one of several. */
  readonly cluster?: ClusterPlace | undefined;
}

/**
 * Loads the library, makes the process's context and names the ranks' devices.
 * @throws DTRAIN_LIBRARY_MISSING, DTRAIN_TOO_FEW_GPUS, DTRAIN_PORT (exit 4).
 */
export function openDevices(options: DeviceOptions): RunDevices {
  const { request, command, threadsPerDevice, explicitPlacement = false, gpu, cluster } = options;
  const library = openLibrary(cluster?.addresses);
  if (request?.kind === 'gpu' && library.variant === 'cpu') throw onlyCpuLibrary(request.count, command);
  const workers = request?.count ?? options.defaultWorkers;
  const cpuDevices = request?.kind === 'gpu' ? 1 : workers;
  const runtime = createRuntime(library.path, {
    cpuDevices,
    threadsPerDevice: threadsPerDevice(workers),
    explicitPlacement,
    verbose: library.verbose,
    // A run on the CPU leaves GPUs to others.
    maxGpus: request?.kind === 'cpu' ? 0 : undefined,
    gpu,
    // A rank whose function waits must not hold up that of another.
    dispatchThreads: library.variant === 'gpu' ? Math.max(cpuDevices, availableCores()) : undefined,
    cluster,
  });
  const gpus = runtime.devices.filter(({ kind }) => kind === 'gpu');
  const kind = request?.kind ?? (gpus.length > 0 ? 'gpu' : 'cpu');
  if (kind === 'cpu') {
    const cpus = runtime.devices.filter((device) => device.kind === 'cpu').slice(0, workers);
    return { runtime, library, kind, names: cpus.map(({ name }) => name), areDistinct: true, notes: [] };
  }
  if (request && gpus.length < request.count)
    throw tooFewGpus(request.count, gpus, command, readDriver(), library.visibleGpus);
  const names = gpus.slice(0, request?.count).map(({ name }) => name);
  return {
    runtime,
    library,
    kind,
    names,
    areDistinct: (gpu?.workersPerCard ?? 1) === 1,
    notes: newCards(readDriver()),
  };
}

/** Exported for tests. */
export function tooFewGpus(
  asked: number,
  found: readonly Pick<Device, 'name'>[],
  command: string,
  driver: DriverReport,
  visibleGpus: string | undefined,
): DtrainError {
  const onCpu = `on the CPU: ${command} --cpus ${asked}`;
  const begin = `asked for ${asked} ${asked === 1 ? 'GPU' : 'GPUs'}, TensorFlow found`;
  const trouble = driverTrouble(driver, visibleGpus);
  const list = `${found.length} (${found.map(({ name }) => name).join(', ')})`;
  const text =
    found.length > 0
      ? `${begin} ${list}. Run with --gpus ${found.length}, or ${onCpu}`
      : trouble
        ? `${begin} none. ${trouble.what} ${trouble.cure} Or run ${onCpu}`
        : `${begin} none, though the driver has one: a CUDA library may not load. See dtrain doctor, or run ${onCpu}`;
  return new DtrainError('DTRAIN_TOO_FEW_GPUS', ExitCode.environment, text);
}

function onlyCpuLibrary(asked: number, command: string): DtrainError {
  const text =
    `asked for ${asked} ${asked === 1 ? 'GPU' : 'GPUs'}, but only the CPU library of TensorFlow is installed, which finds none. ` +
    `Install the GPU library: dtrain setup --gpu. Or run on the CPU: ${command} --cpus ${asked}`;
  return new DtrainError('DTRAIN_TOO_FEW_GPUS', ExitCode.environment, text);
}
