/**
 * From indices and random draws to a batch of images, inside the recorded graph: gather, crop, flip, brightness, contrast, cutout, normalise.
 *
 * Idea: the data set lies on the device as uint8. Cropping with padding, then flipping, is a choice of one source pixel for each
 * pixel of the result; it is done by one gather of pixels, and what falls outside (or into the cutout) is set to zero after
 * normalisation, which is the mean colour, as torchvision's RandomCrop(padding) after Normalize has it.
 * Shapes: N images of the batch, H height, W width; M images of the data set.
 */

import type { Normalization } from '../core/events.js';
import type { Engine } from '../graph/engine.js';
import type { GraphValue } from '../graph/graph-value.js';
import { type Tensor, type Tensor4D, tf } from '../graph/tfjs.js';
import { type Attribute, attr } from '../tensorflow/attribute.js';
import { DType } from '../tensorflow/dtype.js';

/** How the images of a data set are read. */
export interface ImageSource {
  /** uint8 [M, H, W, 3]. */
  readonly imagesMHWC: GraphValue;
  readonly numImages: number;
  readonly height: number;
  readonly width: number;
  readonly normalization: Normalization;
}

/** Random draws of a batch, int32: crop origin in the padded image [N, 2], flip [N], centre of the cutout [N, 2]. */
export interface Draws {
  readonly cropYX: Tensor;
  readonly flip: Tensor;
  readonly cutoutYX: Tensor;
  /** float32 [N, 2]: factors of brightness and contrast. */
  readonly colour?: Tensor;
}

export interface AugmentOptions {
  /** Pixels of padding on each side; 0: no crop. */
  readonly crop: number;
  readonly flip: boolean | 'alternating';
  /** Side of the square that is blanked; 0: none. */
  readonly cutout: number;
  /** Largest changes of the factors (data/augmentation.ts); 0: none. */
  readonly brightness?: number;
  readonly contrast?: number;
  /** α of mixtures; 0: none. */
  readonly mixup?: number;
}

/** Whether brightness or contrast are drawn. */
export function changesColour({ brightness = 0, contrast = 0 }: AugmentOptions): boolean {
  return brightness > 0 || contrast > 0;
}

const GATHER_UINT8: readonly Attribute[] = [
  attr.type('Tparams', DType.uint8),
  attr.type('Tindices', DType.int32),
  attr.type('Taxis', DType.int32),
];

/** The images `indicesN` as they are, normalised: float32 [N, H, W, 3]. */
export function plainImages(engine: Engine, source: ImageSource, indicesN: Tensor): Tensor4D {
  const gathered = gather(engine, source.imagesMHWC, indicesN);
  return normalized(engine, gathered, source);
}

/** The images `indicesN`, cropped, flipped, blanked and normalised: float32 [N, H, W, 3]. */
export function augmentedImages(
  engine: Engine,
  source: ImageSource,
  indicesN: Tensor,
  draws: Draws,
  options: AugmentOptions,
): Tensor4D {
  const { colour } = draws;
  if (options.crop === 0 && !options.flip && options.cutout === 0)
    return normalized(engine, gather(engine, source.imagesMHWC, indicesN), source, colour);
  const { height, width } = source;
  const [rowsNH, columnsNW] = sourcePixels(draws, options, height, width);
  const images = normalized(engine, gatherPixels(engine, source, indicesN, rowsNH, columnsNW), source, colour);
  if (options.crop === 0 && options.cutout === 0) return images;
  let visible = tf.logicalAnd(tf.expandDims(inside(rowsNH, height), 2), tf.expandDims(inside(columnsNW, width), 1));
  if (options.cutout > 0)
    visible = tf.logicalAnd(visible, tf.logicalNot(cutoutSquare(draws, options.cutout, height, width)));
  return tf.mul(images, tf.cast(tf.expandDims(visible, 3), 'float32'));
}

/** Row and column of the image that each row [N, H] and column [N, W] of the result comes from; outside of [0, H) means padding. */
function sourcePixels(
  { cropYX, flip }: Draws,
  options: AugmentOptions,
  height: number,
  width: number,
): [Tensor, Tensor] {
  const rowsH = tf.range(0, height, 1, 'int32');
  let columnsNW: Tensor = tf.expandDims(tf.range(0, width, 1, 'int32'), 0);
  if (options.flip) {
    const flipN1 = tf.expandDims(flip, 1);
    const mirrored = tf.sub(tf.scalar(width - 1, 'int32'), columnsNW);
    columnsNW = tf.add(columnsNW, tf.mul(flipN1, tf.sub(mirrored, columnsNW)));
  }
  const [cropY, cropX] = tf.split(cropYX, 2, 1) as [Tensor, Tensor];
  const padding = tf.scalar(options.crop, 'int32');
  return [tf.add(rowsH, tf.sub(cropY, padding)), tf.add(columnsNW, tf.sub(cropX, padding))];
}

