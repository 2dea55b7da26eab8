/**
 * The door to koffi and to TensorFlow's C library: a table of C prototypes, typed.
 *
 * Idea: what is called here is exactly the C API; everything above speaks of tensors, operations and functions, not of pointers.
 * Must stay true: the library is pinned (RTLD_NODELETE) by the main thread before koffi opens it, or koffi unloads it at the end of
 * a thread and the process ends in SIGSEGV; stacks are enlarged before the first load in every thread.
 */
import koffi from 'koffi';
import { DtrainError, ExitCode } from '../core/errors.js';

/** An address in this process; all threads may pass it around. */
export type Pointer = bigint;

/** One output of an operation of a graph under construction. */
export interface NodeOutput {
  readonly oper: Pointer;
  readonly index: number;
}

type Bytes = Uint8Array | BigInt64Array | BigUint64Array | Int32Array | Float32Array;
type Text = string | Uint8Array;

/** The C functions that dtrain calls. Shapes are BigInt64Arrays; out-parameters are typed arrays. */
export interface CApi {
  TF_Version(): string;
  TF_NewStatus(): Pointer;
  TF_GetCode(status: Pointer): number;
  TF_Message(status: Pointer): string;
  TF_NewBuffer(): Pointer;
  TF_DeleteBuffer(buffer: Pointer): void;

  TF_AllocateTensor(dtype: number, dims: BigInt64Array, rank: number, bytes: number): Pointer;
  TF_NewTensor(
    dtype: number,
    dims: BigInt64Array,
    rank: number,
    data: Bytes,
    bytes: number,
    deallocator: Pointer,
    argument: null,
  ): Pointer;
  TF_TensorData(tensor: Pointer): Pointer;
  TF_TensorByteSize(tensor: Pointer): number;
  TF_DeleteTensor(tensor: Pointer): void;
  TF_StringInit(string: Pointer): void;
  TF_StringCopy(string: Pointer, source: Uint8Array, bytes: number): void;
  TF_StringGetDataPointer(string: Pointer): Pointer;
  TF_StringGetSize(string: Pointer): number;

  TFE_NewContextOptions(): Pointer;
  TFE_ContextOptionsSetConfig(options: Pointer, config: Uint8Array, bytes: number, status: Pointer): void;
  TFE_ContextOptionsSetDevicePlacementPolicy(options: Pointer, policy: number): void;
  TFE_DeleteContextOptions(options: Pointer): void;
  TFE_NewContext(options: Pointer, status: Pointer): Pointer;
  TFE_ContextListDevices(context: Pointer, status: Pointer): Pointer;
  TFE_ContextAddFunction(context: Pointer, fn: Pointer, status: Pointer): void;
  TFE_ContextRemoveFunction(context: Pointer, name: string, status: Pointer): void;
  TFE_ContextEnableRunMetadata(context: Pointer): void;
  TFE_ContextDisableRunMetadata(context: Pointer): void;
  TFE_ContextExportRunMetadata(context: Pointer, buffer: Pointer, status: Pointer): void;
  TF_DeviceListCount(list: Pointer): number;
  TF_DeviceListName(list: Pointer, index: number, status: Pointer): string;
  TF_DeviceListType(list: Pointer, index: number, status: Pointer): string;
  TF_DeviceListMemoryBytes(list: Pointer, index: number, status: Pointer): number;
  TF_DeleteDeviceList(list: Pointer): void;

  TFE_NewTensorHandle(tensor: Pointer, status: Pointer): Pointer;
  TFE_DeleteTensorHandle(handle: Pointer): void;
  TFE_TensorHandleResolve(handle: Pointer, status: Pointer): Pointer;
  TFE_TensorHandleCopyToDevice(handle: Pointer, context: Pointer, device: string, status: Pointer): Pointer;
  TFE_TensorHandleDeviceName(handle: Pointer, status: Pointer): string;
  TFE_TensorHandleDataType(handle: Pointer): number;
  TFE_TensorHandleNumDims(handle: Pointer, status: Pointer): number;
  TFE_TensorHandleDim(handle: Pointer, axis: number, status: Pointer): number;
  TFE_TensorHandleDevicePointer(handle: Pointer, status: Pointer): Pointer;

