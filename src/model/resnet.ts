/**
 * Residual networks (He, Zhang, Ren, Sun: "Deep residual learning for image recognition", arXiv 1512.03385).
 *
 * Two families: the paper's CIFAR networks of depth 6n + 2 (section 4.2), and its ImageNet networks (table 1) as torchvision has them.
 * Each without shortcuts is the plain network that the paper compares with.
 * Parameter names are torchvision's, so that weights pass between the two.
 */
import { type Tensor4D, tf } from '../graph/tfjs.js';
import { subsample } from './convolution.js';
import { batchNorm, conv2d, dense, globalAveragePool, maxPool3x3, padChannels } from './layers.js';
import type { ModelFunction, Net } from './net.js';

/**
 * The shortcuts (section 3.3): A pads with zeros where dimensions grow, B projects there by a 1×1 convolution, C projects everywhere.
 * `none` leaves them out: the paper's plain networks.
 */
export type Shortcut = 'A' | 'B' | 'C' | 'none';
export type Stem = 'cifar' | 'imagenet';

interface BlockOptions {
  readonly filters: number;
  readonly stride: number;
  readonly shortcut: Shortcut;
}

type Block = (net: Net, name: string, x: Tensor4D, options: BlockOptions) => Tensor4D;

/** Section 4.2: 3×3 convolution, 2n layers each on maps of 32, 16 and 8 with 16, 32 and 64 filters, global average pooling, dense. */
export function cifarResNet(depth: number, classes: number, shortcut: Shortcut): ModelFunction {
  const blocks = (depth - 2) / 6;
  return (net, images) => {
    let x = tf.relu(batchNorm(net, 'bn1', conv2d(net, 'conv1', images, { filters: 16, size: 3 })));
    x = stage(net, 'layer1', x, basicBlock, { blocks, filters: 16, stride: 1, shortcut });
    x = stage(net, 'layer2', x, basicBlock, { blocks, filters: 32, stride: 2, shortcut });
    x = stage(net, 'layer3', x, basicBlock, { blocks, filters: 64, stride: 2, shortcut });
    return dense(net, 'fc', globalAveragePool(x), classes);
  };
}

/** Table 1: blocks in each of the four stages. */
const STAGES: Readonly<Record<number, { block: Block; blocks: readonly [number, number, number, number] }>> = {
  18: { block: basicBlock, blocks: [2, 2, 2, 2] },
  34: { block: basicBlock, blocks: [3, 4, 6, 3] },
  50: { block: bottleneckBlock, blocks: [3, 4, 6, 3] },
  101: { block: bottleneckBlock, blocks: [3, 4, 23, 3] },
  152: { block: bottleneckBlock, blocks: [3, 8, 36, 3] },
};

/**
 * Table 1. Option A is taken as B here, as in torchvision. The CIFAR stem (3×3, stride 1, no pooling) keeps small images from vanishing.
 */
export function imagenetResNet(depth: number, classes: number, stem: Stem, asked: Shortcut): ModelFunction {
  const shortcut = asked === 'A' ? 'B' : asked;
  const { block, blocks } = STAGES[depth]!;
  return (net, images) => {
    let x = stem === 'imagenet' ? imagenetStem(net, images) : cifarStem(net, images);
    for (const [i, count] of blocks.entries()) {
      const options = { blocks: count, filters: 64 * 2 ** i, stride: i === 0 ? 1 : 2, shortcut };
      x = stage(net, `layer${i + 1}`, x, block, options);
    }
    return dense(net, 'fc', globalAveragePool(x), classes);
  };
}

function imagenetStem(net: Net, images: Tensor4D): Tensor4D {
  const x = conv2d(net, 'conv1', images, { filters: 64, size: 7, stride: 2 });
  return maxPool3x3(tf.relu(batchNorm(net, 'bn1', x)));
}

function cifarStem(net: Net, images: Tensor4D): Tensor4D {
  return tf.relu(batchNorm(net, 'bn1', conv2d(net, 'conv1', images, { filters: 64, size: 3 })));
}

/** Blocks of one map size; the first one changes it. */
function stage(
  net: Net,
  name: string,
  x: Tensor4D,
  block: Block,
  options: BlockOptions & { blocks: number },
): Tensor4D {
  const { blocks, filters, shortcut } = options;
  let y = x;
  for (let i = 0; i < blocks; i++) {
    y = block(net, `${name}.${i}`, y, { filters, stride: i === 0 ? options.stride : 1, shortcut });
  }
  return y;
}

/** Figure 5, left: two 3×3 convolutions around a shortcut. */
function basicBlock(net: Net, name: string, x: Tensor4D, { filters, stride, shortcut }: BlockOptions): Tensor4D {
  let y = conv2d(net, `${name}.conv1`, x, { filters, size: 3, stride });
  y = tf.relu(batchNorm(net, `${name}.bn1`, y));
  y = conv2d(net, `${name}.conv2`, y, { filters, size: 3 });
  y = batchNorm(net, `${name}.bn2`, y);
  return tf.relu(joined(net, name, x, y, { filters, stride, shortcut }));
}

/** Figure 5, right: 1×1, 3×3 and 1×1 convolutions; the last has four times the filters. The 3×3 has the stride, as in torchvision. */
function bottleneckBlock(net: Net, name: string, x: Tensor4D, { filters, stride, shortcut }: BlockOptions): Tensor4D {
  const wide = 4 * filters;
  let y = tf.relu(batchNorm(net, `${name}.bn1`, conv2d(net, `${name}.conv1`, x, { filters, size: 1 })));
  y = tf.relu(batchNorm(net, `${name}.bn2`, conv2d(net, `${name}.conv2`, y, { filters, size: 3, stride })));
  y = batchNorm(net, `${name}.bn3`, conv2d(net, `${name}.conv3`, y, { filters: wide, size: 1 }));
  return tf.relu(joined(net, name, x, y, { filters: wide, stride, shortcut }));
}

/** Equations 1 and 2: `y` plus the shortcut from `x`; `y` alone in a plain network. */
function joined(net: Net, name: string, x: Tensor4D, y: Tensor4D, options: BlockOptions): Tensor4D {
  return options.shortcut === 'none' ? y : tf.add(y, shortcutOf(net, name, x, options));
}

/** The identity where dimensions stay (but in option C); else zeros or a projection. */
function shortcutOf(net: Net, name: string, x: Tensor4D, { filters, stride, shortcut }: BlockOptions): Tensor4D {
  if (shortcut !== 'C' && stride === 1 && x.shape[3] === filters) return x;
  if (shortcut === 'A') return padChannels(subsample(x, stride), filters);
  const projected = conv2d(net, `${name}.downsample.0`, x, { filters, size: 1, stride });
  return batchNorm(net, `${name}.downsample.1`, projected);
}
