/**
 * Residual networks (He, Zhang, Ren, Sun: "Deep residual learning for image recognition", arXiv 1512.03385).
 *
 * Two families: the paper's CIFAR networks of depth 6n + 2 (section 4.2), and its ImageNet networks (table 1) as torchvision has them.
 * Parameter names are torchvision's, so that weights pass between the two.
 */
import { type Tensor4D, tf } from '../graph/tfjs.js';
import { batchNorm, conv2d, dense, globalAveragePool, maxPool3x3, padChannels, subsample } from './layers.js';
import type { ModelFunction, Net } from './net.js';

/** How a shortcut changes size (section 3.3): A pads with zeros, B projects by a 1×1 convolution where dimensions grow. */
export type Shortcut = 'A' | 'B';
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

/** Depths of the ImageNet family. */
export const IMAGENET_DEPTHS: readonly number[] = Object.keys(STAGES).map(Number);

/** Table 1, with projection shortcuts. The CIFAR stem (3×3, stride 1, no pooling) keeps small images from vanishing. */
export function imagenetResNet(depth: number, classes: number, stem: Stem): ModelFunction {
  const { block, blocks } = STAGES[depth]!;
  return (net, images) => {
    let x = stem === 'imagenet' ? imagenetStem(net, images) : cifarStem(net, images);
    for (const [i, count] of blocks.entries()) {
      const options = { blocks: count, filters: 64 * 2 ** i, stride: i === 0 ? 1 : 2, shortcut: 'B' } as const;
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
  return tf.relu(tf.add(y, shortcutOf(net, name, x, { filters, stride, shortcut })));
}

/** Figure 5, right: 1×1, 3×3 and 1×1 convolutions; the last has four times the filters. The 3×3 has the stride, as in torchvision. */
function bottleneckBlock(net: Net, name: string, x: Tensor4D, { filters, stride, shortcut }: BlockOptions): Tensor4D {
  const wide = 4 * filters;
  let y = tf.relu(batchNorm(net, `${name}.bn1`, conv2d(net, `${name}.conv1`, x, { filters, size: 1 })));
  y = tf.relu(batchNorm(net, `${name}.bn2`, conv2d(net, `${name}.conv2`, y, { filters, size: 3, stride })));
  y = batchNorm(net, `${name}.bn3`, conv2d(net, `${name}.conv3`, y, { filters: wide, size: 1 }));
  return tf.relu(tf.add(y, shortcutOf(net, name, x, { filters: wide, stride, shortcut })));
}

/** The identity where dimensions stay; else option A or B of section 3.3. */
function shortcutOf(net: Net, name: string, x: Tensor4D, { filters, stride, shortcut }: BlockOptions): Tensor4D {
  if (stride === 1 && x.shape[3] === filters) return x;
  if (shortcut === 'A') return padChannels(subsample(x, stride), filters);
  const projected = conv2d(net, `${name}.downsample.0`, x, { filters, size: 1, stride });
  return batchNorm(net, `${name}.downsample.1`, projected);
}
