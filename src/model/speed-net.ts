/**
 * A small network for the speed run on 32×32 images: three groups of two convolutions with 64, 256 and 256 filters, pooled early, so that
 * nearly all work is in wide convolutions on small maps.
 *
 * After the network of airbench94 (Jordan, arXiv 2404.00498, section 3.1), without its whitening of the first layer, with ReLU for GELU
 * and with learned scales in the norms.
 */
import { type Tensor2D, type Tensor4D, tf } from '../graph/tfjs.js';
import { batchNorm, conv2d, dense, maxPool } from './layers.js';
import type { ModelFunction, Net } from './net.js';

const GROUPS = [64, 256, 256];
const STEM_FILTERS = 24;

export function speedNet(classes: number): ModelFunction {
  return (net, images) => {
    let x = tf.relu(batchNorm(net, 'bn1', conv2d(net, 'conv1', images, { filters: STEM_FILTERS, size: 3 })));
    for (const [i, filters] of GROUPS.entries()) x = group(net, `layer${i + 1}`, x, filters);
    const [n, height, , channels] = x.shape;
    return dense(net, 'fc', tf.reshape(maxPool(x, height), [n, channels]) as Tensor2D, classes);
  };
}

/** Convolution, pooling, norm, ReLU; convolution, norm, ReLU. */
function group(net: Net, name: string, x: Tensor4D, filters: number): Tensor4D {
  const pooled = maxPool(conv2d(net, `${name}.conv1`, x, { filters, size: 3 }), 2);
  const y = conv2d(net, `${name}.conv2`, tf.relu(batchNorm(net, `${name}.bn1`, pooled)), { filters, size: 3 });
  return tf.relu(batchNorm(net, `${name}.bn2`, y));
}
