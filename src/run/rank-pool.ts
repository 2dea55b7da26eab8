/**
 * The rank threads: the door to Piscina.
 *
 * Idea: one Piscina pool of exactly one thread a rank, so rank r = thread r holds by construction and needs no scheduling. Piscina
 * would silently replace a dead thread; here a death is a failure of its rank and ends the run, and the new thread, which holds no
 * replica, refuses every task (rank-worker.ts).
 * Must stay true: all ranks' tasks of one call run at the same time, because they meet at the barrier.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Piscina } from 'piscina';
import { type DtrainError, deserializeError, ExitCode, internalError, type SerializedError } from '../core/errors.js';
import type { Outcome, RankTasks } from './protocol.js';

type TaskName = keyof RankTasks;
type Argument<T extends TaskName> = RankTasks[T]['argument'];
type Result<T extends TaskName> = RankTasks[T]['result'];

/** How long the others may take to notice that one has failed, before the run ends without them. */
const GRACE_SECONDS = 1;
const CLOSE_SECONDS = 2;
/** The code of an error that only says that another rank failed. */
const CONSEQUENCE = 'DTRAIN_RANK_FAILED';

export interface PoolCallbacks {
  /** Called with the rank whose thread died, so that the others can be told. */
  readonly onDeath: (rank: number) => void;
  /** Called when the threads are to end: makes native calls that wait for other ranks come back. */
  readonly release?: (() => void) | undefined;
}

export class RankPool {
  readonly #pools: readonly Piscina[];
  readonly #callbacks: PoolCallbacks;

  constructor(world: number, callbacks: PoolCallbacks) {
    this.#callbacks = callbacks;
    this.#pools = Array.from({ length: world }, () => newPool());
  }

  get world(): number {
    return this.#pools.length;
  }

  /**
   * Runs `task` on every rank at once, rank r with `argument(r)`; the results by rank.
   * @throws the error of the rank that failed first, not of those that stopped because of it. `watch` may end the wait by rejecting.
   */
  async runAll<T extends TaskName>(
    task: T,
    argument: (rank: number) => Argument<T>,
    watch?: Promise<never>,
  ): Promise<Result<T>[]> {
    const outcomes: (Outcome<Result<T>> | undefined)[] = this.#pools.map(() => undefined);
    let firstFailed: (() => void) | undefined;
    const failure = new Promise<void>((resolve) => (firstFailed = resolve));
    const all = Promise.all(
      this.#pools.map(async (_, rank) => {
        outcomes[rank] = await this.#outcome(rank, task, argument(rank));
        if (!outcomes[rank].ok) firstFailed!();
      }),
    );
    const givenUp = failure.then(() => delay(GRACE_SECONDS * 1000, undefined, { ref: false }));
    await Promise.race([all, givenUp, ...(watch ? [watch] : [])]);
    const culprit = culpritOf(outcomes);
    if (culprit) throw culprit;
    return outcomes.map((outcome) => (outcome as { ok: true; value: Result<T> }).value);
  }

  /** Runs `task` on one rank. `watch` may end the wait by rejecting. */
  async run<T extends TaskName>(
    rank: number,
    task: T,
    argument: Argument<T>,
    watch?: Promise<never>,
  ): Promise<Result<T>> {
    const outcome = await Promise.race([this.#outcome(rank, task, argument), ...(watch ? [watch] : [])]);
    if (!outcome.ok) throw deserializeError(outcome.error);
    return outcome.value;
  }

  /** Ends the threads; one that hangs in native code is left to the end of the process. */
  async close(): Promise<void> {
    this.#callbacks.release?.();
    const closing = Promise.allSettled(this.#pools.map((pool) => pool.destroy()));
    await Promise.race([closing, delay(CLOSE_SECONDS * 1000, undefined, { ref: false })]);
  }

  async #outcome<T extends TaskName>(rank: number, task: T, argument: Argument<T>): Promise<Outcome<Result<T>>> {
    try {
      return (await this.#pools[rank]!.run(argument, { name: task })) as Outcome<Result<T>>;
    } catch (error) {
      this.#callbacks.onDeath(rank);
      return { ok: false, error: deathOf(rank, error as Error) };
    }
  }
}

function newPool(): Piscina {
  return new Piscina({
    filename: fileURLToPath(new URL('./rank-worker.js', import.meta.url)),
    minThreads: 1,
    maxThreads: 1,
    idleTimeout: Number.POSITIVE_INFINITY,
    concurrentTasksPerWorker: 1,
    atomics: 'disabled', // the default parks the thread's event loop between tasks
  });
}

/** What a thread's death is called: a heap that ran out is out of memory, anything else a failed worker. */
function deathOf(rank: number, error: Error & { code?: string }): SerializedError {
  const outOfMemory = error.code === 'ERR_WORKER_OUT_OF_MEMORY';
  return {
    rank,
    code: outOfMemory ? 'DTRAIN_OUT_OF_MEMORY' : 'DTRAIN_WORKER_DIED',
    exitCode: outOfMemory ? ExitCode.outOfMemory : ExitCode.workerFailed,
    message: `rank ${rank}: its thread ended: ${error.message}`,
    stack: error.stack,
  };
}

/** The error that the others follow from; undefined when every rank succeeded. */
function culpritOf(outcomes: readonly (Outcome<unknown> | undefined)[]): DtrainError | undefined {
  const failures = outcomes.flatMap((outcome) => (outcome && !outcome.ok ? [outcome.error] : []));
  const culprit = failures.find(({ code }) => code !== CONSEQUENCE) ?? failures[0];
  if (culprit) return deserializeError(culprit);
  return outcomes.includes(undefined) ? internalError('a rank has no outcome and none has failed.') : undefined;
}
