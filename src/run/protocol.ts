/**
 * What the coordinator and the rank threads say to each other: plain data, over shared memory where it is large.
 *
 *   coordinator                       rank r's thread
 *     prepare     ────────────────▶   attaches to TensorFlow, builds its replica
 *     segment     ────────────────▶   steps, meeting the other ranks at each one
 *     feed        ────────────────▶   the first phase of steps alone, for `bench data`
 *                 ◀─────────────      losses, accuracies, seconds a phase
 *     evaluate    ────────────────▶   its share of the test set
 *     exportState ────────────────▶   writes its state into shared memory (one rank)
 *     stateHash   ────────────────▶   the hash of its state (all ranks)
 *     joinHosts, gatherHosts, broadcastHosts, leaveHosts    of several hosts, on rank 0: where this host meets the others
 */
import type { ArenaSpec } from '../collective/gradient-arena.js';
import type { SerializedError } from '../core/errors.js';
import type { RuntimeAddress } from '../tensorflow/runtime.js';
import type { HostPlace } from '../train/host-reduce.js';
import type { ReplicaOptions } from '../train/replica.js';
import type { Fault } from './fault.js';
import type { RankLimits } from './watchdog.js';

/** Everything a rank needs to begin. */
export interface Preparation {
  readonly rank: number;
  readonly runtime: RuntimeAddress;
  readonly arena: ArenaSpec;
  readonly limits: RankLimits;
  readonly replica: Omit<ReplicaOptions, 'onPhase' | 'hosts'>;
  /** Whether this host is one of several; rank 0 has joined them by then. */
  readonly severalHosts: boolean;
  readonly fault: Fault | null;
}

/** The steps until the next evaluation, checkpoint or report. */
export interface Segment {
  /** Counts from 1. */
  readonly firstStep: number;
  readonly numSteps: number;
  /** Of all samples of these steps, in order: [numSteps · globalBatch]. */
  readonly ids: Int32Array;
  readonly epochs: Int32Array;
  /** Of each step. */
  readonly learningRates: Float64Array;
}

export interface SegmentReport {
  readonly threadId: number;
  /** Fewer than asked when a stop was requested. */
  readonly numSteps: number;
  /** Of each step, over the global batch: the same in every rank. */
  readonly losses: Float64Array;
  readonly corrects: Float64Array;
  /** [numSteps, phases]: the times of the one clock at which they began, and their lengths. */
  readonly starts: Float64Array;
  readonly seconds: Float64Array;
  /** Of each step, within `feed`: the wait for images that are streamed; empty where they are in memory. */
  readonly waits: Float64Array;
  readonly stopRequested: boolean;
}

/** Evaluation batches `first`, `first + stride`, … of the test set. */
export interface EvaluationTask {
  readonly first: number;
  readonly stride: number;
}

/** Without the batches that a stop came before. */
export interface EvaluationShare {
  /** Index of each image in the test set, its loss, predicted class, the probability of that, and how many classes are above the label. */
  readonly ids: Int32Array;
  readonly losses: Float32Array;
  readonly predicted: Int32Array;
  readonly confidences: Float32Array;
  readonly above: Float32Array;
}

/** What a task returns: a value, or the error as data (a thrown one would lose its class at the border). */
export type Outcome<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly error: SerializedError };

/** The tasks of a rank thread: name, argument and result. */
export interface RankTasks {
  prepare: { argument: Preparation; result: { readonly threadId: number } };
  segment: { argument: Segment; result: SegmentReport };
  feed: { argument: Segment; result: { readonly waits: Float64Array } };
  evaluate: { argument: EvaluationTask; result: EvaluationShare };
  exportState: { argument: { readonly state: Float32Array }; result: null };
  stateHash: { argument: null; result: string };
  close: { argument: null; result: null };
  /** Waits for all hosts, `seconds` at most; what each brought, by rank. */
  joinHosts: {
    argument: {
      readonly runtime: RuntimeAddress;
      readonly place: HostPlace;
      readonly facts: Int32Array;
      readonly seconds: number;
    };
    result: Int32Array;
  };
  gatherHosts: { argument: { readonly values: Float32Array | Int32Array }; result: Float32Array | Int32Array };
  /** `state`, in shared memory, becomes that of host 0. */
  broadcastHosts: { argument: { readonly state: Float32Array }; result: null };
  leaveHosts: { argument: { readonly seconds: number }; result: null };
}
