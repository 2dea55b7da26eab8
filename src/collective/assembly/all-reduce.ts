/**
 * The kernel of the all-reduce: S rows of float32 or bfloat16 summed over bytes [start, end) of each, by a fixed pairwise tree, and scaled. AssemblyScript → WebAssembly SIMD.
 *
 * Idea: sum(lo, n) = sum(lo, h) + sum(lo + h, n − h) with h = the largest power of two below n, then times `factor`. The tree depends on S alone:
 * not on the number of ranks, not on who arrived when. ../reference.ts is the same tree in plain JavaScript; tests hold the two together.
 * Must stay true: start, end, stride and both addresses are multiples of 64 (one cache line, four vectors); result overlaps no row, or is the only one.
 * 1, 2, 4 and 8 rows are unrolled and run at the speed of memory; other counts are put together from these.
 */

export function sumOfRows(rows: usize, stride: usize, shards: i32, start: usize, end: usize, result: usize, by: f32): void {
  if (shards == 1 && by == 1) {
    memory.copy(result + start, rows + start, end - start);
    return;
  }
  const factor = f32x4.splat(by);
  // One loop for each count, so that no branch is left inside.
  if (shards == 2) {
    for (let at = start; at < end; at += 64) {
      const row = rows + at;
      store4(result + at, sum2(row, stride), sum2(row + 16, stride), sum2(row + 32, stride), sum2(row + 48, stride), factor);
    }
  } else if (shards == 4) {
    for (let at = start; at < end; at += 64) {
      const row = rows + at;
      store4(result + at, sum4(row, stride), sum4(row + 16, stride), sum4(row + 32, stride), sum4(row + 48, stride), factor);
    }
  } else if (shards == 8) {
    for (let at = start; at < end; at += 64) {
      const row = rows + at;
      store4(result + at, sum8(row, stride), sum8(row + 16, stride), sum8(row + 32, stride), sum8(row + 48, stride), factor);
    }
  } else {
    for (let at = start; at < end; at += 64) {
      const row = rows + at;
      const a = sum(row, stride, shards);
      const b = sum(row + 16, stride, shards);
      const c = sum(row + 32, stride, shards);
      const d = sum(row + 48, stride, shards);
      store4(result + at, a, b, c, d, factor);
    }
  }
}

/**
 * The same for rows of bfloat16, whose values are float32 without their last 16 bits: 32 elements of each row make 32 of float32, so byte `at` of a
 * row belongs to byte 2 `at` of the result. All arithmetic is float32's.
 */
export function sumOfLowRows(rows: usize, stride: usize, shards: i32, start: usize, end: usize, result: usize, by: f32): void {
  const factor = f32x4.splat(by);
  if (shards == 1) {
    for (let at = start; at < end; at += 16) {
      const a = v128.load(rows + at);
      store2(result + 2 * at, first(a), last(a), factor);
    }
  } else if (shards == 2) {
    for (let at = start; at < end; at += 16) {
      const row = rows + at;
      const a = v128.load(row);
      const b = v128.load(row + stride);
      store2(result + 2 * at, f32x4.add(first(a), first(b)), f32x4.add(last(a), last(b)), factor);
    }
  } else if (shards == 4) {
    for (let at = start; at < end; at += 16) {
      const row = rows + at;
      store2(result + 2 * at, sumFirst4(row, stride), sumLast4(row, stride), factor);
    }
  } else if (shards == 8) {
    for (let at = start; at < end; at += 16) {
      const row = rows + at;
      const firsts = f32x4.add(sumFirst4(row, stride), sumFirst4(row + 4 * stride, stride));
      const lasts = f32x4.add(sumLast4(row, stride), sumLast4(row + 4 * stride, stride));
      store2(result + 2 * at, firsts, lasts, factor);
    }
  } else {
    for (let at = start; at < end; at += 16) {
      const row = rows + at;
      store2(result + 2 * at, sumLow(row, stride, shards, false), sumLow(row, stride, shards, true), factor);
    }
  }
}

