/**
 * The random choices of augmentation: where to crop, whether to flip, where to cut out, how bright, what to mix with. The pixels are moved
 * in the recorded graph.
 *
 * Idea: the random words of a sample are a pure function of (seed, epoch, sample id), one word a choice.
 * Must stay true: a sample's choices do not depend on its batch, its rank, or on which other choices are switched on.
 *
 *   block 0   crop y       crop x     flip      centre of the cut-out square
 *   block 1   brightness   contrast   partner   -
 *   block 2…  pairs of words for the share of the mixture, until one fits
 */
import { drawWords, Purpose, toInteger, toUniform } from '../core/philox.js';

export interface AugmentationOptions {
  readonly seed: number;
  /** Pixels of padding on each side before the crop; 0: no crop. */
  readonly crop: number;
  /** Alternating: half of the images in the first epoch, then each image in turn (Jordan, arXiv 2404.00498). */
  readonly flip: boolean | 'alternating';
  /** Side of the square in pixels; 0: none. */
  readonly cutout: number;
  /** The factor of the pixels is uniform in [1 - brightness, 1 + brightness]. */
  readonly brightness?: number;
  /** The factor of their distance from the mean colour is uniform in [1 - contrast, 1 + contrast]. */
  readonly contrast?: number;
  /** α of the share of an image in its mixture, which is Beta(α, α); 0: no mixture. */
  readonly mixup?: number;
  /** Images of the data set, to mix with. */
  readonly count?: number;
  readonly height: number;
  readonly width: number;
}

/** B = number of samples; pairs are (y, x). */
export interface AugmentationDraws {
  /** [2B] Top-left corner of the crop in the padded image, in [0, 2 crop] (crop, crop is the image itself). */
  readonly cropYX: Int32Array;
  /** [B] 1: mirrored left to right, after the crop. */
  readonly flip: Int32Array;
  /** [2B] Centre of the square, in [0, height) x [0, width); zero where there is no cut-out. */
  readonly cutoutYX: Int32Array;
  /** [2B] Factors of brightness and of contrast. */
  readonly colour?: Float32Array;
}

/** Room for the draws of so many samples. */
export function makeDraws(samples: number): Required<AugmentationDraws> {
  return {
    cropYX: new Int32Array(2 * samples),
    flip: new Int32Array(samples),
    cutoutYX: new Int32Array(2 * samples),
    colour: new Float32Array(2 * samples),
  };
}

/** Fills `into` for the samples `ids` of `epochs`. */
export function drawAugmentation(
  options: AugmentationOptions,
  ids: Int32Array,
  epochs: Int32Array,
  into: AugmentationDraws,
): void {
  const { seed, crop, cutout, height, width, brightness = 0, contrast = 0 } = options;
  for (let i = 0; i < ids.length; i++) {
    const [cropY, cropX, mirror, centre] = drawWords(seed, Purpose.augmentation, epochs[i]!, ids[i]!);
    into.cropYX[2 * i] = toInteger(cropY, 2 * crop + 1);
    into.cropYX[2 * i + 1] = toInteger(cropX, 2 * crop + 1);
    into.flip[i] = isFlipped(options, epochs[i]!, ids[i]!, mirror) ? 1 : 0;
    const pixel = cutout > 0 ? toInteger(centre, height * width) : 0;
    into.cutoutYX[2 * i] = Math.floor(pixel / width);
    into.cutoutYX[2 * i + 1] = pixel % width;
    if (!into.colour) continue;
    const [light, distance] = drawWords(seed, Purpose.augmentation, epochs[i]!, ids[i]!, 1);
    into.colour[2 * i] = 1 + brightness * (2 * toUniform(light) - 1);
    into.colour[2 * i + 1] = 1 + contrast * (2 * toUniform(distance) - 1);
  }
}

function isFlipped({ seed, flip }: AugmentationOptions, epoch: number, id: number, word: number): boolean {
  if (flip !== 'alternating') return flip && word >>> 31 === 1;
  const [, , first] = drawWords(seed, Purpose.augmentation, 0, id);
  return ((first >>> 31) ^ (epoch & 1)) === 1;
}

/** What each sample is mixed with (Zhang et al., arXiv 1710.09412): an image of the whole set, and the sample's own share. */
export interface MixtureDraws {
  /** [B] Ids. */
  readonly partners: Int32Array;
  /** [B] In (0, 1). */
  readonly shares: Float32Array;
}

/** The partner has the augmentation that it would have itself in that epoch. */
export function drawMixture(options: AugmentationOptions, ids: Int32Array, epochs: Int32Array): MixtureDraws {
  const { seed, count = 0, mixup = 0 } = options;
  const partners = new Int32Array(ids.length);
  const shares = new Float32Array(ids.length);
  for (const [i, id] of ids.entries()) {
    partners[i] = toInteger(drawWords(seed, Purpose.augmentation, epochs[i]!, id, 1)[2], count);
    shares[i] = betaDraw(mixup, (block) => drawWords(seed, Purpose.augmentation, epochs[i]!, id, 2 + block));
  }
  return { partners, shares };
}

/** A number of Beta(α, α) with α in (0, 1], by Jöhnk's rejection (1964): of two uniform numbers to the power 1 / α whose sum is at most 1. */
function betaDraw(alpha: number, words: (block: number) => readonly number[]): number {
  for (let block = 0; ; block++) {
    const uniform = words(block).map((word) => (word + 0.5) / 2 ** 32);
    for (const at of [0, 2]) {
      const [x, y] = [uniform[at]! ** (1 / alpha), uniform[at + 1]! ** (1 / alpha)];
      if (x + y <= 1 && x + y > 0) return x / (x + y);
    }
  }
}