  TFE_NewOp(context: Pointer, name: string, status: Pointer): Pointer;
  TFE_DeleteOp(op: Pointer): void;
  TFE_OpSetDevice(op: Pointer, device: string, status: Pointer): void;
  TFE_OpAddInput(op: Pointer, handle: Pointer, status: Pointer): void;
  TFE_OpAddInputList(op: Pointer, handles: BigUint64Array, count: number, status: Pointer): void;
  TFE_OpSetAttrString(op: Pointer, name: string, value: Text, bytes: number): void;
  TFE_OpSetAttrInt(op: Pointer, name: string, value: bigint): void;
  TFE_OpSetAttrIntList(op: Pointer, name: string, values: BigInt64Array, count: number): void;
  TFE_OpSetAttrFloat(op: Pointer, name: string, value: number): void;
  TFE_OpSetAttrBool(op: Pointer, name: string, value: number): void;
  TFE_OpSetAttrType(op: Pointer, name: string, value: number): void;
  TFE_OpSetAttrTypeList(op: Pointer, name: string, values: Int32Array, count: number): void;
  TFE_OpSetAttrShape(op: Pointer, name: string, dims: BigInt64Array, rank: number, status: Pointer): void;
  TFE_Execute(op: Pointer, handles: BigUint64Array, count: Int32Array, status: Pointer): void;

  TF_NewGraph(): Pointer;
  TF_DeleteGraph(graph: Pointer): void;
  TF_NewOperation(graph: Pointer, type: string, name: string): Pointer;
  TF_AddInput(description: Pointer, input: NodeOutput): void;
  TF_AddInputList(description: Pointer, inputs: readonly NodeOutput[], count: number): void;
  TF_AddControlInput(description: Pointer, operation: Pointer): void;
  TF_SetAttrString(description: Pointer, name: string, value: Text, bytes: number): void;
  TF_SetAttrInt(description: Pointer, name: string, value: bigint): void;
  TF_SetAttrIntList(description: Pointer, name: string, values: BigInt64Array, count: number): void;
  TF_SetAttrFloat(description: Pointer, name: string, value: number): void;
  TF_SetAttrBool(description: Pointer, name: string, value: number): void;
  TF_SetAttrType(description: Pointer, name: string, value: number): void;
  TF_SetAttrTypeList(description: Pointer, name: string, values: Int32Array, count: number): void;
  TF_SetAttrShape(description: Pointer, name: string, dims: BigInt64Array, rank: number): void;
  TF_SetAttrTensor(description: Pointer, name: string, tensor: Pointer, status: Pointer): void;
  TF_FinishOperation(description: Pointer, status: Pointer): Pointer;
  TF_OperationOutputType(output: NodeOutput): number;
  TF_GraphGetTensorNumDims(graph: Pointer, output: NodeOutput, status: Pointer): number;
  TF_GraphGetTensorShape(graph: Pointer, output: NodeOutput, dims: BigInt64Array, rank: number, status: Pointer): void;
  TF_GraphSetTensorShape(graph: Pointer, output: NodeOutput, dims: BigInt64Array, rank: number, status: Pointer): void;
  TF_GraphToFunctionWithControlOutputs(
    graph: Pointer,
    name: string,
    appendHash: number,
    numOperations: number,
    operations: null,
    numInputs: number,
    inputs: readonly NodeOutput[],
    numOutputs: number,
    outputs: readonly NodeOutput[],
    outputNames: null,
    numControlOutputs: number,
    controlOutputs: BigUint64Array,
    controlOutputNames: null,
    options: null,
    description: null,
    status: Pointer,
  ): Pointer;
  TF_DeleteFunction(fn: Pointer): void;
}

