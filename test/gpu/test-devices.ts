/**
 * The devices that the tests of this folder run on, as scripts/test-gpu.mjs says in $DTRAIN_TEST_DEVICES: GPUs, parts of one card, or CPU devices in
 * their place. Without the variable: one and two CPU devices, so these files also run alone.
 */
import type { DeviceRequest } from '../../src/run/devices.js';
import type { Runtime } from '../../src/tensorflow/runtime.js';
import { testRuntime } from '../support/test-runtime.js';

export interface TestDevices extends DeviceRequest {
  /** Devices that one card is split into. */
  readonly workersPerCard: number;
  /** Not everything: for the test of the script itself. */
  readonly short?: boolean;
}

/** From one device upwards. */
export const testDevices = JSON.parse(
  process.env['DTRAIN_TEST_DEVICES'] ??
    '[{"kind":"cpu","count":1,"workersPerCard":1},{"kind":"cpu","count":2,"workersPerCard":1}]',
) as readonly TestDevices[];

export const [first] = testDevices as [TestDevices];
export const isOnGpu = first.kind === 'gpu';

/** `2 GPUs`, `4 parts of a card`, `2 CPU devices` */
export function devicesText({ kind, count, workersPerCard }: TestDevices): string {
  const [one, many] = kind === 'cpu' ? ['CPU device', 'CPU devices'] : ['GPU', 'GPUs'];
  if (workersPerCard > 1) return `${count} GPUs, ${workersPerCard} a card`;
  return `${count} ${count === 1 ? one : many}`;
}

/** A context with the first device, and the device's name. */
export function firstDevice(): { readonly runtime: Runtime; readonly device: string } {
  if (!isOnGpu) return { runtime: testRuntime({ threadsPerDevice: 2 }), device: '/device:CPU:0' };
  return { runtime: testRuntime({ cpuDevices: 1, maxGpus: undefined }), device: '/device:GPU:0' };
}
