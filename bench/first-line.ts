/**
 * `npm run bench:first-line [PAIRS]`: from the command to dtrain's first line on the terminal.
 *
 * Idea: a run of one step is started PAIRS times, in turn with a Node that does nothing, whose time is what no program in Node can go
 * below. Goal: at most 0.2 s. Prints a line of JSON.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { nowSeconds } from '../src/core/clock.js';
import { median, spread } from '../src/core/statistics.js';

const GOAL_SECONDS = 0.2;
const MAIN = fileURLToPath(new URL('../src/cli/main.js', import.meta.url));

/** Seconds until the first byte on standard error; the process is waited for, so that two never run at once. */
async function secondsToFirstLine(words: readonly string[]): Promise<number> {
  const start = nowSeconds();
  const child = spawn(process.execPath, words, { stdio: ['ignore', 'ignore', 'pipe'] });
  const ended = once(child, 'exit');
  await once(child.stderr, 'data');
  const seconds = nowSeconds() - start;
  child.stderr.resume();
  await ended;
  return seconds;
}

const pairs = Number(process.argv[2] ?? 11);
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'dtrain-first-line-'));
const dtrain: number[] = [];
const bareNode: number[] = [];
try {
  for (let pair = -1; pair < pairs; pair++) {
    const run = ['train.maxSteps=1', 'data.name=synthetic', 'evaluation.everyEpochs=0', '--cpus', '2'];
    const words = [MAIN, '--config', 'resnet20', ...run, '--run-dir', path.join(folder, String(pair))];
    const [line, bare] = [await secondsToFirstLine(words), await secondsToFirstLine(['-e', 'console.error(1)'])];
    if (pair < 0) continue; // fills the file cache
    dtrain.push(line);
    bareNode.push(bare);
  }
} finally {
  fs.rmSync(folder, { recursive: true, force: true });
}
const result = {
  bench: 'first-line',
  processor: os.cpus()[0]?.model,
  cores: os.availableParallelism(),
  secondsToFirstLine: spread(dtrain),
  secondsOfBareNode: spread(bareNode),
  goalSeconds: GOAL_SECONDS,
  reached: median(dtrain) <= GOAL_SECONDS,
};
console.log(JSON.stringify(result));