/** 1 where all floats at bytes [start, end) are finite, which are multiples of 64: x − x is 0, and NaN where x is NaN or infinite. */
export function areFinite(start: usize, end: usize): i32 {
  let different = i32x4.splat(0);
  for (let at = start; at < end; at += 64) {
    const a = v128.load(at);
    const b = v128.load(at, 16);
    const c = v128.load(at, 32);
    const d = v128.load(at, 48);
    const first = v128.or(f32x4.sub(a, a), f32x4.sub(b, b));
    const second = v128.or(f32x4.sub(c, c), f32x4.sub(d, d));
    different = v128.or(different, v128.or(first, second));
  }
  return v128.any_true(different) ? 0 : 1;
}

/** Four lanes summed over `count` rows that begin at `row`, any count. */
function sum(row: usize, stride: usize, count: i32): v128 {
  if (count == 8) return sum8(row, stride);
  if (count == 4) return sum4(row, stride);
  if (count == 2) return sum2(row, stride);
  if (count == 1) return v128.load(row);
  const half = 1 << (31 - clz(count - 1)); // the largest power of two below count
  return f32x4.add(sum(row, stride, half), sum(row + <usize>half * stride, stride, count - half));
}

/** Four of the eight elements at `row`, the first or the last ones, summed over `count` rows of bfloat16, any count. */
function sumLow(row: usize, stride: usize, count: i32, isLast: bool): v128 {
  if (count == 1) return isLast ? last(v128.load(row)) : first(v128.load(row));
  const half = 1 << (31 - clz(count - 1)); // the largest power of two below count
  return f32x4.add(sumLow(row, stride, half, isLast), sumLow(row + <usize>half * stride, stride, count - half, isLast));
}

// @ts-ignore: decorator
@inline
function sumFirst4(row: usize, stride: usize): v128 {
  const ab = f32x4.add(first(v128.load(row)), first(v128.load(row + stride)));
  const cd = f32x4.add(first(v128.load(row + 2 * stride)), first(v128.load(row + 3 * stride)));
  return f32x4.add(ab, cd);
}

// @ts-ignore: decorator
@inline
function sumLast4(row: usize, stride: usize): v128 {
  const ab = f32x4.add(last(v128.load(row)), last(v128.load(row + stride)));
  const cd = f32x4.add(last(v128.load(row + 2 * stride)), last(v128.load(row + 3 * stride)));
  return f32x4.add(ab, cd);
}

/** The first four of eight bfloat16 as float32. */
// @ts-ignore: decorator
@inline
function first(low: v128): v128 {
  return i32x4.shl(i32x4.extend_low_i16x8_u(low), 16);
}

/** The last four of eight bfloat16 as float32. */
// @ts-ignore: decorator
@inline
function last(low: v128): v128 {
  return i32x4.shl(i32x4.extend_high_i16x8_u(low), 16);
}

// @ts-ignore: decorator
@inline
function store2(to: usize, a: v128, b: v128, factor: v128): void {
  v128.store(to, f32x4.mul(a, factor));
  v128.store(to, f32x4.mul(b, factor), 16);
}

// @ts-ignore: decorator
@inline
function sum8(row: usize, stride: usize): v128 {
  return f32x4.add(sum4(row, stride), sum4(row + 4 * stride, stride));
}

// @ts-ignore: decorator
@inline
function sum4(row: usize, stride: usize): v128 {
  return f32x4.add(sum2(row, stride), sum2(row + 2 * stride, stride));
}

// @ts-ignore: decorator
@inline
function sum2(row: usize, stride: usize): v128 {
  return f32x4.add(v128.load(row), v128.load(row + stride));
}

// @ts-ignore: decorator
@inline
function store4(to: usize, a: v128, b: v128, c: v128, d: v128, factor: v128): void {
  v128.store(to, f32x4.mul(a, factor));
  v128.store(to, f32x4.mul(b, factor), 16);
  v128.store(to, f32x4.mul(c, factor), 32);
  v128.store(to, f32x4.mul(d, factor), 48);
}
