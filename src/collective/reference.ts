/** The sum of the all-reduce in plain JavaScript, for tests and benches: the same tree, the same roundings, one element at a time. */

/** Mean of rows of equal length: bit for bit what the kernel computes (a NaN may have other payload bits). */
export function referenceMean(rows: readonly Float32Array[]): Float32Array {
  const factor = Math.fround(1 / rows.length);
  return Float32Array.from(rows[0]!, (_, i) => treeSum(rows, i, 0, rows.length) * factor);
}

/** sum(lo, n) = sum(lo, h) + sum(lo + h, n − h), h the largest power of two below n, each addition rounded to float32. */
function treeSum(rows: readonly Float32Array[], i: number, lo: number, n: number): number {
  if (n === 1) return rows[lo]![i]!;
  const half = 2 ** Math.floor(Math.log2(n - 1));
  return Math.fround(treeSum(rows, i, lo, half) + treeSum(rows, i, lo + half, n - half));
}
