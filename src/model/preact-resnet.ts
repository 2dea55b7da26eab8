/**
 * Residual networks with pre-activation (He, Zhang, Ren, Sun: "Identity mappings in deep residual networks", arXiv 1603.05027) and wide
 * ones (Zagoruyko, Komodakis: "Wide residual networks", arXiv 1605.07146), for 32×32 images.
 *
 * Idea: batch normalisation and ReLU come before each convolution, so the shortcuts run from end to end without an operation on them.
 * The first unit of each stage activates before the branches part (the paper's appendix: the first unit of all, and where dimensions
 * grow); a last activation follows the last unit. A projection is a 1×1 convolution alone.
 */
import { type Tensor4D, tf } from '../graph/tfjs.js';
import { subsample } from './convolution.js';
import { batchNorm, conv2d, dense, globalAveragePool, padChannels } from './layers.js';
import type { ModelFunction, Net } from './net.js';
import type { Shortcut } from './resnet.js';

export interface PreActivationOptions {
  /** Units of each of the three stages. */
  readonly units: number;
  /** 1×1, 3×3 and 1×1 convolutions a unit, the last with four times the filters; else two of 3×3. */
  readonly bottleneck: boolean;
  /** Multiplies 16, 32 and 64 filters. */
  readonly width: number;
  readonly classes: number;
  readonly shortcut: Shortcut;
}

interface UnitOptions extends PreActivationOptions {
  readonly filters: number;
  readonly stride: number;
  /** The first unit of a stage. */
  readonly isFirst: boolean;
}

/** Depth 6n + 2 with n basic units a stage, 9n + 2 with bottlenecks; wide networks count their projections too: 6n + 4. */
export function preActivationResNet(options: PreActivationOptions): ModelFunction {
  const { units, width, classes } = options;
  return (net, images) => {
    let x = conv2d(net, 'conv1', images, { filters: 16, size: 3 });
    for (const [i, base] of [16, 32, 64].entries()) {
      for (let j = 0; j < units; j++) {
        const isFirst = j === 0;
        const stride = isFirst && i > 0 ? 2 : 1;
        x = unit(net, `layer${i + 1}.${j}`, x, { ...options, filters: base * width, stride, isFirst });
      }
    }
    return dense(net, 'fc', globalAveragePool(activated(net, 'bn', x)), classes);
  };
}

/** Figure 4 (e) of 1603.05027, "full pre-activation". */
function unit(net: Net, name: string, x: Tensor4D, options: UnitOptions): Tensor4D {
  const { filters, stride, bottleneck, isFirst } = options;
  const first = activated(net, `${name}.bn1`, x);
  const from = isFirst ? first : x;
  const convolve = (index: number, input: Tensor4D, size: number, convFilters: number, convStride = 1) =>
    conv2d(net, `${name}.conv${index}`, input, { filters: convFilters, size, stride: convStride });
  let y: Tensor4D;
  if (bottleneck) {
    y = convolve(1, first, 1, filters);
    y = convolve(2, activated(net, `${name}.bn2`, y), 3, filters, stride);
    y = convolve(3, activated(net, `${name}.bn3`, y), 1, 4 * filters);
  } else {
    y = convolve(1, first, 3, filters, stride);
    y = convolve(2, activated(net, `${name}.bn2`, y), 3, filters);
  }
  return options.shortcut === 'none' ? y : tf.add(y, shortcutOf(net, name, from, y, options));
}

function shortcutOf(net: Net, name: string, x: Tensor4D, y: Tensor4D, { stride, shortcut }: UnitOptions): Tensor4D {
  const filters = y.shape[3];
  if (shortcut !== 'C' && stride === 1 && x.shape[3] === filters) return x;
  if (shortcut === 'A') return padChannels(subsample(x, stride), filters);
  return conv2d(net, `${name}.downsample.0`, x, { filters, size: 1, stride });
}

function activated(net: Net, name: string, x: Tensor4D): Tensor4D {
  return tf.relu(batchNorm(net, name, x));
}
