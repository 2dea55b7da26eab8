/** Comparing arrays of floats by their relative L2 error. */
import assert from 'node:assert/strict';

/** |got − expected| / |expected| over all elements, in float64. */
export function relativeL2(got: ArrayLike<number>, expected: ArrayLike<number>): number {
  assert.equal(got.length, expected.length, 'number of elements');
  let difference = 0;
  let size = 0;
  for (let i = 0; i < expected.length; i++) {
    difference += (got[i]! - expected[i]!) ** 2;
    size += expected[i]! ** 2;
  }
  return difference === 0 ? 0 : Math.sqrt(difference / size);
}

/** Fails unless the relative L2 error is at most `tolerance`; NaN fails. Returns the error. */
export function assertClose(
  got: ArrayLike<number>,
  expected: ArrayLike<number>,
  tolerance: number,
  what: string,
): number {
  const error = relativeL2(got, expected);
  assert(error <= tolerance, `${what}: expected a relative error of at most ${tolerance}, got ${error}`);
  return error;
}
