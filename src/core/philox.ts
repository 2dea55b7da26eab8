/**
 * Random numbers without state: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
 *
 * Idea: a block cipher over a counter. The numbers for (seed, purpose, epoch, sample) are a pure function of those four words,
 * so they do not depend on the number of ranks, on the order of calls, or on where a run was resumed.
 * Must stay true: the values below equal the known answers of the Random123 library (test/philox.test.ts).
 */

/** What a stream of random numbers is for; streams of different purposes never share numbers. */
export const Purpose = { shuffle: 1, augmentation: 2, initialization: 3, synthetic: 4, dropout: 5, module: 6 } as const;
export type Purpose = (typeof Purpose)[keyof typeof Purpose];

export type Words4 = [number, number, number, number];

const MULTIPLIER_0 = 0xd2511f53;
const MULTIPLIER_1 = 0xcd9e8d57;
const WEYL_0 = 0x9e3779b9;
const WEYL_1 = 0xbb67ae85;
const ROUNDS = 10;

/** Four 32-bit words from a 128-bit counter and a 64-bit key. */
export function philox4x32(counter: Readonly<Words4>, key: readonly [number, number]): Words4 {
  let [c0, c1, c2, c3] = counter;
  let [k0, k1] = key;
  for (let round = 0; round < ROUNDS; round++) {
    const high0 = multiplyHigh(MULTIPLIER_0, c0);
    const low0 = Math.imul(MULTIPLIER_0, c0) >>> 0;
    const high1 = multiplyHigh(MULTIPLIER_1, c2);
    const low1 = Math.imul(MULTIPLIER_1, c2) >>> 0;
    [c0, c1, c2, c3] = [(high1 ^ c1 ^ k0) >>> 0, low1, (high0 ^ c3 ^ k1) >>> 0, low0];
    k0 = (k0 + WEYL_0) >>> 0;
    k1 = (k1 + WEYL_1) >>> 0;
  }
  return [c0, c1, c2, c3];
}

/** Upper 32 bits of the 64-bit product of two unsigned 32-bit integers. */
function multiplyHigh(a: number, b: number): number {
  const aLow = a & 0xffff;
  const aHigh = a >>> 16;
  const bLow = b & 0xffff;
  const bHigh = b >>> 16;
  // Neither sum reaches 2^32: a product of 16 bits by 16 bits leaves room for 16 bits more.
  const middle = (Math.imul(aHigh, bLow) >>> 0) + (Math.imul(aLow, bLow) >>> 16);
  const carry = (Math.imul(aLow, bHigh) >>> 0) + (middle & 0xffff);
  return (Math.imul(aHigh, bHigh) + (middle >>> 16) + (carry >>> 16)) >>> 0;
}

/** Four words for the `block`-th draw of (seed, purpose, major, minor); major is for instance the epoch, minor the sample. */
export function drawWords(seed: number, purpose: Purpose, major: number, minor: number, block = 0): Words4 {
  return philox4x32([block >>> 0, minor >>> 0, major >>> 0, 0], [seed >>> 0, purpose]);
}

/** A word as a uniform number in [0, 1). */
export function toUniform(word: number): number {
  return word / 2 ** 32;
}

/** A word as a uniform integer in [0, bound), by the high part of the product (Lemire 2019, without the rejection: bias < bound / 2^32). */
export function toInteger(word: number, bound: number): number {
  return Math.floor((word * bound) / 2 ** 32);
}

/** `values.length` standard normal numbers (Box-Muller) of the stream (seed, purpose, major). */
export function fillNormal(values: Float32Array, seed: number, purpose: Purpose, major: number): void {
  for (let i = 0; i < values.length; i += 4) {
    const [a, b, c, d] = drawWords(seed, purpose, major, i >>> 2);
    const first = Math.sqrt(-2 * Math.log(1 - toUniform(a)));
    const second = Math.sqrt(-2 * Math.log(1 - toUniform(c)));
    values[i] = first * Math.cos(2 * Math.PI * toUniform(b));
    if (i + 1 < values.length) values[i + 1] = first * Math.sin(2 * Math.PI * toUniform(b));
    if (i + 2 < values.length) values[i + 2] = second * Math.cos(2 * Math.PI * toUniform(d));
    if (i + 3 < values.length) values[i + 3] = second * Math.sin(2 * Math.PI * toUniform(d));
  }
}