/** uint8 [N, H, W, 3]: pixel (n, y, x) is (indices[n], rows[n, y], columns[n, x]), clamped to the image. */
function gatherPixels(
  engine: Engine,
  source: ImageSource,
  indicesN: Tensor,
  rowsNH: Tensor,
  columnsNW: Tensor,
): GraphValue {
  const { imagesMHWC, numImages, height, width } = source;
  const pixels = reshape(engine, imagesMHWC, [numImages * height * width, 3]);
  const origins = tf.mul(tf.reshape(indicesN, [-1, 1, 1]), tf.scalar(height * width, 'int32'));
  const rows = tf.mul(tf.expandDims(clamped(rowsNH, height), 2), tf.scalar(width, 'int32'));
  return gather(engine, pixels, tf.add(tf.add(origins, rows), tf.expandDims(clamped(columnsNW, width), 1)));
}

function clamped(positions: Tensor, extent: number): Tensor {
  return tf.maximum(tf.minimum(positions, tf.scalar(extent - 1, 'int32')), tf.scalar(0, 'int32'));
}

function inside(positions: Tensor, extent: number): Tensor {
  const zero = tf.scalar(0, 'int32');
  return tf.logicalAnd(tf.greaterEqual(positions, zero), tf.less(positions, tf.scalar(extent, 'int32')));
}

/** bool [N, H, W]: the square of side `size` around the drawn centre, cut at the borders (DeVries and Taylor, arXiv 1708.04552). */
function cutoutSquare({ cutoutYX }: Draws, size: number, height: number, width: number): Tensor {
  const [centreY, centreX] = tf.split(cutoutYX, 2, 1) as [Tensor, Tensor];
  const half = Math.floor(size / 2);
  const covered = (extent: number, centre: Tensor) => {
    const first = tf.sub(centre, tf.scalar(half, 'int32'));
    const positions = tf.expandDims(tf.range(0, extent, 1, 'int32'), 0);
    return tf.logicalAnd(
      tf.greaterEqual(positions, first),
      tf.less(positions, tf.add(centre, tf.scalar(size - half, 'int32'))),
    );
  };
  return tf.logicalAnd(tf.expandDims(covered(height, centreY), 2), tf.expandDims(covered(width, centreX), 1));
}

/** (pixel / 255 − mean) / std, as one multiplication and one addition a channel; before that the changes of colour. */
function normalized(engine: Engine, pixels: GraphValue, { normalization }: ImageSource, colour?: Tensor): Tensor4D {
  const types = [attr.type('SrcT', DType.uint8), attr.type('DstT', DType.float32)];
  const floats = engine.tensor(engine.operation('Cast', [pixels], types, 1).outputs[0]!);
  const { mean, std } = normalization;
  const scaleC = tf.tensor1d(std.map((deviation) => 1 / (255 * deviation)));
  const shiftC = tf.tensor1d(mean.map((value, channel) => -value / std[channel]!));
  const shown = colour ? recoloured(floats, colour, mean) : floats;
  return tf.add(tf.mul(shown, scaleC), shiftC) as Tensor4D;
}

/** Pixels times the first factor, then their distance from the data set's mean colour times the second; each kept in [0, 255]. */
function recoloured(pixels: Tensor, colour: Tensor, mean: readonly number[]): Tensor {
  const [brightness, contrast] = tf.split(tf.reshape(colour, [-1, 1, 1, 2]), 2, 3) as [Tensor, Tensor];
  const bright = tf.clipByValue(tf.mul(pixels, brightness), 0, 255);
  const meanC = tf.tensor1d(mean.map((value) => 255 * value));
  return tf.clipByValue(tf.add(tf.mul(tf.sub(bright, meanC), contrast), meanC), 0, 255);
}

function gather(engine: Engine, values: GraphValue, indices: Tensor): GraphValue {
  return engine.operation('GatherV2', [values, indices, tf.scalar(0, 'int32')], GATHER_UINT8, 1).outputs[0]!;
}

function reshape(engine: Engine, value: GraphValue, shape: number[]): GraphValue {
  const types = [attr.type('T', DType.uint8), attr.type('Tshape', DType.int32)];
  return engine.operation('Reshape', [value, tf.tensor1d(shape, 'int32')], types, 1).outputs[0]!;
}
