/**
 * The words of one command line, checked: flags as the commands want them, and usage errors that say what to type instead.
 *
 * Idea: yargs only splits; what a value means is decided here, in one place and in one tone.
 * Must stay true: imports nothing but core, so that a usage error is told at once; a value is never guessed at.
 */
import { DtrainError, ExitCode } from '../core/errors.js';
import type { DeviceRequest } from '../run/devices.js';

/** Workers of one kind that a command takes at most. */
const MAX_WORKERS = 1024;

export interface Bounds {
  readonly min: number;
  readonly max: number;
}

/** `problem` ends with a full stop; `usage` is the command's line, shown under it. */
export function usageError(problem: string, usage: string): DtrainError {
  return new DtrainError('DTRAIN_USAGE', ExitCode.usage, `${problem}\nUsage: ${usage}`);
}

/** What yargs made of the words after a command. */
export class Flags {
  readonly usage: string;
  readonly #values: Readonly<Record<string, unknown>>;

  constructor(values: Readonly<Record<string, unknown>>, usage: string) {
    this.#values = values;
    this.usage = usage;
  }

  fail(problem: string): never {
    throw usageError(problem, this.usage);
  }

  isSet(name: string): boolean {
    const value = this.#values[name];
    return Array.isArray(value) ? value.includes(true) : value === true;
  }

  /** Undefined where the flag, or the word called `name`, is not there. */
  text(name: string): string | undefined {
    const value = this.#values[name];
    if (value === undefined) return undefined;
    if (Array.isArray(value)) this.fail(`--${name} is given ${value.length} times: give it once.`);
    if (value === '') this.fail(`--${name}: expected a value, got nothing.`);
    return String(value);
  }

  /** Of a flag that may stand without a value: the empty text then. */
  optionalText(name: string): string | undefined {
    return this.#values[name] === '' ? '' : this.text(name);
  }

  required(name: string, example: string): string {
    return this.text(name) ?? this.fail(`--${name} is missing: ${example}`);
  }

  count<T>(name: string, fallback: T, { min, max }: Bounds): number | T {
    const text = this.text(name);
    if (text === undefined) return fallback;
    const value = wholeNumber(text);
    if (value === undefined || value < min || value > max) {
      this.fail(`--${name}: expected a whole number from ${min} to ${max}, got ${JSON.stringify(text)}.`);
    }
    return value;
  }

  /** A number above 0. */
  positive(name: string, fallback: number): number {
    const text = this.text(name);
    if (text === undefined) return fallback;
    const value = /^([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?$/i.test(text) ? Number(text) : Number.NaN;
    if (!(value > 0 && Number.isFinite(value)))
      this.fail(`--${name}: expected a number above 0, got ${JSON.stringify(text)}.`);
    return value;
  }

  /** Bytes: `60M` is 60,000,000. `least` is in bytes. */
  size(name: string, fallback: number, least: number): number {
    const text = this.text(name);
    if (text === undefined) return fallback;
    const [, digits, unit] = /^([0-9]{1,12}(?:\.[0-9]{1,3})?)(K|M|G)B?$/i.exec(text) ?? [];
    const bytes = Math.floor(
      Number(digits) * { K: 1e3, M: 1e6, G: 1e9 }[(unit ?? 'M').toUpperCase() as 'K' | 'M' | 'G'],
    );
    if (!(bytes >= least))
      this.fail(
        `--${name}: expected a size of at least ${least / 1e6}M, such as 60M or 1G, got ${JSON.stringify(text)}.`,
      );
    return bytes;
  }

  /** A number from 0 to 1. */
  fraction(name: string): number | undefined {
    const text = this.text(name);
    if (text === undefined) return undefined;
    const value = /^[0-9]*\.?[0-9]+$/.test(text) ? Number(text) : Number.NaN;
    if (!(value >= 0 && value <= 1))
      this.fail(`--${name}: expected a number from 0 to 1, got ${JSON.stringify(text)}.`);
    return value;
  }

  /** `--gpus N` or `--cpus N`. */
  devices(): DeviceRequest | null {
    const kind = this.#deviceKind();
    if (kind === undefined) return null;
    return { kind, count: this.count(`${kind}s`, 1, { min: 1, max: MAX_WORKERS }) };
  }

  /** `--gpus 1,2,4` or `--cpus 1,2,4`. */
  deviceCounts(): { readonly kind: 'gpu' | 'cpu'; readonly counts: readonly number[] } {
    const kind = this.#deviceKind();
    if (kind === undefined) this.fail('--gpus or --cpus is missing: numbers of workers to compare, such as --cpus 1,2');
    const name = `${kind}s`;
    const text = this.text(name) ?? '';
    const counts = text.split(',').map((part) => wholeNumber(part) ?? 0);
    const isIncreasing = counts.every((count, i) => count > (counts[i - 1] ?? 0) && count <= MAX_WORKERS);
    if (!isIncreasing) {
      this.fail(
        `--${name}: expected increasing numbers from 1 to ${MAX_WORKERS}, such as 1,2,4, got ${JSON.stringify(text)}.`,
      );
    }
    return { kind, counts };
  }

  /** The KEY=VALUE words. Any other word is a usage error; `suggest` may say what was meant by it. */
  overrides(suggest: (word: string) => string | undefined = () => undefined): readonly string[] {
    const words = this.#words('overrides');
    for (const word of words) {
      if (/^[^=]+=/.test(word)) continue;
      const meant = suggest(word);
      const hint = meant === undefined ? ': expected a command or KEY=VALUE.' : ` (did you mean ${meant}?)`;
      this.fail(`unknown word ${JSON.stringify(word)}${hint}`);
    }
    return words;
  }

  /** The words of a list such as IMAGE... */
  words(name: string): readonly string[] {
    return this.#words(name);
  }

  #deviceKind(): 'gpu' | 'cpu' | undefined {
    const [gpus, cpus] = [this.text('gpus'), this.text('cpus')];
    if (gpus !== undefined && cpus !== undefined) this.fail('--gpus and --cpus exclude each other: choose one.');
    if (gpus !== undefined) return 'gpu';
    return cpus === undefined ? undefined : 'cpu';
  }

  #words(name: string): readonly string[] {
    const value = this.#values[name];
    return Array.isArray(value) ? value.map(String) : [];
  }
}

function wholeNumber(text: string): number | undefined {
  return /^[0-9]{1,15}$/.test(text) ? Number(text) : undefined;
}
