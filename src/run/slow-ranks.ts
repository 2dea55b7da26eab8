/**
 * Finds a rank that is much slower than the others, step after step. That is no failure: it is said once, with the ratio.
 *
 * Idea: of each step, what a rank did by itself (waiting for others is not its own) against the median of the other ranks.
 */
import { PHASES } from '../core/events.js';
import { median } from '../core/statistics.js';

const RATIO = 2;
const STEPS_IN_A_ROW = 20;
/** Where a rank waits for the others. */
const WAITING = PHASES.indexOf('reduce');

export class SlowRanks {
  /** Of each rank: the ratios of the steps in a row that were slow. */
  readonly #ratios: number[][] = [];
  readonly #told = new Set<number>();

  /** `seconds`: of each rank, [steps, phases]. Lines about ranks that became slow. */
  add(seconds: readonly Float64Array[]): string[] {
    if (seconds.length < 2) return [];
    const ownSeconds = seconds.map(secondsOfSteps);
    const lines: string[] = [];
    for (let step = 0; step < ownSeconds[0]!.length; step++) {
      for (const [rank, own] of ownSeconds.entries()) {
        const others = ownSeconds.filter((_, other) => other !== rank).map((steps) => steps[step]!);
        const line = this.#step(rank, own[step]! / median(others));
        if (line !== undefined) lines.push(line);
      }
    }
    return lines;
  }

  #step(rank: number, ratio: number): string | undefined {
    const ratios = (this.#ratios[rank] ??= []);
    if (!(ratio > RATIO)) {
      ratios.length = 0;
      return undefined;
    }
    ratios.push(ratio);
    if (ratios.length < STEPS_IN_A_ROW || this.#told.has(rank)) return undefined;
    this.#told.add(rank);
    return `rank ${rank} is slow: ${STEPS_IN_A_ROW} steps in a row took ${median(ratios).toFixed(1)} times as long as those of the other ranks, which wait for it.`;
  }
}

/** Of each step, without waiting. */
function secondsOfSteps(phaseSeconds: Float64Array): number[] {
  return Array.from({ length: phaseSeconds.length / PHASES.length }, (_, step) => {
    const phases = phaseSeconds.subarray(step * PHASES.length, (step + 1) * PHASES.length);
    return phases.reduce((sum, seconds, phase) => (phase === WAITING ? sum : sum + seconds), 0);
  });
}
