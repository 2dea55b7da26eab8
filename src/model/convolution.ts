/**
 * Convolution padded by (size − 1) / 2 on each side, as PyTorch pads, and the same sums written as a matrix product.
 *
 * Why two forms: where images have shrunk to a few pixels, oneDNN's convolutions multiply padding (a 3×3 kernel over one pixel has one
 * tap that sees it, and eight whose gradient is known to be 0), and reorder megabytes of weights for it. There a matrix product of
 * the pixels that exist is up to ten times faster, forward and backward (docs/performance.md has the measurements).
 * Must stay true: both forms are the same function of the same parameters; square kernels of odd size.
 */
import { type Tensor2D, type Tensor3D, type Tensor4D, tf } from '../graph/tfjs.js';

/** By one operation of TensorFlow. */
export function convolve(xNHWC: Tensor4D, kernelHWIO: Tensor4D, stride: number): Tensor4D {
  if (stride === 1) return tf.conv2d(xNHWC, kernelHWIO, 1, 'same');
  return tf.conv2d(padSpatially(xNHWC, kernelHWIO.shape[0], stride), kernelHWIO, stride, 'valid');
}

/** Outputs of at most this many pixels come from a matrix product; above, the two forms are equally fast or the convolution is faster. */
const MOST_PIXELS = { pointwise: 16, patches: 4 } as const;

/** By a matrix product where that is faster in a training step, else as `convolve`. */
export function convolveInTraining(xNHWC: Tensor4D, kernelHWIO: Tensor4D, stride: number): Tensor4D {
  const [, height, width] = xNHWC.shape;
  const pixels = Math.ceil(height / stride) * Math.ceil(width / stride);
  if (pixels === 1) return productOverWindow(xNHWC, kernelHWIO);
  const size = kernelHWIO.shape[0];
  if (size === 1 && pixels <= MOST_PIXELS.pointwise) return productOverPixels(subsample(xNHWC, stride), kernelHWIO);
  if (size === 1 || pixels > MOST_PIXELS.patches) return convolve(xNHWC, kernelHWIO, stride);
  const allSeeAll = stride === 1 && Math.max(height, width) - 1 <= (size - 1) / 2;
  return allSeeAll ? productOverMap(xNHWC, kernelHWIO) : productOverPatches(xNHWC, kernelHWIO, stride);
}

/** One output pixel: the pixels under the kernel as one row an image, times the taps that see them. */
function productOverWindow(xNHWC: Tensor4D, kernelHWIO: Tensor4D): Tensor4D {
  const [images, height, width, channels] = xNHWC.shape;
  const [size, , , filters] = kernelHWIO.shape;
  const before = (size - 1) / 2;
  const [rows, columns] = [Math.min(height, size - before), Math.min(width, size - before)];
  const window = tf.slice4d(xNHWC, [0, 0, 0, 0], [images, rows, columns, channels]);
  const taps = tf.slice4d(kernelHWIO, [before, before, 0, 0], [rows, columns, channels, filters]);
  const fanIn = rows * columns * channels;
  const y = tf.matMul(tf.reshape(window, [images, fanIn]) as Tensor2D, tf.reshape(taps, [fanIn, filters]) as Tensor2D);
  return tf.reshape(y, [images, 1, 1, filters]);
}

/**
 * A map so small that every pixel of the output sees every pixel of the input: an image is a row, and the matrix has for each pair of pixels the
 * tap between them. Nothing is multiplied by padding.
 */
function productOverMap(xNHWC: Tensor4D, kernelHWIO: Tensor4D): Tensor4D {
  const [images, height, width, channels] = xNHWC.shape;
  const [size, , , filters] = kernelHWIO.shape;
  const middle = (size - 1) / 2;
  const tapsCF = tf.split(tf.reshape(kernelHWIO, [size * size, channels, filters]), size * size);
  const tap = (row: number, column: number) => tapsCF[(middle + row) * size + middle + column]! as Tensor3D;
  const pixels = [...pixelsOf(height, width)];
  const rows = pixels.map((from) =>
    tf.concat(
      pixels.map((to) => tap(from.row - to.row, from.column - to.column)),
      2,
    ),
  );
  const matrix: Tensor2D = tf.reshape(tf.concat(rows, 1), [pixels.length * channels, pixels.length * filters]);
  const y = tf.matMul(tf.reshape(xNHWC, [images, pixels.length * channels]) as Tensor2D, matrix);
  return tf.reshape(y, [images, height, width, filters]);
}

function* pixelsOf(height: number, width: number): Generator<{ readonly row: number; readonly column: number }> {
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) yield { row, column };
  }
}

/** A 1×1 kernel: every pixel is a row. */
function productOverPixels(xNHWC: Tensor4D, kernelHWIO: Tensor4D): Tensor4D {
  const [images, height, width, channels] = xNHWC.shape;
  const filters = kernelHWIO.shape[3];
  const pixels: Tensor2D = tf.reshape(xNHWC, [images * height * width, channels]);
  const y = tf.matMul(pixels, tf.reshape(kernelHWIO, [channels, filters]) as Tensor2D);
  return tf.reshape(y, [images, height, width, filters]);
}

/** Every output pixel's window, padding too, is a row (Chellapilla, Puri and Simard 2006, section 3.1). */
function productOverPatches(xNHWC: Tensor4D, kernelHWIO: Tensor4D, stride: number): Tensor4D {
  const [size, , channels, filters] = kernelHWIO.shape;
  const padded = padSpatially(xNHWC, size, stride);
  const [images, height, width] = padded.shape;
  const last = size - 1;
  const taps: Tensor4D[] = [];
  for (let row = 0; row < size; row++) {
    for (let column = 0; column < size; column++) {
      const seen = tf.slice4d(padded, [0, row, column, 0], [images, height - last, width - last, channels]);
      taps.push(subsample(seen, stride));
    }
  }
  const [, rows, columns] = taps[0]!.shape;
  const fanIn = size * size * channels;
  const patches: Tensor2D = tf.reshape(tf.concat(taps, 3), [images * rows * columns, fanIn]);
  const y = tf.matMul(patches, tf.reshape(kernelHWIO, [fanIn, filters]) as Tensor2D);
  return tf.reshape(y, [images, rows, columns, filters]);
}

/** Every `stride`-th pixel in height and width: a 1×1 average pool, whose gradient tfjs has. */
export function subsample(xNHWC: Tensor4D, stride: number): Tensor4D {
  return stride === 1 ? xNHWC : tf.avgPool(xNHWC, 1, stride, 'valid');
}

/**
 * Zeros around an image, as many as a strided window reads when PyTorch pads it by (size − 1) / 2 on each side. TensorFlow's SAME would
 * shift the windows, and its explicit padding keeps the gradients from oneDNN, which is slower by far.
 */
function padSpatially(xNHWC: Tensor4D, size: number, stride: number): Tensor4D {
  const before = (size - 1) / 2;
  const after = (extent: number) => {
    const windows = Math.floor((extent - 1) / stride) + 1;
    return Math.max(0, (windows - 1) * stride + size - extent - before);
  };
  const [, height, width] = xNHWC.shape;
  if (before === 0) return xNHWC;
  return tf.pad4d(xNHWC, [NO_PADDING, [before, after(height)], [before, after(width)], NO_PADDING]);
}

const NO_PADDING: [number, number] = [0, 0];