/** The functions of several hosts, which a run on one host never looks up. */
export interface CollectiveApi {
  TFE_EnableCollectiveOps(context: Pointer, serverDef: Uint8Array, bytes: number, status: Pointer): void;
  TFE_AbortCollectiveOps(context: Pointer, status: Pointer): void;
  TF_SetStatus(status: Pointer, code: number, message: string): void;
  TF_DeleteStatus(status: Pointer): void;
  /** Asks another host, on a thread of libuv's pool; `done` is called on this thread when it has answered or the time is over. */
  checkPeerHealth(context: Pointer, task: string, milliseconds: number, status: Pointer, done: () => void): void;
}

/**
 * TensorFlow's profiler, which has no C functions: these are its C++ ones by their mangled names. What C++ returns by value it writes where the
 * first argument points. A run without --profile never looks them up.
 */
export interface ProfilerApi {
  /** Makes a message, empty, in memory of ours: ProfileOptions, XSpace. `arena`: null. */
  newOptions(options: Uint8Array, arena: null): void;
  newSpace(space: Uint8Array, arena: null): void;
  parse(message: Uint8Array, bytes: Uint8Array, length: number): number;
  /** Into a std::string. */
  serialize(text: BigUint64Array, message: Uint8Array): void;
  /** Into a std::unique_ptr, which is one address. */
  create(session: BigUint64Array, options: Uint8Array): void;
  /** Into an absl::Status, which is one word. */
  collect(status: BigUint64Array, session: Pointer, space: Uint8Array): void;
  deleteSession(session: Pointer): void;
}

const PROFILER_PROTOTYPES: Readonly<Record<keyof ProfilerApi, string>> = {
  newOptions: 'void _ZN10tensorflow14ProfileOptionsC1EPN6google8protobuf5ArenaE(void*, void*)',
  newSpace: 'void _ZN10tensorflow8profiler6XSpaceC1EPN6google8protobuf5ArenaE(void*, void*)',
  parse: 'bool _ZN6google8protobuf11MessageLite14ParseFromArrayEPKvi(void*, const void*, int)',
  serialize: 'void _ZNK6google8protobuf11MessageLite17SerializeAsStringB5cxx11Ev(void*, void*)',
  create: 'void _ZN3tsl15ProfilerSession6CreateERKN10tensorflow14ProfileOptionsE(void*, void*)',
  collect: 'void _ZN3tsl15ProfilerSession11CollectDataEPN10tensorflow8profiler6XSpaceE(void*, void*, void*)',
  deleteSession: 'void _ZN3tsl15ProfilerSessionD1Ev(void*)',
};

const COLLECTIVE_PROTOTYPES = `
  void TFE_EnableCollectiveOps(void*, const void*, size_t, void*); void TFE_AbortCollectiveOps(void*, void*);
  void TF_SetStatus(void*, int, const char*); void TF_DeleteStatus(void*);
  void TFE_CollectiveOpsCheckPeerHealth(void*, const char*, int64_t, void*);
`;

