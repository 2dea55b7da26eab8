/** Exact evaluation over all ranks: every test image once, sums by index, so that the figures do not depend on the number of ranks. */
import type { ImageSplit } from '../data/data-set.js';
import type { HostLink } from './host-link.js';
import type { EvaluationShare } from './protocol.js';
import type { RankPool } from './rank-pool.js';

export interface EvaluationResult {
  /** Mean over images, in nats. */
  readonly testLoss: number;
  /** Fraction. */
  readonly testAccuracy: number;
  readonly images: number;
  /** Fraction of images whose label is among the five most probable classes; all of them where there are at most five classes. */
  readonly top5Accuracy: number;
  /** Fraction of each class's images that were classified right. */
  readonly perClass: readonly number[];
  /** Images by label (row) and predicted class (column). */
  readonly confusion: readonly (readonly number[])[];
  readonly calibration: Calibration;
  /** Wrong answers of the highest probability, most confident first. */
  readonly mostWrong: readonly WrongAnswer[];
}

/** Guo et al., arXiv 1706.04599: does a probability of 0.8 mean right four times in five? */
export interface Calibration {
  /** Expected calibration error: the mean over images of |accuracy − confidence| of the image's bin. */
  readonly error: number;
  /** Of equal width over [0, 1]; an empty one has no means. */
  readonly bins: readonly {
    readonly images: number;
    readonly confidence: number | null;
    readonly accuracy: number | null;
  }[];
}

export interface WrongAnswer {
  /** Index in the test set. */
  readonly image: number;
  readonly label: number;
  readonly predicted: number;
  readonly confidence: number;
}

const TOP = 5;
const CALIBRATION_BINS = 15;
const MOST_WRONG = 12;

/** Undefined where a stop was asked for meanwhile. `watch` may end the wait by rejecting. With `hosts`, each evaluates its part, and all have the result. */
export async function evaluateOnRanks(
  pool: RankPool,
  { classes, test }: { readonly classes: readonly string[]; readonly test: ImageSplit },
  watch?: Promise<never>,
  hosts: HostLink | null = null,
): Promise<EvaluationResult | undefined> {
  const first = (hosts?.rank ?? 0) * pool.world;
  const stride = (hosts?.count ?? 1) * pool.world;
  const own = await pool.runAll('evaluate', (rank) => ({ first: first + rank, stride }), watch);
  const shares = hosts ? await sharesOfHosts(hosts, own, test.count) : own;
  const numAnswers = shares.reduce((sum, { ids }) => sum + ids.length, 0);
  return numAnswers < test.labels.length ? undefined : merged(shares, test.labels, classes.length);
}

/** Every host's shares, as one a host: four float32 an image travel, NaN where the image was another host's. */
async function sharesOfHosts(
  hosts: HostLink,
  own: readonly EvaluationShare[],
  count: number,
): Promise<EvaluationShare[]> {
  const values = new Float32Array(4 * count).fill(Number.NaN);
  for (const { ids, losses, predicted, confidences, above } of own) {
    for (const [i, id] of ids.entries()) {
      values.set([predicted[i]!, losses[i]!, confidences[i]!, above[i]!], 4 * id);
    }
  }
  return (await hosts.gather(values)).map((all) => {
    const ids = Int32Array.from({ length: count }, (_, id) => id).filter((id) => !Number.isNaN(all[4 * id]!));
    const pick = (offset: number) => Float32Array.from(ids, (id) => all[4 * id + offset]!);
    return { ids, predicted: Int32Array.from(pick(0)), losses: pick(1), confidences: pick(2), above: pick(3) };
  });
}

/** Exported for tests. @throws never; every image of `labels` must be in exactly one share. */
export function merged(shares: readonly EvaluationShare[], labels: Int32Array, numClasses: number): EvaluationResult {
  const images = labels.length;
  const losses = new Float64Array(images);
  const predicted = new Int32Array(images).fill(-1);
  const confidences = new Float64Array(images);
  const above = new Float64Array(images);
  for (const share of shares) {
    for (const [i, id] of share.ids.entries()) {
      losses[id] = share.losses[i]!;
      predicted[id] = share.predicted[i]!;
      confidences[id] = share.confidences[i]!;
      above[id] = share.above[i]!;
    }
  }
  const confusion = confusionOf(labels, predicted, numClasses);
  const right = confusion.map((row, label) => row[label]!);
  const sum = (values: Float64Array | readonly number[]) => (values as number[]).reduce((a, b) => a + b, 0);
  return {
    testLoss: sum(losses) / images,
    testAccuracy: sum(right) / images,
    images,
    top5Accuracy: above.filter((count) => count < TOP).length / images,
    perClass: right.map((count, label) => count / Math.max(1, sum(confusion[label]!))),
    confusion,
    calibration: calibrationOf(labels, predicted, confidences),
    mostWrong: mostWrongOf(labels, predicted, confidences),
  };
}

function confusionOf(labels: Int32Array, predicted: Int32Array, numClasses: number): number[][] {
  const counts = Array.from({ length: numClasses }, () => new Array<number>(numClasses).fill(0));
  for (const [i, label] of labels.entries()) counts[label]![predicted[i]!]! += 1;
  return counts;
}

function calibrationOf(labels: Int32Array, predicted: Int32Array, confidences: Float64Array): Calibration {
  const bins = Array.from({ length: CALIBRATION_BINS }, () => ({ images: 0, confidence: 0, right: 0 }));
  for (const [i, confidence] of confidences.entries()) {
    const bin = bins[Math.min(CALIBRATION_BINS - 1, Math.floor(confidence * CALIBRATION_BINS))]!;
    bin.images += 1;
    bin.confidence += confidence;
    if (predicted[i] === labels[i]) bin.right += 1;
  }
  const gaps = bins.map(({ confidence, right }) => Math.abs(confidence - right));
  return {
    error: gaps.reduce((a, b) => a + b, 0) / labels.length,
    bins: bins.map(({ images, confidence, right }) =>
      images === 0
        ? { images, confidence: null, accuracy: null }
        : { images, confidence: confidence / images, accuracy: right / images },
    ),
  };
}

function mostWrongOf(labels: Int32Array, predicted: Int32Array, confidences: Float64Array): WrongAnswer[] {
  const wrong = [...labels.keys()].filter((i) => predicted[i] !== labels[i]);
  wrong.sort((a, b) => confidences[b]! - confidences[a]! || a - b);
  return wrong.slice(0, MOST_WRONG).map((image) => ({
    image,
    label: labels[image]!,
    predicted: predicted[image]!,
    confidence: confidences[image]!,
  }));
}
