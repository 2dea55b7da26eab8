/**
 * What people see while XLA compiles the step, which may take a minute and more where no earlier run left it in the cache: each rank compiles for
 * its own device, all at once, inside the first step's compute.
 * Says nothing where that takes no time. Main thread.
 */
import type { RankProgress } from '../collective/progress.js';
import { nowSeconds } from '../core/clock.js';

/** After so many seconds, and then each so many, there is a line. */
const FIRST_LINE_SECONDS = 2;
const LINE_SECONDS = 10;
const INTERVAL_MILLISECONDS = 1000;

export interface CompileNoticeOptions {
  readonly readProgress: () => readonly RankProgress[];
  /** Of this process. */
  readonly firstStep: number;
  readonly say: (line: string) => void;
}

export class CompileNotice implements Disposable {
  readonly #options: CompileNoticeOptions;
  readonly #startedAt: number;
  readonly #timer: NodeJS.Timeout;
  #saidAt: number | undefined;
  #isOver = false;

  constructor(options: CompileNoticeOptions) {
    this.#options = options;
    this.#startedAt = nowSeconds();
    this.#timer = setInterval(() => this.look(nowSeconds()), INTERVAL_MILLISECONDS);
  }

  /** Says what is due. `now`: seconds of the process clock. */
  look(now: number): void {
    if (this.#isOver) return;
    const { readProgress, firstStep, say } = this.#options;
    const ranks = readProgress();
    const done = ranks.filter((rank) => hasCompiled(rank, firstStep)).length;
    const seconds = Math.round(now - this.#startedAt);
    if (done === ranks.length) {
      this.#isOver = true;
      if (this.#saidAt !== undefined) say(`XLA: compiled in ${seconds} s`);
    } else if (this.#saidAt === undefined) {
      if (now - this.#startedAt < FIRST_LINE_SECONDS) return;
      this.#saidAt = now;
      say(`XLA: compiling the step for ${devices(ranks.length)}; the next run finds it in the cache`);
    } else if (now - this.#saidAt >= LINE_SECONDS) {
      this.#saidAt = now;
      say(`XLA: compiled for ${done} of ${ranks.length} devices, ${seconds} s so far`);
    }
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    this.look(nowSeconds());
    this.#isOver = true;
  }
}

function hasCompiled({ step, phase }: RankProgress, firstStep: number): boolean {
  return step > firstStep || (step === firstStep && phase !== 'feed' && phase !== 'compute');
}

function devices(count: number): string {
  return count === 1 ? '1 device' : `${count} devices at once`;
}
