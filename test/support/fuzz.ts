/**
 * Fuzzing without a tool: valid inputs are damaged by seeded mutations, and the parser must take them or throw the error that it promises,
 * in time. A case that breaks this is told with its bytes, so that it can be made a test.
 */
import { DtrainError } from '../../src/core/errors.js';
import { SeededRandom } from './seeded-random.js';

export interface FuzzTarget {
  readonly name: string;
  readonly seeds: readonly Uint8Array[];
  /** Pieces that matter to the parser. */
  readonly words: readonly (string | Uint8Array)[];
  /** Of the errors that it may throw. */
  readonly exitCode: number;
  /** Takes a case; may turn it into the real input first. */
  readonly parse: (bytes: Uint8Array, random: SeededRandom) => unknown;
}

export interface FuzzResult {
  readonly cases: number;
  readonly accepted: number;
  readonly slowestSeconds: number;
}

/** A case that takes more of the processor hangs; one that waits for ever is found by the time limit of the test. */
const LIMIT_SECONDS = 5;

/** @throws Error that shows the case which breaks the promise. */
export async function fuzz(target: FuzzTarget, cases: number, seed: number): Promise<FuzzResult> {
  const random = new SeededRandom(seed);
  let [accepted, slowestSeconds] = [0, 0];
  for (let i = 0; i < cases; i++) {
    const bytes = mutated(random, target);
    const start = process.cpuUsage();
    try {
      const result = target.parse(bytes, random);
      if (result instanceof Promise) await result;
      accepted++;
    } catch (error) {
      const isTyped = error instanceof DtrainError && error.exitCode === target.exitCode;
      if (!isTyped || !isReadable(error.message)) throw broken(target, seed, i, bytes, error);
    }
    const { user, system } = process.cpuUsage(start);
    const seconds = (user + system) / 1e6;
    if (seconds > LIMIT_SECONDS) throw broken(target, seed, i, bytes, new Error(`it took ${seconds.toFixed(1)} s`));
    slowestSeconds = Math.max(slowestSeconds, seconds);
  }
  return { cases, accepted, slowestSeconds };
}

/** One screen, and nothing that a terminal would act on. */
function isReadable(message: string): boolean {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what must not be there
  return message.length > 0 && message.length < 4000 && !/[\x00-\x09\x0b-\x1f\x7f-\x9f]/.test(message);
}

function broken({ name }: FuzzTarget, seed: number, i: number, bytes: Uint8Array, error: unknown): Error {
  const shown = Buffer.from(bytes.subarray(0, 2000)).toString('base64');
  const { stack = String(error) } = error as Error;
  return new Error(`${name}, seed ${seed}, case ${i}: ${bytes.length} bytes (base64 ${shown}): ${stack}`);
}

const EXTREMES = [0, 1, 0x7f, 0x80, 0xff];

/** A seed with one to eight mutations. */
function mutated(random: SeededRandom, { seeds, words }: FuzzTarget): Uint8Array {
  let bytes: Uint8Array = Uint8Array.from(random.pick(seeds));
  for (let left = 1 + random.below(8); left > 0; left--) {
    const at = random.below(bytes.length + 1);
    const length = 1 + random.below(random.below(4) === 0 ? 64 : 4);
    switch (random.below(9)) {
      case 0:
        if (at < bytes.length) bytes[at]! ^= 1 << random.below(8);
        break;
      case 1:
        if (at < bytes.length) bytes[at] = random.pick(EXTREMES);
        break;
      case 2:
        for (let i = at; i < Math.min(bytes.length, at + length); i++) bytes[i] = random.below(256);
        break;
      case 3: // cut
        bytes = bytes.slice(0, at);
        break;
      case 4: // leave out
        bytes = joined(bytes.subarray(0, at), bytes.subarray(at + length));
        break;
      case 5: // say twice
        bytes = joined(bytes.subarray(0, at + length), bytes.subarray(at));
        break;
      case 6: // put in
        bytes = joined(bytes.subarray(0, at), bytesOf(random.pick(words)), bytes.subarray(at));
        break;
      case 7: {
        // write over
        const word = bytesOf(random.pick(words));
        bytes = joined(bytes.subarray(0, at), word, bytes.subarray(at + word.length));
        break;
      }
      default: {
        // the rest of another
        const other = random.pick(seeds);
        bytes = joined(bytes.subarray(0, at), other.subarray(random.below(other.length + 1)));
      }
    }
  }
  return bytes.length > MAX_CASE_BYTES ? bytes.slice(0, MAX_CASE_BYTES) : bytes;
}

const MAX_CASE_BYTES = 64 * 1024;

function bytesOf(word: string | Uint8Array): Uint8Array {
  return typeof word === 'string' ? Buffer.from(word) : word;
}

function joined(...parts: Uint8Array[]): Uint8Array {
  return Uint8Array.from(Buffer.concat(parts));
}
