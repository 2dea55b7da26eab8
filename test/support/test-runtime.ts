/** TensorFlow for tests: the installed CPU library with two CPU devices. */
import assert from 'node:assert/strict';
import { DtrainError } from '../../src/core/errors.js';
import { openLibrary } from '../../src/tensorflow/library.js';
import { createRuntime, type Runtime, type RuntimeOptions } from '../../src/tensorflow/runtime.js';

export const CPU_0 = '/device:CPU:0';
export const CPU_1 = '/device:CPU:1';

/** A context of its own, one thread a device. A library that is missing fails the test: `npm test` installs it. */
export function testRuntime(options: Partial<RuntimeOptions> = {}): Runtime {
  return createRuntime(openLibrary().path, { cpuDevices: 2, threadsPerDevice: 1, maxGpus: 0, ...options });
}

/** The DtrainError that `act` throws. */
export function errorOf(act: () => unknown): DtrainError {
  try {
    act();
  } catch (error) {
    assert(error instanceof DtrainError, `expected a DtrainError, got ${error}`);
    return error;
  }
  assert.fail('expected an error, got none');
}
