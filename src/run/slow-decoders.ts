/** Finds that steps wait for images because the decoder threads are behind. That is no failure: it is said once. */

const SHARE = 0.1;
/** Too few steps say nothing: the first one of a run may well wait. */
const STEPS = 20;

export class SlowDecoders {
  #isFirst = true;
  #isTold = false;

  /** `waits`: of each step of a segment, in seconds, and how long the segment took. At most one line in all. */
  add(waits: Float64Array, seconds: number): string[] {
    const wasFirst = this.#isFirst;
    this.#isFirst = false;
    const counted = wasFirst ? waits.subarray(1) : waits;
    const share = counted.reduce((sum, wait) => sum + wait, 0) / seconds;
    if (this.#isTold || counted.length < STEPS || !(share > SHARE)) return [];
    this.#isTold = true;
    return [
      `data: the steps wait for images ${Math.round(100 * share)} % of their time: decoding is behind. ` +
        'More cores, smaller files or more data.memoryBytes help; dtrain bench data measures it.',
    ];
  }
}
