/**
 * Where the rows of all shards meet, as the step sees it: each rank brings its rows, all wait for each other, and each has the mean row on its device.
 * There are two kinds: shared-rows.ts (allReduce.kind: shared-memory) and device-rows.ts (allReduce.kind: tensorflow).
 */
import type { TensorHandle } from '../tensorflow/tensor-handle.js';

/** What the host is told of a mean row. */
export interface MeanReport {
  /** Every value of the row is finite. */
  readonly isFinite: boolean;
  /** Means over the global batch. */
  readonly loss: number;
  readonly correct: number;
}

export interface GradientMeeting extends Disposable {
  /** Takes over what `compute` gave for one of the rank's own shards. */
  bring(shard: number, outputs: readonly TensorHandle[]): void;
  /**
   * Waits for all ranks and makes the mean row; the same for all of them.
   * @throws DTRAIN_HANG (exit 11), DTRAIN_RANK_FAILED (exit 10), DTRAIN_HOST_LOST (exit 12).
   */
  meet(): MeanReport;
  /** The mean row on the rank's device, from one `meet` to the next. Borrowed. */
  readonly meanRow: TensorHandle;
  /** Whether the main thread asked to stop: the same for all ranks between two meetings. */
  readonly stopRequested: boolean;
  /** Sees to it that the last mean row is in the arena, where the main thread reads it. */
  keepMean(): void;
  /** Tells the other ranks that this one has failed: all who wait, or come to wait, throw at once. */
  abandon(reason: string): void;
  /** Makes a shard's row, or one value of it, what is given: for faults on purpose. */
  spoil(shard: number, value: number, index?: number): void;
}
