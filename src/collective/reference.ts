/** The sum of the all-reduce in plain JavaScript, for tests and benches: the same tree, the same roundings, one element at a time; and what bfloat16 is. */

/** Mean of rows of equal length: bit for bit what the kernel computes (a NaN may have other payload bits). */
export function referenceMean(rows: readonly Float32Array[]): Float32Array {
  const factor = Math.fround(1 / rows.length);
  return Float32Array.from(rows[0]!, (_, i) => treeSum(rows, i, 0, rows.length) * factor);
}

const float = new Float32Array(1);
const floatBits = new Uint32Array(float.buffer);

/** The bfloat16 nearest to a number that is float32, the even one of two, as its bits; a NaN stays one. */
export function bfloat16Bits(value: number): number {
  float[0] = value;
  const bits = floatBits[0]!;
  if (Number.isNaN(value)) return (bits >>> 16) | 0x40;
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16; // stays below 2^32: infinity has no lower bits to carry
}

/** The number that the bits of a bfloat16 are. */
export function bfloat16Value(bits: number): number {
  floatBits[0] = bits << 16;
  return float[0]!;
}

/** sum(lo, n) = sum(lo, h) + sum(lo + h, n − h), h the largest power of two below n, each addition rounded to float32. */
function treeSum(rows: readonly Float32Array[], i: number, lo: number, n: number): number {
  if (n === 1) return rows[lo]![i]!;
  const half = 2 ** Math.floor(Math.log2(n - 1));
  return Math.fround(treeSum(rows, i, lo, half) + treeSum(rows, i, lo + half, n - half));
}
