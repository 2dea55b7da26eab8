/**
 * Ten classes of generated 32x32 images: patterns that a small ResNet learns in a minute and a linear model cannot.
 *
 * Idea: a class is a pattern (stripes, dots, rings, ...) with random size, place and two random colours. Since either colour may be the
 * bright one, the mean image of every class is the same. The gradient of a softmax regression at zero weights is made of the differences
 * between class means, and its loss is convex: zero weights, that is chance, are the best that a linear model can do.
 * A change of what is painted needs another SYNTHETIC_VERSION, or the caches hold the old images.
 * Must stay true: swapping the two colours leaves the distribution of a class unchanged; patterns survive mirroring and shifting.
 */
import { drawWords, Purpose, toUniform } from '../core/philox.js';
import { allocateImageSet, type DecodedSet, type ImageSet } from './data-set.js';

const SIDE = 32;
const TRAIN_COUNT = 4000;
const TEST_COUNT = 1000;

export const SYNTHETIC_VERSION = 1;

/** The same for the same seed. Labels go round: image i has class i mod 10. */
export function generateSynthetic(seed: number): DecodedSet {
  const train = allocateImageSet({ count: TRAIN_COUNT, height: SIDE, width: SIDE });
  const test = allocateImageSet({ count: TEST_COUNT, height: SIDE, width: SIDE });
  fill(train, seed, 0);
  fill(test, seed, TRAIN_COUNT);
  return { classes: Object.keys(PATTERNS), train, test };
}

/** 1 where a pixel has the second colour, else 0; x and y in pixels from the image's random origin. */
type Pattern = (x: number, y: number, look: Look) => number;

/** The random choices of one image. */
interface Look {
  /** Pixels from one repetition to the next, 5 to 9. */
  readonly period: number;
  /** 1 or -1. */
  readonly slope: number;
  readonly originX: number;
  readonly originY: number;
  /** RGB; the colours are base + contrast and base - contrast, and contrast is as likely as -contrast. */
  readonly base: readonly number[];
  readonly contrast: readonly number[];
}

/** The classes, by name. */
const PATTERNS: Readonly<Record<string, Pattern>> = {
  checkers: (x, y, { period }) => Math.abs(stripe(x, 1.5 * period) - stripe(y, 1.5 * period)),
  diagonals: (x, y, { period, slope }) => stripe(x + slope * y, 1.4 * period),
  dots: (x, y, { period }) => below(Math.hypot(fromMiddle(x, period), fromMiddle(y, period)), 0.36 * period),
  grids: (x, y, { period }) => Math.max(stripe(x, period, 0.25), stripe(y, period, 0.25)),
  horizontals: (_x, y, { period }) => stripe(y, period),
  rings: (x, y, { period }) => stripe(Math.hypot(x, y), period),
  spokes: (x, y, { period }) => stripe(Math.atan2(y, x), (2 * Math.PI) / Math.round(period)),
  verticals: (x, _y, { period }) => stripe(x, period),
  waves: (x, y, { period }) => stripe(y + 2.5 * Math.sin((2 * Math.PI * x) / (1.5 * period)), period),
  zigzags: (x, y, { period }) => stripe(x + 2 * Math.abs(fromMiddle(y, 1.5 * period)), period),
};

/** 1 in the first `fraction` of every period. */
function stripe(at: number, period: number, fraction = 0.5): number {
  return below(at / period - Math.floor(at / period), fraction);
}

function below(value: number, limit: number): number {
  return value < limit ? 1 : 0;
}

/** Distance to the middle of the period that `at` lies in, with its sign. */
function fromMiddle(at: number, period: number): number {
  return at - (Math.floor(at / period) + 0.5) * period;
}

function fill(set: ImageSet, seed: number, firstIndex: number): void {
  const patterns = Object.values(PATTERNS);
  for (let image = 0; image < set.count; image++) {
    const label = image % patterns.length;
    set.labels[image] = label;
    paint(set.imagesNHWC.subarray(image * SIDE * SIDE * 3), patterns[label]!, seed, firstIndex + image);
  }
}

/** Paints the image number `index` of all generated ones to the start of `pixelsHWC`. */
function paint(pixelsHWC: Uint8Array, pattern: Pattern, seed: number, index: number): void {
  const look = lookOf(seed, index);
  const noise = noiseOf(seed, index);
  const [red, green, blue] = look.base.map((base, c) => base + look.contrast[c]!) as Colour;
  const [otherRed, otherGreen, otherBlue] = look.base.map((base, c) => base - look.contrast[c]!) as Colour;
  for (let row = 0, pixel = 0; row < SIDE; row++) {
    for (let column = 0; column < SIDE; column++, pixel++) {
      const isOther = pattern(column - look.originX, row - look.originY, look) === 1;
      const grey = noise[pixel]!;
      pixelsHWC[pixel * 3] = toByte((isOther ? otherRed : red) + grey);
      pixelsHWC[pixel * 3 + 1] = toByte((isOther ? otherGreen : green) + grey);
      pixelsHWC[pixel * 3 + 2] = toByte((isOther ? otherBlue : blue) + grey);
    }
  }
}

type Colour = [red: number, green: number, blue: number];

/** Rounded and kept within 0 and 255; quicker than by Math. */
function toByte(value: number): number {
  return value < 0.5 ? 0 : value >= 254.5 ? 255 : (value + 0.5) | 0;
}

/** Brightest and darkest base colour, and the largest step from it to one of the two colours. */
const BASE = { low: 80, high: 176 };
const CONTRAST = { low: 20, high: 60 };

function lookOf(seed: number, index: number): Look {
  const draw = (block: number) => drawWords(seed, Purpose.synthetic, index, 0, block).map(toUniform);
  const [red, green, blue, strength] = draw(0) as Uniform4;
  const [redStep, greenStep, blueStep, period] = draw(1) as Uniform4;
  const [originX, originY, slope] = draw(2) as Uniform4;
  const direction = [redStep, greenStep, blueStep].map((step) => 2 * step - 1);
  const longest = Math.max(...direction.map(Math.abs));
  return {
    period: between(5, 9, period),
    slope: slope < 0.5 ? 1 : -1,
    originX: between(SIDE / 4, (3 * SIDE) / 4, originX),
    originY: between(SIDE / 4, (3 * SIDE) / 4, originY),
    base: [red, green, blue].map((colour) => between(BASE.low, BASE.high, colour)),
    contrast: direction.map((step) => (step / longest) * between(CONTRAST.low, CONTRAST.high, strength)),
  };
}

type Uniform4 = [number, number, number, number];

function between(low: number, high: number, fraction: number): number {
  return low + (high - low) * fraction;
}

const NOISE_AMPLITUDE = 40;

/** Uniform in +-NOISE_AMPLITUDE, by the byte. */
const GREY = Float64Array.from({ length: 256 }, (_, byte) => NOISE_AMPLITUDE * (byte / 127.5 - 1));
/** Of the last image. */
const noise = new Float64Array(SIDE * SIDE);

/** One grey value for each pixel, from one byte each of the random words; until the next call. */
function noiseOf(seed: number, index: number): Float64Array {
  for (let pixel = 0, block = 0; pixel < noise.length; block++) {
    const words = drawWords(seed, Purpose.synthetic, index, 1, block);
    for (let i = 0; i < words.length; i++) {
      const word = words[i]!;
      for (let shift = 0; shift < 32; shift += 8, pixel++) {
        noise[pixel] = GREY[(word >>> shift) & 0xff]!;
      }
    }
  }
  return noise;
}
