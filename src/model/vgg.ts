/**
 * VGG (Simonyan, Zisserman: "Very deep convolutional networks for large-scale image recognition", arXiv 1409.1556), configurations D (16
 * layers) and E (19), without batch normalisation as in the paper.
 *
 * With the imagenet stem the classifier is the paper's: two layers of 4096 with dropout. With the cifar stem it is the usual one for small
 * images: the last map's mean and one dense layer; 14 and 17 layers with weights are then left. Names are torchvision's.
 */
import { type Tensor2D, type Tensor4D, tf } from '../graph/tfjs.js';
import { conv2d, dense, globalAveragePool, maxPool } from './layers.js';
import type { ModelFunction, Net } from './net.js';
import type { Stem } from './resnet.js';

/** Table 1: filters of the convolutions between two poolings. */
const STAGES: Readonly<Record<number, readonly (readonly number[])[]>> = {
  16: [
    [64, 64],
    [128, 128],
    [256, 256, 256],
    [512, 512, 512],
    [512, 512, 512],
  ],
  19: [
    [64, 64],
    [128, 128],
    [256, 256, 256, 256],
    [512, 512, 512, 512],
    [512, 512, 512, 512],
  ],
};

/** Section 3.1. */
const DROPOUT_RATE = 0.5;
const WIDTH = 4096;
/** Variance · inputs of a layer that a ReLU follows (He initialisation). */
const BEFORE_RELU = 2;

export function vgg(depth: number, classes: number, stem: Stem): ModelFunction {
  return (net, images) => {
    let x = images;
    let place = 0; // torchvision numbers convolutions, activations and poolings in one sequence
    for (const stage of STAGES[depth]!) {
      for (const filters of stage) {
        x = tf.relu(conv2d(net, `features.${place}`, x, { filters, size: 3, bias: true }));
        place += 2;
      }
      x = maxPool(x, 2);
      place += 1;
    }
    return stem === 'imagenet' ? wideClassifier(net, x, classes) : dense(net, 'fc', globalAveragePool(x), classes);
  };
}

function wideClassifier(net: Net, xNHWC: Tensor4D, classes: number): Tensor2D {
  const [n, height, width, channels] = xNHWC.shape;
  const channelsFirst = tf.transpose(xNHWC, [0, 3, 1, 2]); // the order of torchvision's weights
  let x = tf.reshape(channelsFirst, [n, height * width * channels]) as Tensor2D;
  for (const name of ['classifier.0', 'classifier.3']) {
    x = net.dropout(tf.relu(dense(net, name, x, WIDTH, BEFORE_RELU)), DROPOUT_RATE);
  }
  return dense(net, 'classifier.6', x, classes);
}
