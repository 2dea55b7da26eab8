/**
 * Memory that all threads and TensorFlow see at once.
 *
 * Idea: the buffer of a shared WebAssembly.Memory starts at a page boundary (a SharedArrayBuffer's own base does not), so an array
 * at a multiple of 64 bytes inside it is read by TensorFlow in place, without a copy.
 */

/** TensorFlow reads foreign memory in place only from addresses that are multiples of this. */
export const ALIGNMENT_BYTES = 64;
const PAGE_BYTES = 65536;
const MAX_PAGES = 65536;

/** The smallest multiple of 64 that is at least `bytes`. */
export function alignBytes(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT_BYTES) * ALIGNMENT_BYTES;
}

/** Zeroed shared memory of at least `bytes` bytes (at most 4 GiB), page-aligned. Throws RangeError when the machine has not enough. */
export function allocateSharedMemory(bytes: number): WebAssembly.Memory {
  const pages = Math.max(1, Math.ceil(bytes / PAGE_BYTES));
  return new WebAssembly.Memory({ initial: pages, maximum: Math.min(MAX_PAGES, pages), shared: true });
}