/** The same functions as C declares them: koffi parses these. */
const PROTOTYPES = `
  const char* TF_Version(); void* TF_NewStatus(); int TF_GetCode(void*); const char* TF_Message(void*);
  void* TF_NewBuffer(); void TF_DeleteBuffer(void*);

  void* TF_AllocateTensor(int, int64_t*, int, size_t); void* TF_NewTensor(int, int64_t*, int, void*, size_t, void*, void*);
  void* TF_TensorData(void*); size_t TF_TensorByteSize(void*); void TF_DeleteTensor(void*);
  void TF_StringInit(void*); void TF_StringCopy(void*, const void*, size_t); void* TF_StringGetDataPointer(void*);
  size_t TF_StringGetSize(void*);

  void* TFE_NewContextOptions(); void TFE_ContextOptionsSetConfig(void*, void*, size_t, void*);
  void TFE_ContextOptionsSetDevicePlacementPolicy(void*, int); void TFE_DeleteContextOptions(void*);
  void* TFE_NewContext(void*, void*); void* TFE_ContextListDevices(void*, void*);
  void TFE_ContextAddFunction(void*, void*, void*); void TFE_ContextRemoveFunction(void*, const char*, void*);
  void TFE_ContextEnableRunMetadata(void*); void TFE_ContextDisableRunMetadata(void*); void TFE_ContextExportRunMetadata(void*, void*, void*);
  int TF_DeviceListCount(void*); const char* TF_DeviceListName(void*, int, void*); const char* TF_DeviceListType(void*, int, void*);
  int64_t TF_DeviceListMemoryBytes(void*, int, void*); void TF_DeleteDeviceList(void*);

  void* TFE_NewTensorHandle(void*, void*); void TFE_DeleteTensorHandle(void*); void* TFE_TensorHandleResolve(void*, void*);
  void* TFE_TensorHandleCopyToDevice(void*, void*, const char*, void*); const char* TFE_TensorHandleDeviceName(void*, void*);
  int TFE_TensorHandleDataType(void*); int TFE_TensorHandleNumDims(void*, void*); int64_t TFE_TensorHandleDim(void*, int, void*);
  void* TFE_TensorHandleDevicePointer(void*, void*);

  void* TFE_NewOp(void*, const char*, void*); void TFE_DeleteOp(void*); void TFE_OpSetDevice(void*, const char*, void*);
  void TFE_OpAddInput(void*, void*, void*); void TFE_OpAddInputList(void*, void*, int, void*);
  void TFE_OpSetAttrString(void*, const char*, const void*, size_t); void TFE_OpSetAttrInt(void*, const char*, int64_t);
  void TFE_OpSetAttrIntList(void*, const char*, int64_t*, int); void TFE_OpSetAttrFloat(void*, const char*, float);
  void TFE_OpSetAttrBool(void*, const char*, uint8_t); void TFE_OpSetAttrType(void*, const char*, int);
  void TFE_OpSetAttrTypeList(void*, const char*, int*, int); void TFE_OpSetAttrShape(void*, const char*, int64_t*, int, void*);
  void TFE_Execute(void*, void*, void*, void*);

  void* TF_NewGraph(); void TF_DeleteGraph(void*); void* TF_NewOperation(void*, const char*, const char*);
  void TF_AddInput(void*, TF_Output); void TF_AddInputList(void*, TF_Output*, int); void TF_AddControlInput(void*, void*);
  void TF_SetAttrString(void*, const char*, const void*, size_t); void TF_SetAttrInt(void*, const char*, int64_t);
  void TF_SetAttrIntList(void*, const char*, int64_t*, int); void TF_SetAttrFloat(void*, const char*, float);
  void TF_SetAttrBool(void*, const char*, uint8_t); void TF_SetAttrType(void*, const char*, int);
  void TF_SetAttrTypeList(void*, const char*, int*, int); void TF_SetAttrShape(void*, const char*, int64_t*, int);
  void TF_SetAttrTensor(void*, const char*, void*, void*); void* TF_FinishOperation(void*, void*);
  int TF_OperationOutputType(TF_Output); int TF_GraphGetTensorNumDims(void*, TF_Output, void*);
  void TF_GraphGetTensorShape(void*, TF_Output, int64_t*, int, void*); void TF_GraphSetTensorShape(void*, TF_Output, int64_t*, int, void*);
  void* TF_GraphToFunctionWithControlOutputs(void*, const char*, uint8_t, int, void*, int, TF_Output*, int, TF_Output*, void*,
    int, void*, void*, void*, const char*, void*);
  void TF_DeleteFunction(void*);
`;

const RTLD_NOW = 0x2;
const RTLD_GLOBAL = 0x100;
const RTLD_NODELETE = 0x1000;
const LOAD_FLAGS = RTLD_NOW | RTLD_GLOBAL | RTLD_NODELETE;
const STACK_BYTES = 16 * 2 ** 20;

