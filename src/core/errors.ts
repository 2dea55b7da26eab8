/**
 * Errors of dtrain: one class, a stable code, an exit code.
 *
 * Idea: a message says *where: subject: expected X, got Y. Cure. What is safe.* The code is for programs, the message for people.
 * Must stay true: codes and exit codes are public (contract, "Exit codes"); a message that begins with `internal:` is our own mistake.
 */

/** Exit codes of the command, the only table. */
export const ExitCode = {
  ok: 0,
  internal: 1,
  usage: 2,
  configuration: 3,
  environment: 4,
  data: 5,
  checkpoint: 6,
  storage: 7,
  diverged: 8,
  outOfMemory: 9,
  workerFailed: 10,
  hang: 11,
  hostLost: 12,
  nativeAbort: 13,
  stopped: 75,
  /** 128 + SIGINT, 128 + SIGTERM: asked a second time. */
  interrupted: 130,
  terminated: 143,
} as const;
export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode];

/** Where in a run something happened. Steps count from 1; `phase` is one of the five phases of a step, or another word in use there. */
export interface Place {
  readonly rank?: number;
  readonly step?: number;
  readonly phase?: string;
}

export interface DtrainErrorOptions extends Place {
  readonly cause?: unknown;
}

export class DtrainError extends Error {
  override readonly name = 'DtrainError';
  /** Stable, upper case, begins with `DTRAIN_`. */
  readonly code: string;
  readonly exitCode: ExitCode;
  readonly rank: number | undefined;
  readonly step: number | undefined;
  readonly phase: string | undefined;

  constructor(code: string, exitCode: ExitCode, message: string, options: DtrainErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.exitCode = exitCode;
    this.rank = options.rank;
    this.step = options.step;
    this.phase = options.phase;
  }
}

/** A broken invariant of ours: never the user's mistake. */
export function internalError(message: string, options: DtrainErrorOptions = {}): DtrainError {
  return new DtrainError('DTRAIN_INTERNAL', ExitCode.internal, `internal: ${message}`, options);
}

/** Any thrown value as a DtrainError; what is none is a mistake of ours. */
export function asDtrainError(thrown: unknown): DtrainError {
  if (thrown instanceof DtrainError) return thrown;
  const text = thrown instanceof Error ? thrown.message : String(thrown);
  return internalError(`${text}. This is a mistake of dtrain: DTRAIN_DEBUG=1 shows where it happened.`, {
    cause: thrown,
  });
}

/** A DtrainError as plain data, for the border between threads. */
export interface SerializedError extends Place {
  readonly code: string;
  readonly exitCode: ExitCode;
  readonly message: string;
  readonly stack: string | undefined;
}

/** Any thrown value as data; what is not a DtrainError becomes `DTRAIN_WORKER_FAILED` at `place`. */
export function serializeError(error: unknown, place: Place): SerializedError {
  if (error instanceof DtrainError) {
    const { code, exitCode, message, stack, rank, step, phase } = error;
    return { ...place, ...defined({ rank, step, phase }), code, exitCode, message, stack };
  }
  const { message, stack } = error instanceof Error ? error : { message: String(error), stack: undefined };
  return {
    ...place,
    code: 'DTRAIN_WORKER_FAILED',
    exitCode: ExitCode.workerFailed,
    message: `${placeText(place)}: ${message}`,
    stack,
  };
}

export function deserializeError(data: SerializedError): DtrainError {
  const { code, exitCode, message, stack, ...place } = data;
  return new DtrainError(code, exitCode, message, { ...place, cause: stack });
}

/** `rank 2, step 118, compute`: the parts that are known. */
export function placeText({ rank, step, phase }: Place): string {
  const parts = [
    rank === undefined ? '' : `rank ${rank}`,
    step === undefined ? '' : `step ${step}`,
    phase === undefined ? '' : phase,
  ];
  return parts.filter((part) => part !== '').join(', ') || 'dtrain';
}

/** The keys whose value is not undefined. */
function defined(place: { rank: number | undefined; step: number | undefined; phase: string | undefined }): Place {
  return Object.fromEntries(Object.entries(place).filter(([, value]) => value !== undefined));
}
