/**
 * The gradient of a 3×3 kernel as nine matrix products, in bfloat16 where that is faster.
 *
 * Why: oneDNN's bfloat16 gradient of a kernel takes 1.2 to 2.1 times as long as the same sums written as one product a tap, where a
 * convolution has many channels on a small map; with fewer channels, on larger maps and in float32 it is the faster one
 * (docs/performance.md has the measurements).
 * Must stay true: the same sums of the same numbers. Installed once a thread, by startEngine.
 */
import { type Tensor, type Tensor2D, type Tensor4D, tf } from './tfjs.js';

const LEAST_CHANNELS = 256;
const MOST_PIXELS = 64;

/** `isBfloat16` tells whether this thread records in bfloat16. */
export function installFilterGradient(isBfloat16: () => boolean): void {
  const stock = tf.getGradient('Conv2D');
  tf.unregisterGradient('Conv2D');
  tf.registerGradient({
    ...stock,
    gradFunc: (dy, saved, attrs) => {
      const gradients = stock.gradFunc(dy, saved, attrs);
      const [xNHWC, kernelHWIO] = saved as [Tensor4D, Tensor4D];
      if (!isBfloat16() || !isWideOnSmallMap(xNHWC, kernelHWIO, dy as Tensor4D)) return gradients;
      return { ...gradients, filter: () => filterGradientOfTaps(xNHWC, dy as Tensor4D) };
    },
  });
}

/** Of a convolution of stride 1 with padding SAME: the maps of its input and output are equal. */
function isWideOnSmallMap(xNHWC: Tensor4D, kernelHWIO: Tensor4D, dyNHWC: Tensor4D): boolean {
  const [kernelHeight, kernelWidth, channels, filters] = kernelHWIO.shape;
  const [, height, width] = xNHWC.shape;
  const isSameMap = height === dyNHWC.shape[1] && width === dyNHWC.shape[2];
  const isSquareOfThree = kernelHeight === 3 && kernelWidth === 3;
  return isSquareOfThree && isSameMap && height * width <= MOST_PIXELS && Math.min(channels, filters) >= LEAST_CHANNELS;
}

/** [3, 3, channels, filters]: for each tap, over all pixels of the output, the pixel of `x` that the tap sees, times `dy`. */
function filterGradientOfTaps(xNHWC: Tensor4D, dyNHWC: Tensor4D): Tensor {
  const [images, height, width, channels] = xNHWC.shape;
  const filters = dyNHWC.shape[3];
  const pixels = images * height * width;
  const padded = tf.pad4d(xNHWC, [NO_PADDING, [1, 1], [1, 1], NO_PADDING]);
  const dy: Tensor2D = tf.reshape(dyNHWC, [pixels, filters]);
  const taps = [0, 1, 2].flatMap((row) =>
    [0, 1, 2].map((column) => {
      const seen = tf.slice4d(padded, [0, row, column, 0], [images, height, width, channels]);
      return tf.matMul(tf.reshape(seen, [pixels, channels]) as Tensor2D, dy, true);
    }),
  );
  return tf.reshape(tf.concat(taps, 0), [3, 3, channels, filters]);
}

const NO_PADDING: [number, number] = [0, 0];