/** TensorFlow's functions, and the few of libc that move bytes between it and JavaScript. */
export interface Native {
  readonly c: CApi;
  /** Looks up what several hosts need. @throws DTRAIN_LIBRARY_UNUSABLE (exit 4). */
  readonly collectives: () => CollectiveApi;
  /** Looks up TensorFlow's profiler. @throws DTRAIN_LIBRARY_UNUSABLE (exit 4). */
  readonly profiler: () => ProfilerApi;
  /** Copies `bytes` bytes between TensorFlow's memory and an array of ours, either way. */
  readonly copyBytes: (target: Pointer | ArrayBufferView, source: Pointer | ArrayBufferView, bytes: number) => void;
  /** A C function that does nothing, as the deallocator of memory that is ours. A JavaScript one could deadlock. */
  readonly doNothing: Pointer;
  readonly addressOf: (array: ArrayBufferView) => Pointer;
}

/**
 * Opens the library in this thread and pins it in the process. What it writes to standard error while it loads is dropped unless `verbose`.
 * @throws DTRAIN_LIBRARY_UNUSABLE (exit 4) when the loader refuses it or a function is missing.
 */
export function openNative(libraryPath: string, verbose = false): Native {
  const libc = openLibc();
  if (verbose) pin(libc, libraryPath);
  else withoutStderr(libc, () => pin(libc, libraryPath));
  const library = koffi.load(libraryPath);
  defineOutputStruct();
  let collectives: CollectiveApi | undefined;
  return {
    c: lookUp(library, PROTOTYPES, libraryPath) as unknown as CApi,
    collectives: () => (collectives ??= lookUpCollectives(library, libraryPath)),
    profiler: () => lookUpProfiler(library, libraryPath),
    copyBytes: libc.func('void* memcpy(void*, const void*, size_t)') as unknown as Native['copyBytes'],
    doNothing: libc.symbol('getppid', 'void') as unknown as Pointer,
    addressOf: (array) => koffi.address(array),
  };
}

function lookUpCollectives(library: Library, libraryPath: string): CollectiveApi {
  const { TFE_CollectiveOpsCheckPeerHealth: check, ...rest } = lookUp(library, COLLECTIVE_PROTOTYPES, libraryPath);
  return { ...rest, checkPeerHealth: check!.async } as unknown as CollectiveApi;
}

