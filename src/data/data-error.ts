/**
 * Errors about the data set: exit code 5, one constructor, one way to write numbers.
 * Must stay true: what a message names (file, expected, got, cure) is in the message itself; the codes are public.
 */
import { grouped } from '../core/digits.js';
import { DtrainError, ExitCode } from '../core/errors.js';

export type DataErrorCode =
  /** Nothing on disk, and a download is not possible. The quickstart falls back to `synthetic` on this code only. */
  | 'DTRAIN_DATA_NOT_FOUND'
  /** A path that the user named does not exist or cannot be read. */
  | 'DTRAIN_DATA_PATH'
  /** Something is there, but it is not laid out as a data set. */
  | 'DTRAIN_DATA_LAYOUT'
  /** A file or archive ends too early. */
  | 'DTRAIN_DATA_TRUNCATED'
  /** A file or archive goes on after its end. */
  | 'DTRAIN_DATA_TOO_LONG'
  /** Bytes that cannot be right: an image that does not decode, a label out of range, a checksum that differs. */
  | 'DTRAIN_DATA_CORRUPT'
  /** Larger than what is read for safety or fits into shared memory. */
  | 'DTRAIN_DATA_LIMIT';

export function dataError(code: DataErrorCode, message: string, cause?: unknown): DtrainError {
  return new DtrainError(code, ExitCode.data, message, cause === undefined ? {} : { cause });
}

/** `30,730,000` */
export function digits(value: number): string {
  return grouped(value);
}

/** The first line of a foreign error's message, without a full stop at its end. */
export function firstLine(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return (message.split('\n')[0] ?? '').trim().replace(/\.$/, '');
}
