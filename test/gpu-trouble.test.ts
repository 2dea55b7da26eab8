/** Machines whose GPUs cannot be used: what NVIDIA's driver says, in recorded answers and by a fake driver, and TensorFlow's own messages; exit 4 with the cure. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { tooFewGpus } from '../src/run/devices.js';
import { type CApi, openCudaDriver } from '../src/tensorflow/c-api.js';
import { type DriverReport, driverTrouble, newCards, readDriver } from '../src/tensorflow/cuda-driver.js';
import { configProto } from '../src/tensorflow/runtime.js';
import { Status } from '../src/tensorflow/status.js';
import { errorOf } from './support/test-runtime.js';
import { temporaryFolder } from './support/train-run.js';

const A100 = { name: 'NVIDIA A100-SXM4-40GB', capability: [8, 0] } as const;
const WELL: DriverReport = { cuda: 12_040, initError: 0, cards: [A100] };

/** `what | cure` */
function trouble(report: DriverReport, visibleGpus?: string): string | null {
  const found = driverTrouble(report, visibleGpus);
  return found && `${found.what} | ${found.cure}`;
}

test('a driver that is well has no trouble', () => {
  assert.equal(trouble(WELL), null);
  assert.equal(trouble({ ...WELL, cuda: 13_000 }), null);
  assert.equal(trouble({ ...WELL, cards: [{ name: 'old', capability: [5, 2] }, A100] }), null);
  assert.deepEqual(newCards(WELL), []);
});

test('what is wrong with a driver or a card, and the cure', () => {
  assert.equal(
    trouble({ missing: 'libcuda.so.1: cannot open shared object file: No such file or directory' }),
    'The NVIDIA driver is not installed: libcuda.so.1: cannot open shared object file: No such file or directory. | Install the driver, 525.60.13 or later; in a container, start it with --gpus all.',
  );
  assert.equal(
    trouble({ cuda: 11_040, initError: 0, cards: [A100] }),
    'The NVIDIA driver is too old: it supports CUDA 11.4, expected 12.0 or later. | Update the driver to 525.60.13 or later.',
  );
  const none = { cuda: 12_040, initError: 100, cards: [] };
  assert.equal(
    trouble(none),
    'The NVIDIA driver has no GPU. | Look at nvidia-smi; in a container, start it with --gpus all.',
  );
  assert.equal(
    trouble({ ...none, initError: 0 }, '7'),
    'The NVIDIA driver shows no GPU: CUDA_VISIBLE_DEVICES is "7". | Correct that variable, or unset it.',
  );
  assert.equal(
    trouble({ ...none, initError: 803 }),
    "The NVIDIA driver's library and its kernel module have different versions. | Restart the machine, or load the kernel module again; in a container, use the library of the host.",
  );
  assert.equal(
    trouble({ ...none, initError: 999 }),
    'The NVIDIA driver does not start (error 999 of cuInit). | Look at nvidia-smi.',
  );
  assert.equal(
    trouble({ ...WELL, cards: [{ name: 'Quadro K620', capability: [5, 0] }] }),
    'GPU 0 (Quadro K620) has compute capability 5.0, expected 6.0 or later. | This TensorFlow has no kernels for it: use another GPU.',
  );
  assert.deepEqual(newCards({ ...WELL, cards: [A100, { name: 'NVIDIA B200', capability: [10, 0] }] }), [
    "GPU 1 (NVIDIA B200) has compute capability 10.0, newer than TensorFlow's kernels (9.0): the driver compiles them, which may take half an hour at the first start, or fail.",
  ]);
});

test('--gpus where there are too few: exit 4, what is wrong, what to do', () => {
  const errorText = (found: readonly string[], driver: DriverReport) => {
    const names = found.map((name) => ({ name }));
    const { code, exitCode, message } = tooFewGpus(4, names, 'dtrain --config resnet50', driver, undefined);
    assert.deepEqual([code, exitCode], ['DTRAIN_TOO_FEW_GPUS', 4]);
    return message;
  };
  const cpu = 'on the CPU: dtrain --config resnet50 --cpus 4';
  assert.equal(
    errorText(['/device:GPU:0'], WELL),
    `asked for 4 GPUs, TensorFlow found 1 (/device:GPU:0). Run with --gpus 1, or ${cpu}`,
  );
  assert.equal(
    errorText([], { ...WELL, cuda: 11_080 }),
    `asked for 4 GPUs, TensorFlow found none. The NVIDIA driver is too old: it supports CUDA 11.8, expected 12.0 or later. Update the driver to 525.60.13 or later. Or run ${cpu}`,
  );
  assert.equal(
    errorText([], WELL),
    `asked for 4 GPUs, TensorFlow found none, though the driver has one: a CUDA library may not load. See dtrain doctor, or run ${cpu}`,
  );
});

/** A status whose last call failed with this code and text. */
function failedWith(code: number, text: string): Status {
  const c = { TF_NewStatus: () => 1n, TF_GetCode: () => code, TF_Message: () => text };
  return new Status(c as unknown as CApi);
}

