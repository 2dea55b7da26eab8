/** `benchStep` in a process of its own, so that no point inherits the threads, caches and memory of another, and none takes this one with it. */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { StepBench, StepBenchOptions } from './bench-step.js';

export type ApartOutcome =
  | { readonly result: StepBench }
  | {
      readonly message: string;
      /** Of the process; null where a signal ended it. */
      readonly exitCode: number | null;
      readonly signal: NodeJS.Signals | null;
      /** It was ended because its time was over. */
      readonly isLate: boolean;
    };

export interface ApartOptions {
  /** Left out: this process's own. */
  readonly env?: NodeJS.ProcessEnv;
  /** Milliseconds after which it is ended; none where left out. */
  readonly timeout?: number;
}

const MAX_OUTPUT_BYTES = 2 ** 24;

export function benchStepApart(
  options: Omit<StepBenchOptions, 'say'>,
  { env, timeout = 0 }: ApartOptions = {},
): Promise<ApartOutcome> {
  const entry = fileURLToPath(new URL('./bench-step-process.js', import.meta.url));
  const words = [entry, JSON.stringify(options)];
  const how = { maxBuffer: MAX_OUTPUT_BYTES, timeout, killSignal: 'SIGKILL', ...(env && { env }) } as const;
  return new Promise((resolve) => {
    const child = execFile(process.execPath, words, how, (error, stdout, stderr) => {
      if (error === null) return resolve({ result: JSON.parse(stdout) as StepBench });
      const [exitCode, signal] = [child.exitCode, child.signalCode];
      resolve({ message: stderr.trim() || error.message, exitCode, signal, isLate: error.killed === true });
    });
  });
}
