/** The WebAssembly kernel of the all-reduce (assembly/all-reduce.ts), over an arena's memory. Every thread has an instance of its own. */
import fs from 'node:fs';

/**
 * result ← `factor` × the sum of `shards` rows in the fixed pairwise tree, bytes [start, end) of each. `rows` and `result` are byte offsets in the memory;
 * all byte counts and offsets are multiples of 64.
 */
export type SumOfRows = (
  rows: number,
  strideBytes: number,
  shards: number,
  startByte: number,
  endByte: number,
  result: number,
  factor: number,
) => void;

export interface Kernel {
  readonly sumOfRows: SumOfRows;
  /** The same for rows of bfloat16, of which bytes [start, end) are summed in float32; the result, float32, takes twice as many bytes: [2 start, 2 end). */
  readonly sumOfLowRows: SumOfRows;
  /** 1 where all floats at bytes [start, end) of the memory are finite, else 0. Both are multiples of 64. */
  readonly areFinite: (start: number, end: number) => number;
}

export function instantiateKernel(memory: WebAssembly.Memory): Kernel {
  const module = new WebAssembly.Module(fs.readFileSync(new URL('all-reduce.wasm', import.meta.url)));
  return new WebAssembly.Instance(module, { env: { memory } }).exports as unknown as Kernel;
}
