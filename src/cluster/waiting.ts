/**
 * What people read while the hosts of a run wait for each other, and when the wait is over. Pure.
 *
 * Idea: a host that never answered may still copy its image, so it is late and not lost; who waits says each time for whom, how long it has
 * waited and how long it will. Not started again by its supervisor: it has waited as long as was asked.
 */
import { DtrainError, ExitCode } from '../core/errors.js';

export interface Wait {
  readonly seconds: number;
  readonly mostSeconds: number;
}

/** `silent`: the hosts that do not answer (health.ts); undefined where all do and yet not all have come to the meeting. */
export function stillWaiting(silent: string | undefined, { seconds, mostSeconds }: Wait): string {
  const time = `${Math.round(seconds)} s of at most ${mostSeconds} s`;
  if (silent !== undefined) return `cluster: still waiting for ${silent}, ${time}`;
  return `cluster: still waiting, ${time}: all hosts are up, but not all are ready; one may be reading its data`;
}

/** After `mostSeconds` (exit 12). */
export function hostMissing(silent: string | undefined, mostSeconds: number, cause: unknown): DtrainError {
  const what =
    silent === undefined
      ? `all hosts are up, but not all were ready within ${mostSeconds} s`
      : `${silent} did not come within ${mostSeconds} s`;
  const text =
    `cluster: ${what}. Look at the output there, and whether the port can be reached from here; then start all hosts again. ` +
    'Where a host needs longer to start, set cluster.waitSeconds.';
  return new DtrainError('DTRAIN_HOST_MISSING', ExitCode.hostLost, text, { cause });
}
