/**
 * The layers that residual networks are made of, as tfjs code over a Net.
 *
 * Names and parameters are torchvision's; layouts are tfjs's (images NHWC, kernels HWIO).
 */
import { type Tensor1D, type Tensor2D, type Tensor4D, tf } from '../graph/tfjs.js';
import type { Net } from './net.js';

export interface ConvOptions {
  readonly filters: number;
  /** Height and width of the kernel; odd. */
  readonly size: number;
  readonly stride?: number;
  /** Adds a bias a filter, which starts at 0: for networks without batch normalisation. */
  readonly bias?: boolean;
  /** The first filters begin as the identity, one for each channel of the input (Zagoruyko and Komodakis, arXiv 1706.00388: Dirac). */
  readonly identity?: boolean;
}

/**
 * Convolution, by default without bias (batch normalisation follows), padded by (size − 1) / 2 on each side as PyTorch does.
 * He initialisation: normal, variance 2 / (size² · input channels) (He et al., arXiv 1502.01852, equation 10).
 */
export function conv2d(net: Net, name: string, xNHWC: Tensor4D, options: ConvOptions): Tensor4D {
  const { filters, size, stride = 1, bias = false, identity = false } = options;
  const channels = xNHWC.shape[3];
  const deviation = Math.sqrt(2 / (size * size * channels));
  const kernelHWIO = net.parameter(`${name}.weight`, [size, size, channels, filters], {
    deviation,
    ...(identity && { identity }),
  }) as Tensor4D;
  const y = net.convolve(xNHWC, kernelHWIO, stride);
  return bias ? tf.add(y, net.parameter(`${name}.bias`, [filters], { value: 0 })) : y;
}

const NO_PADDING: [number, number] = [0, 0];

/** Batch normalisation; scale starts at 1, offset at 0. */
export function batchNorm(net: Net, name: string, xNHWC: Tensor4D): Tensor4D {
  const channels = xNHWC.shape[3];
  const scaleC = net.parameter(`${name}.weight`, [channels], { value: 1 }) as Tensor1D;
  const offsetC = net.parameter(`${name}.bias`, [channels], { value: 0 }) as Tensor1D;
  return net.normalize(name, xNHWC, scaleC, offsetC);
}

/**
 * Fully connected layer with bias. Weights start normal with `variance` / inputs: 1 / 3 is the variance of PyTorch's default, 2 is He
 * initialisation, for a layer that a ReLU follows.
 */
export function dense(net: Net, name: string, xNC: Tensor2D, units: number, variance: number = 1 / 3): Tensor2D {
  const inputs = xNC.shape[1];
  const weight = net.parameter(`${name}.weight`, [inputs, units], {
    deviation: Math.sqrt(variance / inputs),
  }) as Tensor2D;
  const bias = net.parameter(`${name}.bias`, [units], { value: 0 }) as Tensor1D;
  return tf.add(tf.matMul(xNC, weight), bias);
}

/** Mean over height and width: [N, H, W, C] → [N, C]. */
export function globalAveragePool(xNHWC: Tensor4D): Tensor2D {
  return tf.mean(xNHWC, [1, 2]);
}

const LOWEST_FLOAT = -3.4028234663852886e38;

/** 3×3 maximum pooling with stride 2, padded by 1 on each side as PyTorch does. */
export function maxPool3x3(xNHWC: Tensor4D): Tensor4D {
  const padded = tf.pad4d(xNHWC, [NO_PADDING, [1, 1], [1, 1], NO_PADDING], LOWEST_FLOAT);
  return tf.maxPool(padded, 3, 2, 'valid');
}

/** Maximum pooling over squares of `size`, or rectangles, without overlap; what does not fill one at the right and bottom is left out. */
export function maxPool(xNHWC: Tensor4D, size: number | [height: number, width: number]): Tensor4D {
  return tf.maxPool(xNHWC, size, size, 'valid');
}

/** Zeros for channels that `x` does not have yet, the same number before and after its own. */
export function padChannels(xNHWC: Tensor4D, channels: number): Tensor4D {
  const added = channels - xNHWC.shape[3];
  if (added === 0) return xNHWC;
  const before = Math.floor(added / 2);
  return tf.pad4d(xNHWC, [NO_PADDING, NO_PADDING, NO_PADDING, [before, added - before]]);
}
