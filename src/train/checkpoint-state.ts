/**
 * state.msgpack of a checkpoint: all that a run goes on with beside its tensors.
 *
 * Idea: order, augmentation and rates are pure functions of seed and step, so the state is a step and a few counters.
 * Must stay true: what a file holds is checked key by key before anything of it is used.
 */
import type { Normalization } from '../core/events.js';
import { decodeState, encodeState, type StateValue } from './state-file.js';

/** What a checkpoint says beside its tensors. */
export interface CheckpointState {
  readonly step: number;
  /** Passes over the training images, a fraction. */
  readonly epoch: number;
  readonly testAccuracy: number | null;
  readonly bestTestAccuracy: number | null;
  readonly classes: readonly string[];
  readonly imageSize: readonly [height: number, width: number];
  readonly normalization: Normalization;
  readonly progress: RunProgress;
}

/** Where a run is, for going on exactly there. */
export interface RunProgress {
  readonly trainImages: number;
  /** Of a step, and of a worker: they decide the bits, the number of workers does not. */
  readonly shards: number;
  readonly threadsPerWorker: number;
  /** So far. */
  readonly trainingSeconds: number;
  readonly wallSeconds: number;
  /** Length of metrics.jsonl up to what this checkpoint knows; what is after it belongs to steps that are done again. */
  readonly metricsBytes: number;
  /** Of the steps since the last `step` event at its regular place. */
  readonly losses: readonly number[];
  readonly corrects: readonly number[];
  /** The run was stopped where an evaluation was due. */
  readonly evaluationDue: boolean;
}

export function encodeCheckpointState(state: CheckpointState): Uint8Array {
  return encodeState(state as unknown as StateValue);
}

/** @throws Error that says what is wrong with the bytes. */
export function decodeCheckpointState(bytes: Uint8Array): CheckpointState {
  const value = decodeState(bytes);
  const problem = problemOf(value, STATE, 'the state');
  if (problem !== undefined) throw new Error(problem);
  return value as unknown as CheckpointState;
}

type Check = (value: StateValue) => boolean;

const isCount: Check = (value) => Number.isSafeInteger(value) && (value as number) >= 0;
const isAmount: Check = (value) => typeof value === 'number' && Number.isFinite(value) && value >= 0;
const isFractionOrNull: Check = (value) => value === null || (isAmount(value) && (value as number) <= 1);
const isFlag: Check = (value) => typeof value === 'boolean';
const isNumber: Check = (value) => typeof value === 'number';
const isText: Check = (value) => typeof value === 'string' && value.length <= 4096;
const listOf =
  (check: Check, length?: number): Check =>
  (value) =>
    Array.isArray(value) && (length === undefined || value.length === length) && value.every(check);

const PROGRESS: Readonly<Record<keyof RunProgress, Check>> = {
  trainImages: isCount,
  shards: isCount,
  threadsPerWorker: isCount,
  trainingSeconds: isAmount,
  wallSeconds: isAmount,
  metricsBytes: isCount,
  losses: listOf(isNumber),
  corrects: listOf(isNumber),
  evaluationDue: isFlag,
};

const STATE: Readonly<Record<keyof CheckpointState, Check>> = {
  step: isCount,
  epoch: isAmount,
  testAccuracy: isFractionOrNull,
  bestTestAccuracy: isFractionOrNull,
  classes: listOf(isText),
  imageSize: listOf(isCount, 2),
  normalization: (value) =>
    problemOf(value, { mean: listOf(isNumber, 3), std: listOf(isNumber, 3) }, 'normalization') === undefined,
  progress: (value) => problemOf(value, PROGRESS, 'progress') === undefined,
};

function problemOf(value: StateValue, members: Readonly<Record<string, Check>>, subject: string): string | undefined {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return `${subject} is no map`;
  const object = value as { readonly [key: string]: StateValue };
  const unknown = Object.keys(object).find((key) => !Object.hasOwn(members, key));
  if (unknown !== undefined) return `${subject} has an unknown key`;
  const wrong = Object.entries(members).find(([key, check]) => !Object.hasOwn(object, key) || !check(object[key]!));
  return wrong === undefined ? undefined : `${subject}: ${wrong[0]} is not what it should be`;
}
