/** When each phase of each step began and how long it took, in one rank. Must stay true: the phases of a step come in the order of PHASES, each once. */
import { nowSeconds } from '../core/clock.js';

export class PhaseClock {
  #starts: number[] = [];
  #steps: number[] = [];

  /** Runs and times the next phase. A phase that throws is not counted; it ends the run. */
  time<T>(run: () => T): T {
    const start = nowSeconds();
    const result = run();
    this.#starts.push(start);
    this.#steps.push(nowSeconds() - start);
    return result;
  }

  /** Since the last take, [steps, phases] row by row: seconds, and the times of the one clock at which they began; and begins anew. */
  take(): { readonly starts: Float64Array; readonly seconds: Float64Array } {
    const taken = { starts: Float64Array.from(this.#starts), seconds: Float64Array.from(this.#steps) };
    this.#starts = [];
    this.#steps = [];
    return taken;
  }
}
