/**
 * The random choices of augmentation: where to crop, whether to flip, where to cut out. The pixels are moved in the recorded graph.
 *
 * Idea: the four random words of a sample are a pure function of (seed, epoch, sample id), one word a choice.
 * Must stay true: a sample's choices do not depend on its batch, its rank, or on which other choices are switched on.
 *
 *   word   0        1        2      3
 *          crop y   crop x   flip   centre of the cut-out square
 */
import { drawWords, Purpose, toInteger } from '../core/philox.js';

export interface AugmentationOptions {
  readonly seed: number;
  /** Pixels of padding on each side before the crop; 0: no crop. */
  readonly crop: number;
  readonly flip: boolean;
  /** Side of the square in pixels; 0: none. */
  readonly cutout: number;
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
}

/** Fills `into` for the samples `ids` of `epochs`. */
export function drawAugmentation(
  options: AugmentationOptions,
  ids: Int32Array,
  epochs: Int32Array,
  into: AugmentationDraws,
): void {
  const { seed, crop, flip, cutout, height, width } = options;
  for (let i = 0; i < ids.length; i++) {
    const [cropY, cropX, mirror, centre] = drawWords(seed, Purpose.augmentation, epochs[i]!, ids[i]!);
    into.cropYX[2 * i] = toInteger(cropY, 2 * crop + 1);
    into.cropYX[2 * i + 1] = toInteger(cropX, 2 * crop + 1);
    into.flip[i] = flip ? mirror >>> 31 : 0;
    const pixel = cutout > 0 ? toInteger(centre, height * width) : 0;
    into.cutoutYX[2 * i] = Math.floor(pixel / width);
    into.cutoutYX[2 * i + 1] = pixel % width;
  }
}
