/**
 * SIGINT and SIGTERM during a run: the first asks for a stop after the step, the second ends the process at once.
 * A closed terminal (SIGHUP) stops nothing. Must stay true: no handler outlives the run.
 */

/** Exit codes of the second signal: 128 and its number. */
const SECOND_SIGNAL = { SIGINT: 130, SIGTERM: 143 } as const;

export class StopOnSignal {
  readonly #controller = new AbortController();
  readonly #say: (line: string) => void;

  constructor(say: (line: string) => void) {
    this.#say = say;
    process.on('SIGINT', this.#onSignal).on('SIGTERM', this.#onSignal).on('SIGHUP', this.#onHangUp);
  }

  /** Aborted by the first signal; its reason is the name. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  [Symbol.dispose](): void {
    process.off('SIGINT', this.#onSignal).off('SIGTERM', this.#onSignal).off('SIGHUP', this.#onHangUp);
  }

  readonly #onSignal = (signal: NodeJS.Signals): void => {
    const name = signal === 'SIGTERM' ? signal : 'SIGINT';
    if (this.#controller.signal.aborted) process.exit(SECOND_SIGNAL[name]);
    this.#controller.abort(name);
    this.#say(`${name}: stopping after this step. Once more to stop at once.`);
  };

  readonly #onHangUp = (): void => {};
}
