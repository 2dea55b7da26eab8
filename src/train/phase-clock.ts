/** How long each phase of each step took, in one rank. Must stay true: the phases of a step come in the order of PHASES, each once. */
import { nowSeconds } from '../core/clock.js';

export class PhaseClock {
  #steps: number[] = [];

  /** Runs and times the next phase. A phase that throws is not counted; it ends the run. */
  time<T>(run: () => T): T {
    const start = nowSeconds();
    const result = run();
    this.#steps.push(nowSeconds() - start);
    return result;
  }

  /** Seconds since the last take, [steps, phases] row by row; and begins anew. */
  take(): Float64Array {
    const seconds = Float64Array.from(this.#steps);
    this.#steps = [];
    return seconds;
  }
}
