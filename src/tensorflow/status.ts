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
   * @throws DTRAIN_OUT_OF_MEMORY (exit 9) for RESOURCE_EXHAUSTED, else DTRAIN_TENSORFLOW (exit 10).
   */
  check(where: () => string): void {
    const code = this.#c.TF_GetCode(this.pointer);
    if (code === 0) return;
    const text = this.#c.TF_Message(this.pointer).slice(0, MESSAGE_LIMIT);
    const message = `${where()}: ${CODES[code] ?? `code ${code}`}: ${text}`;
    if (code !== RESOURCE_EXHAUSTED) throw new DtrainError('DTRAIN_TENSORFLOW', ExitCode.workerFailed, message);
    const cure = 'Lower train.globalBatch, or set train.precision=bfloat16.';
    throw new DtrainError('DTRAIN_OUT_OF_MEMORY', ExitCode.outOfMemory, `${message}. ${cure}`);
  }
}
