/**
 * One thread's view of TensorFlow: the library, a status, and the process's one context.
 *
 * Idea: the main thread makes the context (`createRuntime`) and hands its address to the worker threads, which attach to it
 * (`attachRuntime`). Each rank names its own device with every operation.
 * Owns nothing that must be freed: the context lives as long as the process (TensorFlow's threads do too).
 * Must stay true: environment variables that TensorFlow reads are set (library.ts) before the first call here, by the main thread.
 */
import { DtrainError, ExitCode } from '../core/errors.js';
import { type CApi, type Native, openNative, type Pointer } from './c-api.js';
import { type ClusterPlace, clusterFields, joinCluster } from './host-cluster.js';
import { TENSORFLOW_VERSION } from './install-manifest.js';
import { doubleField, field, message } from './protobuf.js';
import { Status } from './status.js';

export interface Runtime {
  readonly native: Native;
  readonly c: CApi;
  readonly status: Status;
  readonly context: Pointer;
  readonly devices: readonly Device[];
}

export interface Device {
  /** TensorFlow's full name, `/job:localhost/replica:0/task:0/device:CPU:1`. */
  readonly fullName: string;
  /** The name that dtrain shows, `/device:CPU:1`. */
  readonly name: string;
  readonly kind: 'cpu' | 'gpu';
  readonly memoryBytes: number;
}

/** What another thread of this process needs to attach. Plain data. */
export interface RuntimeAddress {
  readonly libraryPath: string;
  readonly context: Pointer;
}

export interface RuntimeOptions {
  readonly cpuDevices: number;
  /** Threads of one device's pool; never 0, which TensorFlow takes for all cores. */
  readonly threadsPerDevice: number;
  /** An operation whose input is on another device is an error, not a silent copy. For tests. */
  readonly explicitPlacement?: boolean;
  /** Devices of this many GPUs at most; 0: none is touched. Absent: all. */
  readonly maxGpus?: number | undefined;
  readonly gpu?: GpuOptions | undefined;
  /** Threads that start the kernels of all devices. Absent: one a CPU device. */
  readonly dispatchThreads?: number | undefined;
  /** Let TensorFlow's own lines through to standard error. */
  readonly verbose?: boolean;
  /** This process's place among several hosts: it opens a port. Absent: no port is opened. */
  readonly cluster?: ClusterPlace | undefined;
}

/** How memory of GPUs is taken. */
export interface GpuOptions {
  /** As it is needed. */
  readonly memoryGrowth: boolean;
  /** Of each card; null: TensorFlow's own. */
  readonly memoryFraction: number | null;
  /** Devices that one card is split into, with equal parts of its memory. */
  readonly workersPerCard: number;
}

const EXPLICIT_PLACEMENT = 0;

/**
 * Makes the process's context.
 * @throws DTRAIN_LIBRARY_UNUSABLE, DTRAIN_PORT (exit 4), DTRAIN_TENSORFLOW (exit 10).
 */
export function createRuntime(libraryPath: string, options: RuntimeOptions): Runtime {
  const native = openNative(libraryPath, options.verbose);
  const { c } = native;
  checkVersion(libraryPath, c.TF_Version());
  const status = new Status(c);
  const config = configProto(options);
  const contextOptions = c.TFE_NewContextOptions();
  c.TFE_ContextOptionsSetConfig(contextOptions, config, config.length, status.pointer);
  status.check(() => 'TFE_ContextOptionsSetConfig');
  if (options.explicitPlacement) c.TFE_ContextOptionsSetDevicePlacementPolicy(contextOptions, EXPLICIT_PLACEMENT);
  const context = c.TFE_NewContext(contextOptions, status.pointer);
  c.TFE_DeleteContextOptions(contextOptions);
  status.check(() => 'TFE_NewContext');
  if (options.cluster) joinCluster({ native, status, context }, config, options.cluster);
  return { native, c, status, context, devices: listDevices(c, status, context) };
}

/** Attaches this thread to the context that the main thread made. */
export function attachRuntime({ libraryPath, context }: RuntimeAddress): Runtime {
  const native = openNative(libraryPath);
  const status = new Status(native.c);
  return { native, c: native.c, status, context, devices: listDevices(native.c, status, context) };
}

/** The device called `name` (`/device:GPU:2`). */
export function deviceNamed(runtime: Runtime, name: string): Device {
  const device = runtime.devices.find((candidate) => candidate.name === name);
  if (device) return device;
  const found = runtime.devices.map((candidate) => candidate.name).join(', ');
  throw new DtrainError('DTRAIN_DEVICE', ExitCode.environment, `device ${name}: TensorFlow has only ${found}.`);
}

function checkVersion(libraryPath: string, version: string): void {
  if (version === TENSORFLOW_VERSION) return;
  const text = `${libraryPath}: expected TensorFlow ${TENSORFLOW_VERSION}, got ${version}. Run: dtrain setup`;
  throw new DtrainError('DTRAIN_LIBRARY_VERSION', ExitCode.environment, text);
}

/** ConfigProto: device_count 1, intra_op 2, inter_op 5, gpu_options 6. Exported for tests. */
export function configProto(options: RuntimeOptions): Buffer {
  const { cpuDevices, threadsPerDevice, maxGpus, gpu, dispatchThreads = cpuDevices, cluster } = options;
  const deviceCount = (kind: string, count: number) => field(1, message(field(1, kind), field(2, count)));
  return message(
    deviceCount('CPU', cpuDevices),
    ...(maxGpus === undefined ? [] : [deviceCount('GPU', maxGpus)]),
    field(2, threadsPerDevice),
    field(5, Math.max(1, dispatchThreads)),
    field(6, gpuFields(gpu)),
    ...(cluster ? clusterFields(cluster) : []),
  );
}

const DEFAULT_GPU: GpuOptions = { memoryGrowth: true, memoryFraction: null, workersPerCard: 1 };

/**
 * GPUOptions: per_process_gpu_memory_fraction 1, allow_growth 4, experimental 9 {num_virtual_devices_per_gpu 15}. A card that is split has fixed parts:
 * there growth is off.
 */
function gpuFields({ memoryGrowth, memoryFraction, workersPerCard }: GpuOptions = DEFAULT_GPU): Buffer {
  const isSplit = workersPerCard > 1;
  return message(
    ...(memoryFraction === null ? [] : [doubleField(1, memoryFraction)]),
    field(4, memoryGrowth && !isSplit ? 1 : 0),
    ...(isSplit ? [field(9, field(15, workersPerCard))] : []),
  );
}

function listDevices(c: CApi, status: Status, context: Pointer): Device[] {
  const list = c.TFE_ContextListDevices(context, status.pointer);
  status.check(() => 'TFE_ContextListDevices');
  const devices: Device[] = [];
  for (let i = 0; i < c.TF_DeviceListCount(list); i++) {
    const type = c.TF_DeviceListType(list, i, status.pointer);
    const fullName = c.TF_DeviceListName(list, i, status.pointer);
    const memoryBytes = Number(c.TF_DeviceListMemoryBytes(list, i, status.pointer));
    if (type !== 'CPU' && type !== 'GPU') continue;
    const name = fullName.slice(fullName.indexOf('/device:'));
    devices.push({ fullName, name, kind: type === 'GPU' ? 'gpu' : 'cpu', memoryBytes });
  }
  c.TF_DeleteDeviceList(list);
  return devices;
}
