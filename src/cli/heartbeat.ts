/**
 * A file that is touched while a run is under way, for whoever restarts what no longer moves: a container's health check.
 * Beats from the supervisor, which itself ends an engine that hangs; so a file that is old means a machine or process that is stopped.
 */
import fs from 'node:fs';

const BEAT_SECONDS = 10;

export class Heartbeat implements Disposable {
  readonly #file: string | undefined;
  readonly #timer: NodeJS.Timeout | undefined;

  /** Begins at once. Without a file there is none; where it cannot be written that is said once, and nothing else happens. */
  constructor(file: string | undefined, warn: (line: string) => void) {
    this.#file = file || undefined;
    if (this.#file === undefined || !this.#beat(warn)) return;
    this.#timer = setInterval(() => this.#beat(() => undefined), BEAT_SECONDS * 1000);
    this.#timer.unref();
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    if (this.#timer) fs.rmSync(this.#file!, { force: true });
  }

  #beat(warn: (line: string) => void): boolean {
    try {
      fs.writeFileSync(this.#file!, `${process.pid}\n`);
      return true;
    } catch (error) {
      warn(
        `DTRAIN_HEARTBEAT: ${this.#file} cannot be written (${(error as NodeJS.ErrnoException).code}); there will be no heartbeat.`,
      );
      return false;
    }
  }
}
