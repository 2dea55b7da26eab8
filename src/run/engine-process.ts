/**
 * The engine's process, seen by the supervisor: starts it, speaks to it, hears it, ends it.
 *
 * Idea: what it sends and what it prints become one sequence of messages, which ends when the process has ended and nothing is left to read.
 * Must stay true: no engine outlives this process, whatever way that ends, but by kill -9, which the engine notices itself.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { decodingEnvironment } from './decoder-pool.js';
import type { EngineBenchOptions, EngineOptions, FromEngine, ToEngine } from './engine-protocol.js';

const ENTRY = fileURLToPath(new URL('./engine-main.js', import.meta.url));
/** For what still stands in the pipes of a process that has ended. */
const DRAIN_MILLISECONDS = 1000;
/** TensorFlow's fatal lines (`2026-01-01 00:00:00.0: F file.cc:1] …`, `F0101 00:00:00.0 1 file.cc:1] …`), and those of a memory that ran out. */
const FATAL = /^(?:[\d-]{10} [\d:.]+: F |F\d{4} )|JavaScript heap out of memory|std::bad_alloc/;

/** How a process ended. */
export interface EngineEnd {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  /** Where it could not be started at all: the system's code. */
  readonly startError: string | undefined;
  /** The last line that says why it aborts. */
  readonly fatalLine: string | undefined;
}

export class EngineProcess implements Disposable {
  readonly ended: Promise<EngineEnd>;
  readonly #child: ChildProcess;
  #messages: FromEngine[] = [];
  #isOver = false;
  #wake: () => void = () => undefined;
  #fatalLine: string | undefined;

  constructor(entry = ENTRY) {
    this.#child = spawn(process.execPath, [...process.execArgv, entry, String(process.pid)], {
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
      env: decodingEnvironment(),
      serialization: 'advanced',
    });
    process.once('exit', this.#killNow);
    this.#child.on('message', (message: FromEngine) => this.#hear(message));
    const flushes = [this.#child.stdout!, this.#child.stderr!].map((stream) => this.#readLines(stream));
    this.ended = this.#end().then((end) => {
      for (const flush of flushes) flush();
      process.off('exit', this.#killNow);
      this.#isOver = true;
      this.#wake();
      return { ...end, fatalLine: this.#fatalLine };
    });
  }

  /** Undefined where it could not be started. */
  get pid(): number | undefined {
    return this.#child.pid;
  }

  run(options: EngineOptions): void {
    this.#send({ kind: 'run', options });
  }

  bench(options: EngineBenchOptions): void {
    this.#send({ kind: 'bench', options });
  }

  /** Asks it to end with its step. */
  stop(reason: string): void {
    this.#send({ kind: 'stop', reason });
  }

  kill(): void {
    this.#child.kill('SIGKILL');
  }

  [Symbol.dispose](): void {
    this.kill();
  }

  /** All that it says, in order, until it has ended. For one reader. */
  async *messages(): AsyncGenerator<FromEngine, void> {
    for (;;) {
      const messages = this.#messages;
      this.#messages = [];
      yield* messages;
      if (this.#messages.length > 0) continue;
      if (this.#isOver) return;
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  readonly #killNow = (): void => this.kill();

  #hear(message: FromEngine): void {
    this.#messages.push(message);
    this.#wake();
  }

  /** To one that has ended: nothing. */
  #send(message: ToEngine): void {
    if (this.#child.connected) this.#child.send(message, () => undefined);
  }

  /** What it prints itself is for people, line by line. Gives what tells the rest at the end. */
  #readLines(stream: NodeJS.ReadableStream): () => void {
    let rest = '';
    const tell = (line: string) => {
      if (FATAL.test(line)) this.#fatalLine = line.trim();
      this.#hear({ kind: 'warn', line });
    };
    stream.setEncoding('utf8').on('data', (chunk: string) => {
      const lines = (rest + chunk).split('\n');
      rest = lines.pop()!;
      for (const line of lines) tell(line);
    });
    return () => rest !== '' && tell(rest);
  }

  #end(): Promise<Omit<EngineEnd, 'fatalLine'>> {
    const child = this.#child;
    return new Promise((resolve) => {
      child.once('error', (error: NodeJS.ErrnoException) => {
        if (child.pid !== undefined) return; // a signal that came too late
        resolve({ code: null, signal: null, startError: error.code ?? error.message });
      });
      child.once('exit', (code, signal) => {
        const end = { code, signal, startError: undefined };
        const timer = setTimeout(() => resolve(end), DRAIN_MILLISECONDS);
        child.once('close', () => {
          clearTimeout(timer);
          resolve(end);
        });
      });
    });
  }
}
