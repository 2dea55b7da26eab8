/**
 * SIGINT and SIGTERM during a run: the first asks for a stop after the step, the second for an end at once.
 * A closed terminal (SIGHUP) stops nothing. Must stay true: the second signal ends the process whatever the run does, and a third without
 * waiting; one that comes when the run is over and the process about to end has the same exit code, and is not a death by a signal.
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
    process.off('SIGINT', exitAtOnce).off('SIGTERM', exitAtOnce); // of a run before
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
    process.on('SIGINT', exitAtOnce).on('SIGTERM', exitAtOnce);
  }

  readonly #onSignal = (signal: NodeJS.Signals): void => {
    const name = signal === 'SIGTERM' ? signal : 'SIGINT';
    if (this.#second.signal.aborted) exitAtOnce(name);
    if (!this.#first.signal.aborted) {
      this.#first.abort(name);
      this.#say(`${name}: stopping after this step. Once more to stop at once.`);
      return;
    }
    this.#atOnceTimer = setTimeout(exitAtOnce, AT_ONCE_MILLISECONDS, name);
    this.#second.abort(name);
  };

  readonly #onHangUp = (): void => {};
}

function exitAtOnce(signal: NodeJS.Signals): never {
  process.exit(signal === 'SIGTERM' ? SECOND_SIGNAL.SIGTERM : SECOND_SIGNAL.SIGINT);
}
