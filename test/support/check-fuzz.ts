/** Fuzzing as a proof, short or long. */
import os from 'node:os';
import { Worker } from 'node:worker_threads';
import { recordProof } from '../faults/record.js';
import type { FuzzResult } from './fuzz.js';
import { FUZZ_TARGETS } from './fuzz-targets.js';

/** So many cases for each parser, of this seed. @throws where a case breaks the promise. */
export async function checkFuzz(cases: number, seed: number): Promise<void> {
  const queue = Object.keys(FUZZ_TARGETS).values();
  const failures: Error[] = [];
  const work = async () => {
    for (const name of queue) {
      try {
        const { accepted, slowestSeconds } = await inThread(name, cases, seed);
        recordProof({
          name: `Fuzz: ${name}`,
          goal: `${cases.toLocaleString('en-US')} cases without crash, hang or untyped error`,
          observed: `${cases.toLocaleString('en-US')} (seed ${seed}): ${accepted.toLocaleString('en-US')} taken, the rest refused as promised; slowest ${(slowestSeconds * 1000).toFixed(0)} ms of processor`,
          pass: true,
        });
      } catch (error) {
        failures.push(error as Error);
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(4, os.availableParallelism()) }, work));
  if (failures.length > 0) throw new AggregateError(failures, failures.map(({ message }) => message).join('\n'));
}

function inThread(name: string, cases: number, seed: number): Promise<FuzzResult> {
  const thread = new Worker(new URL('./fuzz-thread.js', import.meta.url), { workerData: { name, cases, seed } });
  return new Promise((resolve, reject) => {
    thread.once('message', resolve).once('error', reject);
    thread.once('exit', (code) => reject(new Error(`${name}: its thread ended with ${code}`)));
  });
}