for (const [text, cure] of [
  [
    'CUDA_ERROR_NO_BINARY_FOR_GPU: no kernel image is available for execution on the device',
    'This TensorFlow has no kernels for this GPU, or the driver is too old for them: update the driver, or use another GPU (dtrain doctor).',
  ],
  [
    'Failed to load PTX text as a module: CUDA_ERROR_UNSUPPORTED_PTX_VERSION: the provided PTX was compiled with an unsupported toolchain.',
    'This TensorFlow has no kernels for this GPU, or the driver is too old for them: update the driver, or use another GPU (dtrain doctor).',
  ],
  [
    'cudaGetDevice() failed. Status: CUDA driver version is insufficient for CUDA runtime version',
    'The NVIDIA driver is too old: update it to 525.60.13 or later.',
  ],
  [
    'failed call to cuDevicePrimaryCtxRetain: CUDA_ERROR_DEVICE_UNAVAILABLE: CUDA-capable device(s) is/are busy or unavailable',
    'Another process holds the GPU: end it (nvidia-smi), or choose another GPU with CUDA_VISIBLE_DEVICES.',
  ],
  [
    'DNN library initialization failed. Look at the errors above for more details.',
    'Other programs may hold the memory of the GPU (nvidia-smi), or a CUDA library is missing (dtrain doctor).',
  ],
  ['libdevice not found at ./libdevice.10.bc', 'A part of CUDA is missing beside TensorFlow: run dtrain setup --gpu.'],
] as const) {
  test(`TensorFlow says "${text.slice(0, 60)}": exit 4`, () => {
    const error = errorOf(() => failedWith(13, text).check(() => 'TFE_Execute Compute on /device:GPU:0'));
    assert.deepEqual([error.code, error.exitCode], ['DTRAIN_GPU_UNUSABLE', 4]);
    assert.equal(error.message, `TFE_Execute Compute on /device:GPU:0: INTERNAL: ${text}. ${cure}`);
  });
}

test('a GPU whose memory is out is exit 9, any other failure 10', () => {
  const oom =
    'OOM when allocating tensor with shape[128,64,32,32] and type float on /device:GPU:0 by allocator GPU_0_bfc';
  assert.equal(errorOf(() => failedWith(8, oom).check(() => 'x')).exitCode, 9);
  assert.equal(errorOf(() => failedWith(13, 'Unknown').check(() => 'x')).exitCode, 10);
});

/** The bytes that TensorFlow's ConfigProto has for its gpu_options, in hexadecimal. */
function gpuOptionsOf(gpu?: Parameters<typeof configProto>[0]['gpu']): string {
  const bytes = configProto({ cpuDevices: 1, threadsPerDevice: 1, gpu }).toString('hex');
  return bytes.slice(bytes.indexOf('10012801') + 8);
}

test('the memory of GPUs as configured', () => {
  const rest = { memoryGrowth: true, memoryFraction: null, workersPerCard: 1 };
  assert.equal(gpuOptionsOf(), '32022001', 'gpu_options 6 {allow_growth 4: true}');
  assert.equal(gpuOptionsOf(rest), '32022001');
  assert.equal(gpuOptionsOf({ ...rest, memoryGrowth: false }), '32022000');
  assert.equal(gpuOptionsOf({ ...rest, memoryFraction: 0.5 }), '320b09000000000000e03f2001');
  assert.equal(gpuOptionsOf({ ...rest, workersPerCard: 4 }), '320620004a027804', '9 {15: 4}, and no growth');
});

const FAKE_DRIVER = `
#include <string.h>
int cuInit(unsigned flags) { return 0; }
int cuDriverGetVersion(int* version) { *version = 12040; return 0; }
int cuDeviceGetCount(int* count) { *count = 2; return 0; }
int cuDeviceGet(int* device, int index) { *device = 10 + index; return 0; }
int cuDeviceGetName(char* name, int bytes, int device) { strncpy(name, device == 10 ? "Fake A" : "Fake B", bytes); return 0; }
int cuDeviceGetAttribute(int* value, int attribute, int device) { *value = attribute == 75 ? device - 2 : attribute == 76 ? 6 : -1; return 0; }
`;
const hasCompiler = spawnSync('cc', ['--version']).status === 0;

test('a fake driver is read through its library', { skip: !hasCompiler && 'no C compiler' }, () => {
  const folder = temporaryFolder();
  const library = path.join(folder, 'libcuda.so.1');
  fs.writeFileSync(path.join(folder, 'driver.c'), FAKE_DRIVER);
  const { status, stderr } = spawnSync('cc', ['-shared', '-fPIC', '-o', library, path.join(folder, 'driver.c')]);
  assert.equal(status, 0, String(stderr));
  const report = readDriver(() => openCudaDriver(library));
  const cards = [
    { name: 'Fake A', capability: [8, 6] },
    { name: 'Fake B', capability: [9, 6] },
  ];
  assert.deepEqual(report, { cuda: 12_040, initError: 0, cards });
});

test('without a driver that is said', () => {
  const report = readDriver(() => openCudaDriver('libcuda-that-is-not-there.so.1'));
  assert('missing' in report);
  assert.match(report.missing, /^libcuda-that-is-not-there\.so\.1: cannot open shared object file/);
});
