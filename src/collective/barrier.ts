/**
 * Barrier: N threads meet, nobody leaves before all have come.
 *
 * Idea: rounds are numbered and the numbers only grow. Who arrives adds one to `arrivals`; the last one, who makes it N × round, publishes
 * the round. The others look at the published round a short while and then sleep on `signal`, an event count: read it, look at the words,
 * sleep only if it still has that value. Whatever happens between the look and the sleep has changed it, so no wake-up is lost.
 *
 *   rank 0 ─▶ arrivals 1, looks, sleeps on signal ────────────────────────────────┐
 *   rank 2 ─▶ arrivals 3 = N: stop ← stopRequest, round ← 1, signal + 1, notify ─▶ all leave ◀┘
 *   rank 1 fails ─▶ poison ← 1 + 1, signal + 1, notify ─▶ all who wait, or come later, throw
 *
 * Owns nothing; borrows the control words of the arena. Must stay true: no wait without a deadline; every write that the waiting care about
 * comes before the change of `signal`; who arrives at a poisoned barrier publishes no round.
 */
import os from 'node:os';
import { nowSeconds } from '../core/clock.js';
import { DtrainError, ExitCode } from '../core/errors.js';
import { RankWord, rankWords, SharedWord } from './gradient-arena.js';
import { poisonWords, progressOfRank, signalAll } from './progress.js';

/**
 * Looks at the words before a rank sleeps. Where each rank has a core of its own, some tens of microseconds, what it costs to be woken;
 * where ranks share cores, next to none, since a rank that looks keeps another from coming.
 */
const LOOKS_ON_OWN_CORE = 4000;
const LOOKS_ON_SHARED_CORE = 50;
/** Of one sleep: a process that was stopped (Ctrl-Z) or a machine that slept adds no more to what a rank has waited. */
const SLEEP_SECONDS = 1;

export class Barrier {
  readonly #words: Int32Array;
  readonly #rank: number;
  readonly #world: number;
  readonly #looks: number;
  #round: number;

  /** Goes on at the round where this rank's last Barrier over the same words ended. */
  constructor(words: Int32Array, rank: number, world: number) {
    this.#words = words;
    this.#rank = rank;
    this.#world = world;
    this.#looks = world <= os.availableParallelism() ? LOOKS_ON_OWN_CORE : LOOKS_ON_SHARED_CORE;
    this.#round = Atomics.load(words, rankWords(rank) + RankWord.round);
  }

  /**
   * Waits for the other ranks; true on the rank that came last. Blocks its thread.
   * Throws DTRAIN_HANG after `timeoutSeconds`, naming who did not come, and DTRAIN_RANK_FAILED when another rank has failed or given up.
   * `subject` begins these messages.
   */
  meet(subject: string, timeoutSeconds: number): boolean {
    const words = this.#words;
    const round = (this.#round + 1) | 0;
    this.#round = round;
    Atomics.store(words, rankWords(this.#rank) + RankWord.round, round);
    const arrivals = (Atomics.add(words, SharedWord.arrivals, 1) + 1) | 0;
    if (arrivals === Math.imul(this.#world, round)) {
      this.throwIfPoisoned(subject);
      Atomics.store(words, SharedWord.stop, Atomics.load(words, SharedWord.stopRequest));
      Atomics.store(words, SharedWord.round, round);
      signalAll(words);
      return true;
    }
    this.#waitForRound(round, subject, timeoutSeconds);
    return false;
  }

  #waitForRound(round: number, subject: string, timeoutSeconds: number): void {
    const words = this.#words;
    let waitedSeconds = 0;
    let lookedAt = 0;
    for (let looks = 0; ; looks++) {
      const signal = Atomics.load(words, SharedWord.signal);
      if (Atomics.load(words, SharedWord.round) === round) return;
      this.throwIfPoisoned(subject);
      if (looks < this.#looks) continue;
      const now = nowSeconds();
      waitedSeconds += Math.min(now - (lookedAt || now), SLEEP_SECONDS);
      lookedAt = now;
      const secondsLeft = timeoutSeconds - waitedSeconds;
      if (secondsLeft <= 0) this.#giveUp(round, subject, timeoutSeconds);
      Atomics.wait(words, SharedWord.signal, signal, Math.max(1, Math.min(secondsLeft, SLEEP_SECONDS) * 1000));
    }
  }

  /** Poisons the group and throws, unless the last rank is arriving at this very moment. */
  #giveUp(round: number, subject: string, timeoutSeconds: number): void {
    const words = this.#words;
    const ranks = Array.from({ length: this.#world }, (_, rank) => rank);
    // A rank may have come, left and come to the next round by now.
    const hasCome = (rank: number) => ((Atomics.load(words, rankWords(rank) + RankWord.round) - round) | 0) >= 0;
    const missing = ranks.filter((rank) => !hasCome(rank));
    if (missing.length === 0) return;
    if (!poisonWords(words, missing[0]!)) this.throwIfPoisoned(subject);

    const { step } = progressOfRank(words, this.#rank);
    const seen = missing.map((rank) => progressOfRank(words, rank));
    const places = seen.map((other) => (other.step === step ? other.phase : `${other.phase} of step ${other.step}`));
    const message =
      `${placeOf(subject, step)}: ${ranksText(missing)} did not arrive within ${timeoutSeconds} s ` +
      `(last seen in ${places.join(', ')}); ${ranksText(ranks.filter((rank) => !missing.includes(rank)))} waited.`;
    throw new DtrainError('DTRAIN_HANG', ExitCode.hang, message, { rank: missing[0]!, step, phase: seen[0]!.phase });
  }

  /** Throws DTRAIN_RANK_FAILED where a rank has failed. */
  throwIfPoisoned(subject: string): void {
    const poison = Atomics.load(this.#words, SharedWord.poison);
    if (poison === 0) return;
    const culprit = poison - 1;
    const { step, phase } = progressOfRank(this.#words, this.#rank);
    const what =
      culprit === this.#rank ? 'came too late, the others had given up.' : `failed; rank ${this.#rank} stops.`;
    const message = `${placeOf(subject, step)}: rank ${culprit} ${what}`;
    throw new DtrainError('DTRAIN_RANK_FAILED', ExitCode.workerFailed, message, { rank: culprit, step, phase });
  }
}

function placeOf(subject: string, step: number): string {
  return step === 0 ? subject : `${subject}, step ${step}`;
}

/** `rank 3`, `ranks 0, 1, 2` */
function ranksText(ranks: readonly number[]): string {
  return `${ranks.length === 1 ? 'rank' : 'ranks'} ${ranks.join(', ')}`;
}
