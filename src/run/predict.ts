/** `dtrain predict`: the classes that a checkpoint finds in image files. */
import fs from 'node:fs';
import { DtrainError, ExitCode } from '../core/errors.js';
import { decodeScaled } from '../data/decode-images.js';
import { logitsOf } from '../train/logits.js';
import { restoreModel } from './restore-model.js';

export interface PredictOptions {
  readonly checkpoint: string;
  /** Paths of JPEG or PNG files of any size. */
  readonly images: readonly string[];
}

export interface Prediction {
  readonly image: string;
  readonly logits: Float32Array;
  /** In the order of the classes. */
  readonly probabilities: Float64Array;
}

export interface PredictReport {
  readonly classes: readonly string[];
  readonly predictions: readonly Prediction[];
}

/** Images computed at once. */
const BATCH = 32;

/** @throws DTRAIN_CHECKPOINT_* (exit 6), DTRAIN_DATA_* (exit 5) for an image that is missing or does not decode. */
export async function predictImages({ checkpoint, images }: PredictOptions): Promise<PredictReport> {
  const files = images.map((name) => ({ name, bytes: readImage(name) }));
  const { model, weights, state, config } = await restoreModel(checkpoint, `dtrain predict ${checkpoint}`);
  const [height, width] = state.imageSize;
  const numClasses = state.classes.length;
  const predictions: Prediction[] = [];
  for (let first = 0; first < files.length; first += BATCH) {
    const batch = files.slice(first, first + BATCH);
    const imagesNHWC = new Uint8Array(batch.length * height * width * 3);
    for (const [i, { name, bytes }] of batch.entries()) {
      imagesNHWC.set(await decodeScaled(name, bytes, { height, width }, config.data.resize), i * height * width * 3);
    }
    const pixels = { imagesNHWC, count: batch.length, height, width };
    const logits = logitsOf(model, weights, state.normalization, pixels);
    for (const [i, { name }] of batch.entries()) {
      const own = logits.slice(i * numClasses, (i + 1) * numClasses);
      predictions.push({ image: name, logits: own, probabilities: softmax(own) });
    }
  }
  return { classes: state.classes, predictions };
}

export function softmax(logits: Float32Array): Float64Array {
  const largest = Math.max(...logits);
  const powers = Float64Array.from(logits, (logit) => Math.exp(logit - largest));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / sum);
}

function readImage(name: string): Uint8Array {
  try {
    return fs.readFileSync(name);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    const text = `${name}: expected a JPEG or PNG file, it cannot be read (${code}). Check the path.`;
    throw new DtrainError('DTRAIN_DATA_PATH', ExitCode.data, text, { cause });
  }
}
