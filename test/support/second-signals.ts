/** Runs that are told twice to stop, at random moments; shared by the short and the long test. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { nowSeconds } from '../../src/core/clock.js';
import { philox4x32, toUniform } from '../../src/core/philox.js';
import { FOR_EVER, isUsable, QUICK_RUN, SupervisedRun } from './supervised-run.js';
import { temporaryFolder } from './train-run.js';

/** Runs side by side, each a chain that resumes what the one before it left. */
const LANES = 2;
/** The first signal comes within so many seconds of the start, the second within a tenth of a second of the answer to it. */
const MAX_SECONDS = 6;
const DEADLINE_SECONDS = 1;

/**
 * Ends `count` runs by a second signal. What was seen, in words, and the slowest end in seconds.
 * @throws where an exit code, the time, what is left behind or a checkpoint is not as promised.
 */
export async function checkSecondSignals(count: number): Promise<{ observed: string; seconds: number }> {
  const slowest: number[] = [];
  const codes: Record<string, number> = {};
  const lane = async (index: number) => {
    const runDir = path.join(temporaryFolder(), 'run');
    const words = [...QUICK_RUN, FOR_EVER, 'checkpoint.everySteps=1', '--run-dir', runDir, '--resume'];
    let lastStep = 0;
    for (let i = index; i < count; i += LANES) {
      const [u, v] = philox4x32([i, 0, 0, 0], [16, 0]).map(toUniform) as [number, number, number, number];
      const run = new SupervisedRun(words);
      await run.says(/dtrain: starting/);
      await delay(u * MAX_SECONDS * 1000);
      const signal = i % 2 === 0 ? 'SIGINT' : 'SIGTERM';
      run.kill(signal);
      await run.says(/Once more/);
      await delay(v * 100);
      run.kill(signal);
      const sent = nowSeconds();
      const { code, at } = await run.ended;
      const expected = signal === 'SIGINT' ? 130 : 143;
      assert(code === expected || code === 75, `${code}: ${run.stderr}`); // 75: had stopped before
      codes[String(code)] = (codes[String(code)] ?? 0) + 1;
      if (code === expected) slowest.push(at - sent);
      await run.nothingLeft(5 * DEADLINE_SECONDS);
      if (fs.existsSync(path.join(runDir, 'checkpoints', 'last'))) {
        const step = await isUsable(runDir);
        assert(step >= lastStep, `step ${step} after ${lastStep}`);
        lastStep = step;
      }
    }
    return lastStep;
  };
  const steps = await Promise.all(Array.from({ length: LANES }, (_, index) => lane(index)));
  const seconds = Math.max(...slowest);
  assert(slowest.length > count / 4, JSON.stringify(codes));
  assert(seconds < 5 * DEADLINE_SECONDS, `${seconds} s`);
  const times = Object.entries(codes).map(([code, often]) => `${code}: ${often} times`);
  return {
    observed: `exit codes ${times.join(', ')} (75: it had stopped before); every checkpoint opened, none was lost; steps saved: ${steps.join(' and ')}`,
    seconds,
  };
}
