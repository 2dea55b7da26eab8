/**
 * The engine's last net, the entry of a thread of its own: when the supervisor is gone and the engine has not ended in time, ends it.
 *
 * Idea: the engine itself notices a supervisor that is gone, by its pipe, and ends with its step. Where its main thread hangs, or a thread
 * in native code holds up its exit, nobody else is left to do so.
 */
import { parentPort, workerData } from 'node:worker_threads';

export interface GuardTask {
  /** How long the engine may go on without a supervisor. */
  readonly graceSeconds: number;
}

const POLL_SECONDS = 0.5;
/** Before there are ranks nothing is lost. */
let graceSeconds = 8;
let aloneSeconds = 0;

parentPort!.on('message', (task: GuardTask) => {
  graceSeconds = task.graceSeconds;
});
setInterval(() => {
  if (process.ppid === workerData) return;
  aloneSeconds += POLL_SECONDS;
  if (aloneSeconds > graceSeconds) process.kill(process.pid, 'SIGKILL');
}, POLL_SECONDS * 1000);
