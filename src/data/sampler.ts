/**
 * Which sample comes when: the endless sequence of epoch permutations, from which batches are cut.
 *
 *   sample number   0 ........ N-1 | N ....... 2N-1 | 2N ...
 *                   permutation 0  | permutation 1  | ...          a batch may reach over a border, so every batch is full
 *
 * Idea: the permutation of an epoch is a pure function of (seed, epoch, count), so any rank, and a resumed run, knows it.
 * Must stay true: every epoch holds each id exactly once.
 */
import { drawWords, Purpose, toInteger } from '../core/philox.js';

export interface SampleOrder {
  readonly seed: number;
  /** Images of the training set. */
  readonly count: number;
  /** False: the order of the data set, in every epoch. */
  readonly shuffle: boolean;
}

export interface Samples {
  /** Indices into the training set. */
  readonly ids: Int32Array;
  /** The epoch that each sample belongs to, from 0. */
  readonly epochs: Int32Array;
}

/** Samples number `firstSample` to `firstSample + numSamples` (exclusive) of the sequence; numbers count from 0 over the whole run. */
export function sampleIds(order: SampleOrder, firstSample: number, numSamples: number): Samples {
  const ids = new Int32Array(numSamples);
  const epochs = new Int32Array(numSamples);
  let at = 0;
  while (at < numSamples) {
    const epoch = Math.floor((firstSample + at) / order.count);
    const position = (firstSample + at) % order.count;
    const length = Math.min(numSamples - at, order.count - position);
    if (order.shuffle) {
      ids.set(recentPermutation(order.seed, epoch, order.count).subarray(position, position + length), at);
    } else {
      for (let i = 0; i < length; i++) ids[at + i] = position + i;
    }
    epochs.fill(epoch, at, at + length);
    at += length;
  }
  return { ids, epochs };
}

/** A uniformly random order of 0..count-1 (Fisher-Yates; Knuth, The Art of Computer Programming 2, section 3.4.2, algorithm P). */
export function epochPermutation(seed: number, epoch: number, count: number): Int32Array {
  const ids = Int32Array.from({ length: count }, (_, i) => i);
  let words = drawWords(seed, Purpose.shuffle, epoch, 0);
  for (let last = count - 1, draw = 0; last > 0; last--, draw++) {
    if (draw % 4 === 0) words = drawWords(seed, Purpose.shuffle, epoch, draw / 4);
    const other = toInteger(words[draw % 4]!, last + 1);
    const id = ids[last]!;
    ids[last] = ids[other]!;
    ids[other] = id;
  }
  return ids;
}

/** The permutations asked for last, newest first; a batch at an epoch's border needs two. They are only read. */
const recent: { seed: number; epoch: number; count: number; ids: Int32Array }[] = [];
const KEPT = 2;

function recentPermutation(seed: number, epoch: number, count: number): Int32Array {
  const known = recent.find((entry) => entry.seed === seed && entry.epoch === epoch && entry.count === count);
  if (known !== undefined) return known.ids;
  const ids = epochPermutation(seed, epoch, count);
  recent.unshift({ seed, epoch, count, ids });
  recent.length = Math.min(recent.length, KEPT);
  return ids;
}
