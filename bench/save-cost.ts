/**
 * `npm run bench:save-cost [PAIRS]`: what saving costs a run, with and without it in turn.
 *
 * Idea: one run of ResNet-20, batch 128, two workers, that saves every 400 steps: of each 400 the first 200 pay for a save (hashes, the copy,
 * writing beside training, sync), the other 200 pay for none. That is checkpoint.everySteps 200 and none in turn, in one process, so a
 * machine whose speed drifts disturbs both alike. Goal: at most 3.5 % (CheckFreq, FAST 2021). Prints a line of JSON.
 */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { loadConfig } from '../src/config/load.js';
import { nowSeconds } from '../src/core/clock.js';
import { median, spread } from '../src/core/statistics.js';
import { train } from '../src/run/train.js';

const EVERY_STEPS = 200;
const GOAL = 0.035;

const pairs = Number(process.argv[2] ?? 5);
/** The first 200 steps warm up. */
const maxSteps = 2 * EVERY_STEPS * (pairs + 1);
const config = loadConfig({
  overrides: [
    'model.name=resnet20',
    'data.name=synthetic',
    `train={epochs: 100000, maxSteps: ${maxSteps}, globalBatch: 128}`,
    'evaluation.everyEpochs=0',
    `checkpoint={everyEpochs: 0, everySteps: ${2 * EVERY_STEPS}}`,
  ],
});
const runDir = fs.mkdtempSync(path.join(os.tmpdir(), 'dtrain-save-cost-'));
const devices = { kind: 'cpu', count: 2 } as const;
const withSave: number[] = [];
const without: number[] = [];
let last = 0;
try {
  for await (const event of train({ config, devices, configName: 'save-cost', runDir: path.join(runDir, 'run') })) {
    if (event.event !== 'step' || event.step % EVERY_STEPS !== 0) continue;
    const now = nowSeconds();
    const isSecondHalf = event.step % (2 * EVERY_STEPS) === 0;
    if (event.step > 2 * EVERY_STEPS) (isSecondHalf ? without : withSave).push(now - last);
    last = now;
    process.stderr.write(`step ${event.step} of ${maxSteps}\n`);
  }
} finally {
  fs.rmSync(runDir, { recursive: true, force: true });
}
const costs = withSave.map((seconds, i) => seconds / without[i]! - 1);
const result = {
  bench: 'save-cost',
  processor: os.cpus()[0]?.model,
  cores: os.availableParallelism(),
  everySteps: EVERY_STEPS,
  secondsWith: spread(withSave),
  secondsWithout: spread(without),
  cost: spread(costs),
  goal: GOAL,
  reached: median(costs) <= GOAL,
};
process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit(0));
