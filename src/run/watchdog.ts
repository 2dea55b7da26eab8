/**
 * The watchdog of the main thread: finds a rank that no longer moves, also where no other rank waits for it.
 *
 * Idea: ranks note step and phase in shared memory; alive is not progressing, so the notes are watched, not the threads. Among several
 * ranks the barrier's own deadline speaks first and says who waited; this one gives it a moment. It counts its own rounds, not the clock, so
 * that a process that was stopped (Ctrl-Z), or a machine that slept, raises no alarm.
 */
import type { ArenaSpec } from '../collective/gradient-arena.js';
import { poisonGroup, type RankPhase, type RankProgress, readProgress } from '../collective/progress.js';
import { nowSeconds } from '../core/clock.js';
import { DtrainError, ExitCode } from '../core/errors.js';

const INTERVAL_SECONDS = 1;
const CLOCK_TOLERANCE_SECONDS = 0.05;
/** For the barrier to speak first. */
const HEAD_START_SECONDS = 2;
/** The first step compiles, and touches memory for the first time. */
const FIRST_STEP_FACTOR = 10;
const MAX_FIRST_STEP_SECONDS = 600;

/** How long a rank may stay in one phase, and others wait for it. */
export interface RankLimits {
  readonly timeoutSeconds: number;
  /** In the first step of the process. */
  readonly firstStepSeconds: number;
}

export function limitsOf(timeoutSeconds: number): RankLimits {
  const longer = Math.min(MAX_FIRST_STEP_SECONDS, FIRST_STEP_FACTOR * timeoutSeconds);
  return { timeoutSeconds, firstStepSeconds: Math.max(timeoutSeconds, longer) };
}

export class Watchdog implements Disposable {
  /** Rejects with DTRAIN_HANG (exit 11) when a rank stays in one phase for longer than the limit. */
  readonly alarm: Promise<never>;
  #timer: NodeJS.Timeout | undefined;
  /** Of each rank: when it entered its phase, and for how many seconds of rounds that was so. */
  readonly #seen: { readonly enteredAt: number; readonly seconds: number }[] = [];

  /** `firstStep`: of the process. */
  constructor(arena: ArenaSpec, { timeoutSeconds, firstStepSeconds }: RankLimits, firstStep: number) {
    const limitOf = (step: number) => (step === firstStep ? firstStepSeconds : timeoutSeconds);
    this.alarm = new Promise((_, reject) => {
      this.#timer = setInterval(() => {
        const stuck = readProgress(arena).find((rank) => {
          return this.#stillSeconds(rank) > limitOf(rank.step) + HEAD_START_SECONDS && isWatched(rank.phase);
        });
        if (!stuck) return;
        poisonGroup(arena, stuck.rank);
        reject(hang(stuck, limitOf(stuck.step)));
      }, INTERVAL_SECONDS * 1000);
    });
    this.alarm.catch(() => undefined); // may fire when nobody waits any more
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }

  /** For how many rounds the rank has not entered a phase. */
  #stillSeconds({ rank, ageSeconds }: RankProgress): number {
    const enteredAt = nowSeconds() - ageSeconds;
    const last = this.#seen[rank];
    const isStill = last !== undefined && Math.abs(enteredAt - last.enteredAt) < CLOCK_TOLERANCE_SECONDS;
    const seconds = isStill ? last.seconds + INTERVAL_SECONDS : Math.min(ageSeconds, INTERVAL_SECONDS);
    this.#seen[rank] = { enteredAt: isStill ? last.enteredAt : enteredAt, seconds };
    return seconds;
  }
}

function isWatched(phase: RankPhase): boolean {
  return phase !== 'idle' && phase !== 'start';
}

function hang(
  { rank, step, phase }: { rank: number; step: number; phase: string },
  timeoutSeconds: number,
): DtrainError {
  const text =
    `rank ${rank}, step ${step}, ${phase}: no progress for ${timeoutSeconds} s. ` +
    'If a step takes this long here, raise allReduce.timeoutSeconds.';
  return new DtrainError('DTRAIN_HANG', ExitCode.hang, text, { rank, step, phase });
}
