/** A thread that fuzzes one target; the threads behind check-fuzz.ts. */
import { parentPort, workerData } from 'node:worker_threads';
import { fuzz } from './fuzz.js';
import { FUZZ_TARGETS } from './fuzz-targets.js';

const { name, cases, seed } = workerData as { name: string; cases: number; seed: number };
parentPort!.postMessage(await fuzz(await FUZZ_TARGETS[name]!(), cases, seed));
