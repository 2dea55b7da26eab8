/**
 * TensorFlow's statuses as errors. One status object a thread: TensorFlow's are not shared.
 * An error names the operation, the device and, where known, the rank: whoever runs a step adds step and phase.
 */
import { DtrainError, ExitCode } from '../core/errors.js';
import type { CApi, Pointer } from './c-api.js';

/** TF_Code, as text. */
const CODES: readonly string[] = [
  'OK',
  'CANCELLED',
  'UNKNOWN',
  'INVALID_ARGUMENT',
  'DEADLINE_EXCEEDED',
  'NOT_FOUND',
  'ALREADY_EXISTS',
  'PERMISSION_DENIED',
  'RESOURCE_EXHAUSTED',
  'FAILED_PRECONDITION',
  'ABORTED',
  'OUT_OF_RANGE',
  'UNIMPLEMENTED',
  'INTERNAL',
  'UNAVAILABLE',
  'DATA_LOSS',
  'UNAUTHENTICATED',
];
const RESOURCE_EXHAUSTED = 8;

/** What TensorFlow and CUDA say when the machine is to blame, and what to do. */
const GPU_TROUBLE: readonly (readonly [RegExp, string])[] = [
  [
    /no kernel image is available|NO_BINARY_FOR_GPU|INVALID_PTX|UNSUPPORTED_PTX_VERSION|unsupported toolchain/i,
    'This TensorFlow has no kernels for this GPU, or the driver is too old for them: update the driver, or use another GPU (dtrain doctor).',
  ],
  [/driver version is insufficient/i, 'The NVIDIA driver is too old: update it to 525.60.13 or later.'],
  [
    /busy or unavailable|CUDA_ERROR_DEVICE_UNAVAILABLE/i,
    'Another process holds the GPU: end it (nvidia-smi), or choose another GPU with CUDA_VISIBLE_DEVICES.',
  ],
  [
    /DNN library (initialization failed|is not found)|CUDNN_STATUS_NOT_INITIALIZED/i,
    'Other programs may hold the memory of the GPU (nvidia-smi), or a CUDA library is missing (dtrain doctor).',
  ],
  [/libdevice not found|ptxas/i, 'A part of CUDA is missing beside TensorFlow: run dtrain setup --gpu.'],
];
const MESSAGE_LIMIT = 600;

export class Status {
  readonly #c: CApi;
  readonly pointer: Pointer;

  constructor(c: CApi) {
    this.#c = c;
    this.pointer = c.TF_NewStatus();
  }

  /**
   * Throws when the last call failed. `where` names what was called, for instance `TFE_Execute Conv2D on /device:CPU:1`.
   * @throws DTRAIN_OUT_OF_MEMORY (exit 9) for RESOURCE_EXHAUSTED; DTRAIN_GPU_UNUSABLE (exit 4) where driver, card or CUDA are to blame; else
   * DTRAIN_TENSORFLOW (exit 10).
   */
  check(where: () => string): void {
    const code = this.#c.TF_GetCode(this.pointer);
    if (code === 0) return;
    const text = this.#c.TF_Message(this.pointer).slice(0, MESSAGE_LIMIT);
    const message = `${where()}: ${CODES[code] ?? `code ${code}`}: ${text}`;
    const [, gpuCure] = GPU_TROUBLE.find(([pattern]) => pattern.test(text)) ?? [];
    if (gpuCure) throw new DtrainError('DTRAIN_GPU_UNUSABLE', ExitCode.environment, `${message}. ${gpuCure}`);
    if (code !== RESOURCE_EXHAUSTED) throw new DtrainError('DTRAIN_TENSORFLOW', ExitCode.workerFailed, message);
    const cure = 'Lower train.globalBatch, or set train.precision=bfloat16.';
    throw new DtrainError('DTRAIN_OUT_OF_MEMORY', ExitCode.outOfMemory, `${message}. ${cure}`);
  }
}
