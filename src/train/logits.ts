/**
 * Logits of a few images, computed at once in this thread: for `dtrain predict`, where recording a function would not pay.
 */
import type { Normalization } from '../core/events.js';
import { type Tensor1D, type Tensor4D, tf } from '../graph/tfjs.js';
import type { Model } from '../model/catalogue.js';
import { EvaluationNet } from '../model/net.js';
import type { Weights } from '../model/torch-layout.js';

export interface ImageBatch {
  /** Pixels, N images. */
  readonly imagesNHWC: Uint8Array;
  readonly count: number;
  readonly height: number;
  readonly width: number;
}

/** [N, classes]. The thread's engine must have been started. Borrows everything. */
export function logitsOf(
  model: Model,
  weights: Weights,
  { mean, std }: Normalization,
  { imagesNHWC, count, height, width }: ImageBatch,
): Float32Array {
  return tf.tidy(() => {
    const pixels = tf.tensor4d(Float32Array.from(imagesNHWC), [count, height, width, 3]);
    const scaleC = tf.tensor1d(std.map((deviation) => 1 / (255 * deviation)));
    const shiftC = tf.tensor1d(mean.map((average, channel) => -average / std[channel]!));
    const images = tf.add(tf.mul(pixels, scaleC), shiftC) as Tensor4D;
    const parameters = model.parameters.map(({ shape }, i) => tf.tensor(weights.parameters[i]!, [...shape]));
    const statistics = model.statistics.map((_, i) => ({
      meanC: tf.tensor1d(weights.means[i]!) as Tensor1D,
      varianceC: tf.tensor1d(weights.variances[i]!) as Tensor1D,
    }));
    return model
      .forward(new EvaluationNet(model.parameters, parameters, statistics), images)
      .dataSync() as Float32Array;
  });
}
