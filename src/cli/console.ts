/**
 * Standard output and standard error of a command.
 *
 * Idea: results go to standard output, all else to standard error, and one line of standard error may be alive: it is redrawn in place, and
 * whatever else is written first wipes it.
 * Owns both streams while a command runs. Must stay true: under --json nothing but JSON lines reaches standard output; a stream that was
 * closed, or a disk that is full, never ends a run; colours and the live line only for a person at a terminal.
 */
import type { Writable } from 'node:stream';

/** A stream that may be a terminal. */
export type OutputStream = Writable & { readonly isTTY?: boolean; readonly columns?: number };

export interface ConsoleOptions {
  readonly stdout: OutputStream;
  readonly stderr: OutputStream;
  readonly env: NodeJS.ProcessEnv;
  /** --json: JSON lines on standard output. */
  readonly isJson: boolean;
  /** --quiet: results and complaints only. */
  readonly isQuiet: boolean;
}

export type Style = 'bold' | 'dim' | 'red';
const STYLES: Readonly<Record<Style, readonly [on: number, off: number]>> = {
  bold: [1, 22],
  dim: [2, 22],
  red: [31, 39],
};
const WIPE_LINE = '\r\x1b[K';

export class Console {
  readonly isJson: boolean;
  readonly isQuiet: boolean;
  /** Whether a person at a terminal reads along: colours, and a line that is redrawn in place. */
  readonly isLive: boolean;
  readonly #stdout: OutputStream;
  readonly #stderr: OutputStream;
  readonly #closed = new Set<OutputStream>();
  #liveLine = '';

  constructor({ stdout, stderr, env, isJson, isQuiet }: ConsoleOptions) {
    this.isJson = isJson;
    this.isQuiet = isQuiet;
    this.#stdout = stdout;
    this.#stderr = stderr;
    this.isLive = stderr.isTTY === true && env['TERM'] !== 'dumb' && !env['CI'] && !env['NO_COLOR'];
    stdout.on('error', (error) => this.#close(stdout, 'standard output', error));
    stderr.on('error', (error) => this.#close(stderr, 'standard error', error));
  }

  /** A result, for people or programs. */
  out(text: string): void {
    this.#wipe();
    this.#write(this.#stdout, `${text}\n`);
  }

  json(value: object): void {
    this.out(JSON.stringify(value));
  }

  /** A line for people beside the result; dropped by --quiet and --json. */
  say(text: string): void {
    if (!this.isQuiet && !this.isJson) this.complain(text);
  }

  /** A line for people that neither --quiet nor --json drops. */
  complain(text: string): void {
    this.#wipe();
    this.#write(this.#stderr, `${text}\n`);
  }

  /** Redraws the live line; one that is wider than the terminal is cut. Only where `isLive`. */
  live(text: string): void {
    const line = text.slice(0, this.columns - 1);
    this.#write(this.#stderr, `\r${line}\x1b[K`);
    this.#liveLine = line;
  }

  /** Width of the terminal in characters; 80 where there is none. */
  get columns(): number {
    return this.#stderr.columns || 80;
  }

  /** `text` in a style, where there are colours; only for standard error. */
  styled(style: Style, text: string): string {
    const [on, off] = STYLES[style];
    return this.isLive ? `\x1b[${on}m${text}\x1b[${off}m` : text;
  }

  #wipe(): void {
    if (this.#liveLine === '') return;
    this.#liveLine = '';
    this.#write(this.#stderr, WIPE_LINE);
  }

  #write(stream: OutputStream, text: string): void {
    if (!this.#closed.has(stream)) stream.write(text);
  }

  #close(stream: OutputStream, name: string, error: NodeJS.ErrnoException): void {
    if (this.#closed.has(stream)) return;
    this.#closed.add(stream);
    this.complain(`${name} takes nothing more (${error.code ?? error.message}); the run goes on without it.`);
  }
}
