/** The WebAssembly kernel of the all-reduce (assembly/all-reduce.ts), over an arena's memory. Every thread has an instance of its own. */
import fs from 'node:fs';

/** All offsets are of bytes in the memory, and multiples of 64 like all counts of bytes. */
export interface Kernel {
  /**
   * result ← `factor` × the sum of `shards` rows in the fixed pairwise tree, bytes [start, end) of each. Row 0 is at `first`, row i of the others at
   * rows + i × stride; `result` may be `first`. 1 where all floats of the result are finite, else 0.
   */
  readonly sumOfRows: (
    first: number,
    rows: number,
    stride: number,
    shards: number,
    start: number,
    end: number,
    result: number,
    factor: number,
  ) => number;
  /** The same, with row 0 at `rows`, for rows of bfloat16, of which bytes [start, end) are summed in float32; the result, float32, takes twice as many bytes: [2 start, 2 end). */
  readonly sumOfLowRows: (
    rows: number,
    stride: number,
    shards: number,
    start: number,
    end: number,
    result: number,
    factor: number,
  ) => void;
  /** 1 where all floats at bytes [start, end) of the memory are finite, else 0. */
  readonly areFinite: (start: number, end: number) => number;
}

export function instantiateKernel(memory: WebAssembly.Memory): Kernel {
  const module = new WebAssembly.Module(fs.readFileSync(new URL('all-reduce.wasm', import.meta.url)));
  return new WebAssembly.Instance(module, { env: { memory } }).exports as unknown as Kernel;
}
