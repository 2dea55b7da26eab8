/** Exact evaluation over all ranks: every test image once, sums by index, so that the figures do not depend on the number of ranks. */
import type { DataSet } from '../data/data-set.js';
import type { EvaluationShare } from './protocol.js';
import type { RankPool } from './rank-pool.js';

export interface EvaluationResult {
  /** Mean over images, in nats. */
  readonly testLoss: number;
  /** Fraction. */
  readonly testAccuracy: number;
  readonly images: number;
  /** Fraction of each class's images that were classified right. */
  readonly perClass: readonly number[];
}

export async function evaluateOnRanks(pool: RankPool, { classes, test }: DataSet): Promise<EvaluationResult> {
  const shares = await pool.runAll('evaluate', (rank) => ({ first: rank, stride: pool.world }));
  return merged(shares, test.labels, classes.length);
}

/** Exported for tests. @throws never; every image of `labels` must be in exactly one share. */
export function merged(shares: readonly EvaluationShare[], labels: Int32Array, numClasses: number): EvaluationResult {
  const losses = new Float64Array(labels.length);
  const predicted = new Int32Array(labels.length).fill(-1);
  for (const share of shares) {
    for (const [i, id] of share.ids.entries()) {
      losses[id] = share.losses[i]!;
      predicted[id] = share.predicted[i]!;
    }
  }
  const right = new Float64Array(numClasses);
  const total = new Float64Array(numClasses);
  for (const [i, label] of labels.entries()) {
    total[label]! += 1;
    if (predicted[i] === label) right[label]! += 1;
  }
  const sum = (values: Float64Array) => values.reduce((a, b) => a + b, 0);
  return {
    testLoss: sum(losses) / labels.length,
    testAccuracy: sum(right) / labels.length,
    images: labels.length,
    perClass: Array.from(right, (count, label) => (total[label] === 0 ? 0 : count / total[label]!)),
  };
}
