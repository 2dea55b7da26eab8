/**
 * Many all-reduces of small rows, all threads on one core, each coming at random times; every sum and every word beside the rows checked.
 * A process of its own, since a core is given to a process: arguments are ranks and rounds, the answer is a line of JSON.
 */
import { spawn, spawnSync } from 'node:child_process';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { Worker } from 'node:worker_threads';
import {
  type ArenaSpec,
  controlWords,
  createArena,
  RankWord,
  rankWords,
  rowBytes,
  rowOffset,
  rowStride,
  SharedWord,
} from '../../src/collective/gradient-arena.js';
import type { RankReport, RankScript } from './rank-thread.js';

export interface StressResult {
  readonly rounds: number;
  readonly wrong: number;
  readonly canaries: number;
  readonly changedCanaries: number;
}

/** Whether processes can be bound to a core here. */
export const canPin = spawnSync('taskset', ['-c', '0', 'true']).status === 0;

/** Runs the stress in a process of its own, on one core where that can be. */
export function stress(ranks: number, rounds: number): Promise<StressResult> {
  const own = [process.execPath, fileURLToPath(import.meta.url), String(ranks), String(rounds)];
  const [program, ...words] = canPin ? ['taskset', '-c', '0', ...own] : own;
  const child = spawn(program!, words, { stdio: ['ignore', 'pipe', 'inherit'] });
  let text = '';
  child.stdout.on('data', (chunk: Buffer) => {
    text += chunk.toString();
  });
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => {
      if (code === 0) resolve(JSON.parse(text) as StressResult);
      else reject(new Error(`${ranks} ranks: the process ended with ${signal ?? code}`));
    });
  });
}

const CANARY = 0x5ca1ab1e;

/** Words of the arena that nobody may write, with their places filled. */
function placeCanaries(spec: ArenaSpec): Int32Array {
  const words = new Int32Array(spec.memory.buffer);
  const free: number[] = [];
  const used = new Set<number>(Object.values(SharedWord));
  for (let rank = 0; rank < spec.world; rank++) {
    for (const word of Object.values(RankWord)) used.add(rankWords(rank) + word);
  }
  for (let word = 0; word < controlWords(spec).length; word++) if (!used.has(word)) free.push(word);
  for (let row = 0; row <= spec.shards; row++) {
    const start = (rowOffset(spec, row) + rowBytes(spec)) / 4;
    const end = Math.min(words.length, (rowOffset(spec, row) + rowStride(spec)) / 4);
    for (let word = start; word < end; word++) free.push(word);
  }
  for (const word of free) words[word] = CANARY;
  return Int32Array.from(free);
}

async function run(ranks: number, rounds: number): Promise<StressResult> {
  const spec = createArena({ world: ranks, shards: ranks, rowLength: 37 });
  const canaries = placeCanaries(spec);
  const script: RankScript = { act: 'sum', rounds, delay: true };
  const reports = await Promise.all(
    Array.from({ length: ranks }, (_, rank) => {
      const workerData = { spec, rank, timeoutSeconds: 600, script };
      const thread = new Worker(new URL('./rank-thread.js', import.meta.url), { workerData });
      return new Promise<RankReport>((resolve, reject) => thread.once('message', resolve).once('error', reject));
    }),
  );
  const words = new Int32Array(spec.memory.buffer);
  return {
    rounds: Math.min(...reports.map((report) => report.rounds)),
    wrong: reports.reduce((sum, { wrong }) => sum + wrong, 0),
    canaries: canaries.length,
    changedCanaries: canaries.filter((word) => words[word] !== CANARY).length,
  };
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const [ranks, rounds] = process.argv.slice(2).map(Number);
  console.log(JSON.stringify(await run(ranks!, rounds!)));
}