function lookUpProfiler(library: Library, libraryPath: string): ProfilerApi {
  const functions = lookUp(library, Object.values(PROFILER_PROTOTYPES).join('; '), libraryPath);
  const named = Object.entries(PROFILER_PROTOTYPES).map(([name, prototype]) => [
    name,
    functions[/(\w+)\(/.exec(prototype)![1]!],
  ]);
  return Object.fromEntries(named) as unknown as ProfilerApi;
}

function lookUp(library: Library, prototypes: string, libraryPath: string): Record<string, NativeFunction> {
  const functions = prototypes.match(/\w[^;(]*\([^)]*\)/g)!.map((prototype) => {
    const name = /(\w+)\(/.exec(prototype)![1]!;
    try {
      return [name, library.func(prototype.replace(/\s+/g, ' '))] as const;
    } catch (cause) {
      throw unusable(libraryPath, `it has no function ${name}`, cause);
    }
  });
  return Object.fromEntries(functions);
}

/** The functions of NVIDIA's driver that say what it is. They return 0, or the number of an error; out-parameters are typed arrays. */
export interface CudaDriver {
  cuInit(flags: number): number;
  cuDriverGetVersion(version: Int32Array): number;
  cuDeviceGetCount(count: Int32Array): number;
  cuDeviceGet(device: Int32Array, index: number): number;
  cuDeviceGetName(name: Uint8Array, bytes: number, device: number): number;
  cuDeviceGetAttribute(value: Int32Array, attribute: number, device: number): number;
}

const CUDA_PROTOTYPES = `
  int cuInit(unsigned int); int cuDriverGetVersion(int*); int cuDeviceGetCount(int*); int cuDeviceGet(int*, int);
  int cuDeviceGetName(void*, int, int); int cuDeviceGetAttribute(int*, int, int);
`;

/** The driver's library, pinned in the process; the loader's reason where there is none. */
export function openCudaDriver(library = 'libcuda.so.1'): CudaDriver | string {
  const reason = preload(library);
  if (reason !== undefined) return reason;
  return lookUp(koffi.load(library), CUDA_PROTOTYPES, library) as unknown as CudaDriver;
}

/** Loads another library by its path so that TensorFlow finds it by its name later; the loader's reason when that fails, else undefined. */
export function preload(libraryPath: string): string | undefined {
  return loadAndPin(openLibc(), libraryPath);
}

/**
 * Begins to load a library on a thread of libuv's pool. Who loads it meanwhile waits for the loader. Its standard error is dropped until then
 * unless `verbose`.
 */
export function preloadAside(libraryPath: string, verbose: boolean): void {
  const libc = openLibc();
  const restore = verbose ? () => undefined : closeStderr(libc);
  libc.func('void* dlopen(const char*, int)').async(libraryPath, LOAD_FLAGS, restore);
}

type Library = ReturnType<typeof koffi.load>;
type NativeFunction = ReturnType<Library['func']>;

/** libc, with stacks enlarged for what this thread will call: koffi takes that setting only before its first library. */
function openLibc(): Library {
  if (koffi.config().sync_stack_size !== STACK_BYTES) {
    koffi.config({ ...koffi.config(), sync_stack_size: STACK_BYTES, async_stack_size: STACK_BYTES });
  }
  return koffi.load('libc.so.6');
}

function pin(libc: Library, libraryPath: string): void {
  const reason = loadAndPin(libc, libraryPath);
  if (reason !== undefined) throw unusable(libraryPath, reason);
}

function loadAndPin(libc: Library, libraryPath: string): string | undefined {
  const lastError = libc.func('const char* dlerror()'); // looked up first: koffi's own look-up would clear the error
  const handle = libc.func('void* dlopen(const char*, int)')(libraryPath, LOAD_FLAGS);
  return handle ? undefined : String(lastError());
}

const STDERR = 2;
const O_WRONLY = 1;

/**
 * Runs `run` with the process's standard error closed off: as it loads, TensorFlow writes two lines there whatever its log level is.
 * Only for that moment: what other threads write meanwhile is lost too.
 */
function withoutStderr<T>(libc: Library, run: () => T): T {
  const restore = closeStderr(libc);
  try {
    return run();
  } finally {
    restore();
  }
}

/** Gives the way back. */
function closeStderr(libc: Library): () => void {
  const dup2 = libc.func('int dup2(int, int)');
  const close = libc.func('int close(int)');
  const saved = libc.func('int dup(int)')(STDERR) as number;
  const nowhere = libc.func('int open(const char*, int)')('/dev/null', O_WRONLY) as number;
  dup2(nowhere, STDERR);
  close(nowhere);
  return () => {
    dup2(saved, STDERR);
    close(saved);
  };
}

function unusable(libraryPath: string, reason: string, cause?: unknown): DtrainError {
  const message = `${libraryPath}: cannot be used as TensorFlow's C library: ${reason}. Expected version 2.21.0 for x86-64 Linux. Run: dtrain setup`;
  return new DtrainError('DTRAIN_LIBRARY_UNUSABLE', ExitCode.environment, message, { cause });
}

let outputStructDefined = false;
function defineOutputStruct(): void {
  if (!outputStructDefined) koffi.struct('TF_Output', { oper: 'void*', index: 'int' });
  outputStructDefined = true;
}

const LOCK_EX = 2;
const LOCK_NB = 4;

/** Takes the lock of an open file for this process, or says that another has it. It ends with the descriptor, however the process ends. */
export function lockDescriptor(descriptor: number): boolean {
  return openLibc().func('int flock(int, int)')(descriptor, LOCK_EX | LOCK_NB) === 0;
}
