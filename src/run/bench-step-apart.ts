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
    };

const MAX_OUTPUT_BYTES = 2 ** 24;

export function benchStepApart(options: Omit<StepBenchOptions, 'say'>): Promise<ApartOutcome> {
  const entry = fileURLToPath(new URL('./bench-step-process.js', import.meta.url));
  const words = [entry, JSON.stringify(options)];
  return new Promise((resolve) => {
    const child = execFile(process.execPath, words, { maxBuffer: MAX_OUTPUT_BYTES }, (error, stdout, stderr) => {
      if (error === null) return resolve({ result: JSON.parse(stdout) as StepBench });
      resolve({ message: stderr.trim() || error.message, exitCode: child.exitCode, signal: child.signalCode });
    });
  });
}
