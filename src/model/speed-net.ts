/**
 * A small network for the speed run on 32×32 images: a fixed first layer that whitens, then three groups of two convolutions with 64, 256
 * and 256 filters, pooled early, so that nearly all work is in wide convolutions on small maps.
 *
 * After the network of airbench94 (Jordan, arXiv 2404.00498, sections 3.1 to 3.3), with ReLU for GELU, with learned scales in the norms, and
 * with patterns known beforehand in place of the eigenvectors of the data's patches.
 */
import { type Tensor1D, type Tensor2D, type Tensor4D, tf } from '../graph/tfjs.js';
import { batchNorm, conv2d, dense, maxPool } from './layers.js';
import type { ModelFunction, Net } from './net.js';

const GROUPS = [64, 256, 256];

export function speedNet(classes: number): ModelFunction {
  return (net, images) => {
    const white = tf.conv2d(images, whiteningHWIO(), 1, 'valid');
    const bias = net.parameter('whitening.bias', [white.shape[3]], { value: 0 }) as Tensor1D;
    let x = tf.relu(tf.add(white, bias)) as Tensor4D;
    for (const [i, filters] of GROUPS.entries()) x = group(net, `layer${i + 1}`, x, filters);
    const [n, height, width, channels] = x.shape;
    return dense(net, 'fc', tf.reshape(maxPool(x, [height, width]), [n, channels]) as Tensor2D, classes);
  };
}

/** Convolution, pooling, norm, ReLU; convolution, norm, ReLU. The convolutions begin as the identity on the channels that there are. */
function group(net: Net, name: string, x: Tensor4D, filters: number): Tensor4D {
  const options = { filters, size: 3, identity: true };
  const pooled = maxPool(conv2d(net, `${name}.conv1`, x, options), 2);
  const y = conv2d(net, `${name}.conv2`, tf.relu(batchNorm(net, `${name}.bn1`, pooled)), options);
  return tf.relu(batchNorm(net, `${name}.bn2`, y));
}

/** Of the four pixels of a 2×2 patch, in rows: their sum, and their differences downwards, across and both (Haar). */
const PATTERNS = [
  [1, 1, 1, 1],
  [1, 1, -1, -1],
  [1, -1, 1, -1],
  [1, -1, -1, 1],
];
/** Of red, green and blue: lightness, and two opponent colours. */
const COLOURS = [
  [1, 1, 1],
  [1, 0, -1],
  [1, -2, 1],
];
/**
 * Variances of pattern × colour (unit vectors) over the 2×2 patches of CIFAR-10's normalised training images. These products are nearly the
 * eigenvectors of the patches' covariance, as for all pictures of nature.
 */
const VARIANCES = [
  [10.13, 0.747, 0.175],
  [0.402, 0.00561, 0.00221],
  [0.347, 0.00378, 0.00166],
  [0.0555, 0.00022, 0.00014],
];
/** Added to a variance, so that noise is not made loud. */
const LEAST_VARIANCE = 5e-4;

/** [2, 2, 3, 24]: each pattern of each colour at unit variance, and its negative, since a ReLU follows. */
function whiteningHWIO(): Tensor4D {
  const filters = PATTERNS.flatMap((pattern, p) =>
    COLOURS.map((colour, c) => {
      const scale = length(pattern) * length(colour) * Math.sqrt(VARIANCES[p]![c]! + LEAST_VARIANCE);
      return pattern.map((pixel) => colour.map((channel) => (pixel * channel) / scale));
    }),
  );
  const tapsHWI = [0, 1, 2, 3].flatMap((pixel) => [0, 1, 2].map((channel) => [pixel, channel] as const));
  const values = tapsHWI.flatMap(([pixel, channel]) => {
    const tap = filters.map((filter) => filter[pixel]![channel]!);
    return [...tap, ...tap.map((value) => -value)];
  });
  return tf.tensor4d(values, [2, 2, 3, 2 * filters.length]);
}

function length(vector: readonly number[]): number {
  return Math.hypot(...vector);
}
