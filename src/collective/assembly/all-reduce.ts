/**
 * The kernel of the all-reduce: S rows of float32 or bfloat16 summed over bytes [start, end) of each, by a fixed pairwise tree, and scaled. AssemblyScript → WebAssembly SIMD.
 *
 * Idea: sum(lo, n) = sum(lo, h) + sum(lo + h, n − h) with h = the largest power of two below n, then times `factor`. The tree depends on S alone:
 * not on the number of ranks, not on who arrived when. ../reference.ts is the same tree in plain JavaScript; tests hold the two together.
 * Must stay true: start, end, stride and both addresses are multiples of 64 (one cache line, four vectors); result overlaps no row, or is row 0.
 * 1, 2, 4 and 8 rows are unrolled and run at the speed of memory; other counts are put together from these.
 */

/**
 * Row 0 begins at `first`, row i of the others at rows + i × stride. Returns 1 where all floats of the result's bytes [start, end) are finite, else 0:
 * x − x is 0, and NaN where x is NaN or infinite.
 */
export function sumOfRows(first: usize, rows: usize, stride: usize, shards: i32, start: usize, end: usize, result: usize, by: f32): i32 {
  if (shards == 1 && by == 1) {
    if (result != first) memory.copy(result + start, first + start, end - start);
    return areFinite(result + start, result + end);
  }
  const factor = f32x4.splat(by);
  let notFinite = i32x4.splat(0);
  // One loop for each count, so that no branch is left inside.
  if (shards == 2) {
    for (let at = start; at < end; at += 64) {
      const own = first + at;
      const row = rows + at;
      const a = from2(own, row, stride);
      const b = from2(own + 16, row + 16, stride);
      const c = from2(own + 32, row + 32, stride);
      const d = from2(own + 48, row + 48, stride);
      notFinite = v128.or(notFinite, store4(result + at, a, b, c, d, factor));
    }
  } else if (shards == 4) {
    for (let at = start; at < end; at += 64) {
      const own = first + at;
      const row = rows + at;
      const a = from4(own, row, stride);
      const b = from4(own + 16, row + 16, stride);
      const c = from4(own + 32, row + 32, stride);
      const d = from4(own + 48, row + 48, stride);
      notFinite = v128.or(notFinite, store4(result + at, a, b, c, d, factor));
    }
  } else if (shards == 8) {
    for (let at = start; at < end; at += 64) {
      const own = first + at;
      const row = rows + at;
      const a = from8(own, row, stride);
      const b = from8(own + 16, row + 16, stride);
      const c = from8(own + 32, row + 32, stride);
      const d = from8(own + 48, row + 48, stride);
      notFinite = v128.or(notFinite, store4(result + at, a, b, c, d, factor));
    }
  } else {
    for (let at = start; at < end; at += 64) {
      const own = first + at;
      const row = rows + at;
      const a = from(own, row, stride, shards);
      const b = from(own + 16, row + 16, stride, shards);
      const c = from(own + 32, row + 32, stride, shards);
      const d = from(own + 48, row + 48, stride, shards);
      notFinite = v128.or(notFinite, store4(result + at, a, b, c, d, factor));
    }
  }
  return v128.any_true(notFinite) ? 0 : 1;
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
      store2(result + 2 * at, sumFirst(row, stride, shards), sumLast(row, stride, shards), factor);
    }
  }
}

/** 1 where all floats at bytes [start, end) are finite, which are multiples of 64, else 0. */
export function areFinite(start: usize, end: usize): i32 {
  let notFinite = i32x4.splat(0);
  for (let at = start; at < end; at += 64) {
    const first = v128.or(difference(v128.load(at)), difference(v128.load(at, 16)));
    const second = v128.or(difference(v128.load(at, 32)), difference(v128.load(at, 48)));
    notFinite = v128.or(notFinite, v128.or(first, second));
  }
  return v128.any_true(notFinite) ? 0 : 1;
}

/** The same as `sum` where row 0 is at `own`. */
function from(own: usize, row: usize, stride: usize, count: i32): v128 {
  if (count == 8) return from8(own, row, stride);
  if (count == 4) return from4(own, row, stride);
  if (count == 2) return from2(own, row, stride);
  if (count == 1) return v128.load(own);
  const half = 1 << (31 - clz(count - 1));
  return f32x4.add(from(own, row, stride, half), sum(row + <usize>half * stride, stride, count - half));
}

// @ts-ignore: decorator
@inline
function from8(own: usize, row: usize, stride: usize): v128 {
  return f32x4.add(from4(own, row, stride), sum4(row + 4 * stride, stride));
}

// @ts-ignore: decorator
@inline
function from4(own: usize, row: usize, stride: usize): v128 {
  return f32x4.add(from2(own, row, stride), sum2(row + 2 * stride, stride));
}

// @ts-ignore: decorator
@inline
function from2(own: usize, row: usize, stride: usize): v128 {
  return f32x4.add(v128.load(own), v128.load(row + stride));
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

/** The first four of the eight elements at `row`, summed over `count` rows of bfloat16, any count. */
function sumFirst(row: usize, stride: usize, count: i32): v128 {
  if (count == 4) return sumFirst4(row, stride);
  if (count == 2) return f32x4.add(first(v128.load(row)), first(v128.load(row + stride)));
  if (count == 1) return first(v128.load(row));
  const half = 1 << (31 - clz(count - 1)); // the largest power of two below count
  return f32x4.add(sumFirst(row, stride, half), sumFirst(row + <usize>half * stride, stride, count - half));
}

/** The last four likewise. */
function sumLast(row: usize, stride: usize, count: i32): v128 {
  if (count == 4) return sumLast4(row, stride);
  if (count == 2) return f32x4.add(last(v128.load(row)), last(v128.load(row + stride)));
  if (count == 1) return last(v128.load(row));
  const half = 1 << (31 - clz(count - 1));
  return f32x4.add(sumLast(row, stride, half), sumLast(row + <usize>half * stride, stride, count - half));
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

/** Stores four vectors times `factor`; bits where one of them is not finite. */
// @ts-ignore: decorator
@inline
function store4(to: usize, a: v128, b: v128, c: v128, d: v128, factor: v128): v128 {
  const first = f32x4.mul(a, factor);
  const second = f32x4.mul(b, factor);
  const third = f32x4.mul(c, factor);
  const fourth = f32x4.mul(d, factor);
  v128.store(to, first);
  v128.store(to, second, 16);
  v128.store(to, third, 32);
  v128.store(to, fourth, 48);
  return v128.or(v128.or(difference(first), difference(second)), v128.or(difference(third), difference(fourth)));
}

// @ts-ignore: decorator
@inline
function difference(x: v128): v128 {
  return f32x4.sub(x, x);
}
