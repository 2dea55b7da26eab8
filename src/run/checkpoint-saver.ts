/**
 * Saving beside training: the main thread's hand on the save thread.
 *
 * Idea: the state of a step is copied once into shared memory, and another thread writes it while the ranks go on. One save is in flight;
 * the next one waits for it. What came of a save shows when the run next looks.
 * Must stay true: nobody writes the shared state while a save is in flight; a checkpoint is told of only when it is durable.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { DtrainError, deserializeError, ExitCode } from '../core/errors.js';
import type { SaveAnswer, SaveTask } from './save-thread.js';

/** Every so many saves are read back. */
const READ_BACK_EVERY = 5;

type Answer = { readonly path: string } | { readonly error: DtrainError };
export type SaveOutcome = Answer & { readonly step: number };

export class CheckpointSaver {
  readonly #thread: Worker;
  readonly #limitSeconds: number;
  #inFlight: Promise<void> = Promise.resolve();
  #outcomes: SaveOutcome[] = [];
  #numSaves = 0;

  /** A save that takes longer than `limitSeconds` has failed. */
  constructor(limitSeconds: number) {
    this.#limitSeconds = limitSeconds;
    this.#thread = new Worker(new URL('./save-thread.js', import.meta.url));
    this.#thread.unref();
  }

  /** Begins a save. Only when none is in flight (`idle`). */
  begin(task: Omit<SaveTask, 'readBack'>): void {
    this.#numSaves++;
    const answer = this.#answer({ ...task, readBack: this.#numSaves % READ_BACK_EVERY === 0 });
    this.#inFlight = answer.then((outcome) => {
      this.#outcomes.push({ step: task.saved.step, ...outcome });
    });
  }

  /** When no save is in flight. */
  async idle(): Promise<void> {
    await this.#inFlight;
  }

  /** What came of the saves that ended since the last call. */
  take(): readonly SaveOutcome[] {
    const outcomes = this.#outcomes;
    this.#outcomes = [];
    return outcomes;
  }

  /** Lets the thread end. */
  close(): void {
    this.#thread.postMessage(null);
  }

  async #answer(task: SaveTask): Promise<Answer> {
    const thread = this.#thread;
    const isAnswered = new AbortController();
    const answered = new Promise<SaveAnswer>((resolve, reject) => {
      thread.once('message', resolve).once('error', reject);
      thread.once('exit', () => reject(new Error('the thread that writes ended')));
    });
    const late = delay(this.#limitSeconds * 1000, null, { signal: isAnswered.signal });
    late.catch(() => undefined); // aborted
    thread.postMessage(task);
    try {
      const answer = await Promise.race([answered, late]);
      if (answer === null) return { error: tooSlow(task, this.#limitSeconds) };
      return 'path' in answer ? answer : { error: deserializeError(answer.error) };
    } catch (cause) {
      const text = `step ${task.saved.step}: the checkpoint was not written: ${(cause as Error).message}.`;
      return { error: new DtrainError('DTRAIN_STORAGE', ExitCode.storage, text, { cause }) };
    } finally {
      isAnswered.abort();
      for (const event of ['message', 'error', 'exit']) thread.removeAllListeners(event);
    }
  }
}

function tooSlow({ checkpoints, saved }: SaveTask, limitSeconds: number): DtrainError {
  const text = `${checkpoints}: the checkpoint of step ${saved.step} was not written within ${limitSeconds} s. Check the disk, or choose another folder with --run-dir.`;
  return new DtrainError('DTRAIN_STORAGE', ExitCode.storage, text);
}
