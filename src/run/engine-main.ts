/**
 * The entry of the engine's process: everything that is native code, and the coordinator, on behalf of a supervisor (supervise.ts).
 *
 * Idea: the same `train` as a program calls, with its events sent over a pipe; or a bench of its step. Signals are the supervisor's: the terminal sends them to
 * both processes, and only the supervisor may say what they mean.
 * Must stay true: without a supervisor it ends with its step; nothing that happens here ends it with an exit code that means success to
 * anybody, since only `done` does.
 */
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import type { RankProgress } from '../collective/progress.js';
import { useCompileCache } from '../core/compile-cache.js';
import { asDtrainError, serializeError } from '../core/errors.js';
import { loadLeanTfjs } from '../graph/lean-tfjs.js';
import { loadLibraryAhead } from '../tensorflow/library.js';
import type { EngineOptions, FromEngine, ToEngine } from './engine-protocol.js';
import type { GuardTask } from './parent-guard.js';

// Its native half would be looked for and loaded at every start, for a state of a few hundred bytes.
process.env['MSGPACKR_NATIVE_ACCELERATION_DISABLED'] ??= 'true';

const BEAT_MILLISECONDS = 1000;
/** A thread more would make the start slower. */
const GUARD_DELAY_MILLISECONDS = 3000;
/** What a run may still do without a supervisor, beyond its step. */
const SAVE_SECONDS = 10;

const stopping = new AbortController();
let ranks: () => readonly RankProgress[] = () => [];
let isRunning = false;

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => undefined);
// A reader that is gone is no reason to end.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined);
process.on('uncaughtException', (error) => void fail(error));
process.once('disconnect', onSupervisorGone);
// It may have gone while the modules above were read, when nobody heard it.
if (!process.connected) onSupervisorGone();

const order = new Promise<Exclude<ToEngine, { kind: 'stop' }>>((resolve) => {
  process.on('message', (message: ToEngine) => {
    if (message.kind === 'stop') return stopping.abort(message.reason);
    isRunning = message.kind === 'run';
    resolve(message);
  });
});
const beat = () => send({ kind: 'beat', ranks: ranks() });
setInterval(beat, BEAT_MILLISECONDS);

try {
  useCompileCache();
  loadLibraryAhead();
  loadLeanTfjs();
  const { train } = await import('./train.js');
  send({ kind: 'ready' });
  const asked = await order;
  if (asked.kind === 'run') {
    await run(train, asked.options);
    end({ kind: 'done' });
  } else {
    const { benchStep } = await import('./bench-step.js');
    const result = await benchStep({ ...asked.options, say: (line) => send({ kind: 'say', line }) });
    end({ kind: 'benched', result });
  }
} catch (error) {
  fail(error);
}

function onSupervisorGone(): void {
  stopping.abort('the supervisor is gone');
  if (!isRunning) process.kill(process.pid, 'SIGKILL'); // a thread in native code holds up an exit
}

async function run(train: typeof import('./train.js').train, options: EngineOptions): Promise<void> {
  const { limitsOf } = await import('./watchdog.js');
  const { timeoutSeconds, firstStepSeconds } = limitsOf(options.config.allReduce.timeoutSeconds);
  let graceSeconds: number | undefined;
  let guard: Worker | undefined;
  const tell = () => graceSeconds && guard?.postMessage({ graceSeconds } satisfies GuardTask);
  const allow = (seconds: number) => {
    graceSeconds = seconds + SAVE_SECONDS;
    tell();
  };
  setTimeout(() => {
    guard = startGuard();
    tell();
  }, GUARD_DELAY_MILLISECONDS);
  const events = train(
    {
      ...options,
      say: (line) => send({ kind: 'say', line }),
      warn: (line) => send({ kind: 'warn', line }),
      onProgress: (progress) => send({ kind: 'progress', progress }),
      onFolder: (runDir) => send({ kind: 'folder', runDir }),
      onRanks: (read) => {
        ranks = read;
        allow(firstStepSeconds);
        beat();
      },
    },
    stopping.signal,
  );
  for await (const event of events) {
    send({ kind: 'event', event });
    if (event.event === 'step') allow(timeoutSeconds);
  }
}

function fail(error: unknown): void {
  end({ kind: 'failed', error: serializeError(asDtrainError(error), {}) });
}

/** Says the last word. Without a supervisor nobody would end a thread that hangs in native code, which holds up an exit. */
function end(last: FromEngine): void {
  if (!process.connected) process.kill(process.pid, 'SIGKILL');
  process.send!(last, () => process.exit(last.kind === 'failed' ? 1 : 0));
}

/** A supervisor that is gone is noticed elsewhere. */
function send(message: FromEngine): void {
  process.send!(message, () => undefined);
}

function startGuard(): Worker {
  const entry = fileURLToPath(new URL('./parent-guard.js', import.meta.url));
  const worker = new Worker(entry, { workerData: Number(process.argv[2]) });
  worker.unref();
  return worker;
}
