/**
 * The end of a command that failed: the message on standard error, under --json an `error` event as the last line on standard output too, and
 * the exit code. No stack, unless DTRAIN_DEBUG is set.
 */
import { inspect } from 'node:util';
import { asDtrainError } from '../core/errors.js';
import type { ErrorEvent } from '../core/events.js';
import type { Context } from './context.js';

/** Gives the exit code. */
export function reportError(thrown: unknown, { console, env }: Pick<Context, 'console' | 'env'>): number {
  const error = asDtrainError(thrown);
  const { code, exitCode, message } = error;
  console.complain(message);
  if (env['DTRAIN_DEBUG']) console.complain(inspect(error));
  const event: ErrorEvent = {
    event: 'error',
    code,
    exitCode,
    message,
    rank: error.rank ?? null,
    step: error.step ?? null,
  };
  if (console.isJson) console.json(event);
  return exitCode;
}
