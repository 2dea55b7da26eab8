/**
 * SIGINT and SIGTERM during a run: the first asks for a stop after the step, the second for an end at once.
 * A closed terminal (SIGHUP) stops nothing. Must stay true: no handler outlives the run; the second signal ends the process whatever the run
 * does, and a third without waiting.
 */

/** Exit codes of the second signal: 128 and its number. */
const SECOND_SIGNAL = { SIGINT: 130, SIGTERM: 143 } as const;
/** What the run has to end at once by itself. */
const AT_ONCE_MILLISECONDS = 800;

export class StopOnSignal {
  readonly #first = new AbortController();
  readonly #second = new AbortController();
  readonly #say: (line: string) => void;
  #atOnceTimer: NodeJS.Timeout | undefined;

  constructor(say: (line: string) => void) {
    this.#say = say;
    process.on('SIGINT', this.#onSignal).on('SIGTERM', this.#onSignal).on('SIGHUP', this.#onHangUp);
  }

  /** Aborted by the first signal; its reason is the name. */
  get signal(): AbortSignal {
    return this.#first.signal;
  }

  /** Aborted by the second signal; its reason is the name. */
  get atOnce(): AbortSignal {
    return this.#second.signal;
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#atOnceTimer);
    process.off('SIGINT', this.#onSignal).off('SIGTERM', this.#onSignal).off('SIGHUP', this.#onHangUp);
  }

  readonly #onSignal = (signal: NodeJS.Signals): void => {
    const name = signal === 'SIGTERM' ? signal : 'SIGINT';
    if (this.#second.signal.aborted) process.exit(SECOND_SIGNAL[name]);
    if (!this.#first.signal.aborted) {
      this.#first.abort(name);
      this.#say(`${name}: stopping after this step. Once more to stop at once.`);
      return;
    }
    this.#atOnceTimer = setTimeout(() => process.exit(SECOND_SIGNAL[name]), AT_ONCE_MILLISECONDS);
    this.#second.abort(name);
  };

  readonly #onHangUp = (): void => {};
}
