/**
 * What the ranks are doing, seen from outside, and how the main thread speaks to them: by words in shared memory, so that it works while
 * the ranks are inside native calls. Nothing here blocks.
 */
import { nowSeconds } from '../core/clock.js';
import { PHASES } from '../core/events.js';
import { type ArenaSpec, controlWords, RankWord, rankWords, SharedWord } from './gradient-arena.js';

/** What a rank can be in: before its first step, one of the five phases of a step, or between steps. */
export const RANK_PHASES = ['start', ...PHASES, 'evaluation', 'save', 'idle'] as const;
export type RankPhase = (typeof RANK_PHASES)[number];

export interface RankProgress {
  readonly rank: number;
  /** The step that the rank is in; 0 before the first. */
  readonly step: number;
  readonly phase: RankPhase;
  /** Since the rank entered this phase of this step (or, before its first, since the process started). */
  readonly ageSeconds: number;
}

/** The progress of every rank. Any thread. */
export function readProgress(spec: ArenaSpec): readonly RankProgress[] {
  const words = controlWords(spec);
  return Array.from({ length: spec.world }, (_, rank) => progressOfRank(words, rank));
}

/** The progress of one rank, from the control words. */
export function progressOfRank(words: Int32Array, rank: number): RankProgress {
  const own = rankWords(rank);
  const ageMilliseconds = (clockWord() - Atomics.load(words, own + RankWord.since)) >>> 0;
  return {
    rank,
    step: Atomics.load(words, own + RankWord.step),
    phase: RANK_PHASES[Atomics.load(words, own + RankWord.phase)]!,
    ageSeconds: ageMilliseconds / 1000,
  };
}

/** Notes that `rank` has entered `phase` of `step`. Only that rank's thread. */
export function writeProgress(words: Int32Array, rank: number, step: number, phase: RankPhase): void {
  const own = rankWords(rank);
  Atomics.store(words, own + RankWord.step, step);
  Atomics.store(words, own + RankWord.phase, RANK_PHASES.indexOf(phase));
  Atomics.store(words, own + RankWord.since, clockWord());
}

/** Asks all ranks to stop; they see it, all after the same all-reduce, as `RankGroup.stopRequested`. */
export function requestStop(spec: ArenaSpec): void {
  Atomics.store(controlWords(spec), SharedWord.stopRequest, 1);
}

/** Ends the group because of `rank`, for a thread that can no longer do it itself: all who wait, or come to wait, throw. */
export function poisonGroup(spec: ArenaSpec, rank: number): void {
  poisonWords(controlWords(spec), rank);
}

/** Whether a rank of the group has failed; such a group is finished. */
export function isPoisoned(spec: ArenaSpec): boolean {
  return Atomics.load(controlWords(spec), SharedWord.poison) !== 0;
}

/** Sets the poison word, if nobody has, and wakes all who wait. True for the first. */
export function poisonWords(words: Int32Array, culprit: number): boolean {
  const first = Atomics.compareExchange(words, SharedWord.poison, 0, culprit + 1) === 0;
  signalAll(words);
  return first;
}

/** Makes all who wait look at the words again. */
export function signalAll(words: Int32Array): void {
  Atomics.add(words, SharedWord.signal, 1);
  Atomics.notify(words, SharedWord.signal);
}

/** Milliseconds of the process clock, modulo 2^32: differences hold for 49 days. */
function clockWord(): number {
  return Math.floor(nowSeconds() * 1000) | 0;
}
