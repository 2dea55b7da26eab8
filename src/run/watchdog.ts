/**
 * The watchdog of the main thread: finds a rank that no longer moves, also where no other rank waits for it.
 *
 * Idea: ranks note step and phase in shared memory; alive is not progressing, so the notes are watched, not the threads. Among several
 * ranks the barrier's own deadline speaks first and says who waited; this one gives it a moment.
 */
import type { ArenaSpec } from '../collective/gradient-arena.js';
import { poisonGroup, readProgress } from '../collective/progress.js';
import { DtrainError, ExitCode } from '../core/errors.js';

const INTERVAL_SECONDS = 1;
/** For the barrier to speak first. */
const HEAD_START_SECONDS = 2;

export class Watchdog implements Disposable {
  /** Rejects with DTRAIN_HANG (exit 11) when a rank stays in one phase for longer than the limit. */
  readonly alarm: Promise<never>;
  #timer: NodeJS.Timeout | undefined;

  constructor(arena: ArenaSpec, timeoutSeconds: number) {
    this.alarm = new Promise((_, reject) => {
      this.#timer = setInterval(() => {
        const stuck = readProgress(arena).find(
          ({ phase, ageSeconds }) =>
            phase !== 'idle' && phase !== 'start' && ageSeconds > timeoutSeconds + HEAD_START_SECONDS,
        );
        if (!stuck) return;
        poisonGroup(arena, stuck.rank);
        reject(hang(stuck, timeoutSeconds));
      }, INTERVAL_SECONDS * 1000);
    });
    this.alarm.catch(() => undefined); // may fire when nobody waits any more
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
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
