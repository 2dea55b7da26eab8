import assert from 'node:assert/strict';
import { test } from 'node:test';
import { learningRateAt, type Schedule } from '../src/optim/schedule.js';
import { readGoldenJson } from './support/golden.js';

interface GoldenSchedules {
  readonly cases: readonly {
    readonly schedule: Schedule;
    readonly stepsPerEpoch: number;
    readonly totalSteps: number;
    readonly learningRates: readonly number[];
  }[];
}

const RELATIVE_TOLERANCE = 1e-8;

const base: Schedule = { name: 'constant', learningRate: 0.1, warmupEpochs: 0, milestones: [], factor: 0.1, power: 1 };

/** The rates of all steps. */
function curve(schedule: Partial<Schedule>, stepsPerEpoch: number, totalSteps: number): number[] {
  return Array.from({ length: totalSteps }, (_, step) =>
    learningRateAt({ ...base, ...schedule }, step, stepsPerEpoch, totalSteps),
  );
}

for (const { schedule, stepsPerEpoch, totalSteps, learningRates } of readGoldenJson<GoldenSchedules>('schedules.json')
  .cases) {
  const title = `${schedule.name}, warm-up ${schedule.warmupEpochs} epochs of ${stepsPerEpoch} steps, ${totalSteps} steps`;
  test(`as PyTorch: ${title}`, () => {
    assert.equal(learningRates.length, totalSteps);
    for (const [step, rate] of curve(schedule, stepsPerEpoch, totalSteps).entries()) {
      const expected = learningRates[step]!;
      const error = Math.abs(rate - expected) / expected;
      assert(error <= RELATIVE_TOLERANCE, `step ${step}: expected ${expected}, got ${rate}`);
    }
  });
}

test('the paper: a tenth of the rate after 82 and again after 123 epochs of 50,000 images in batches of 128', () => {
  const paper: Schedule = { ...base, name: 'multi-step', milestones: [82, 123] };
  const at = (step: number) => learningRateAt(paper, step, 50_000 / 128, 64_063);
  assert.deepEqual([0, 32_031, 32_032, 48_046, 48_047].map(at), [0.1, 0.1, 0.1 * 0.1, 0.1 * 0.1, 0.1 * 0.1 ** 2]);
});

test('a milestone that falls on a whole step is not put off by rounding', () => {
  for (const batch of [3, 7, 49, 96, 130]) {
    const milestone = 3 * batch;
    const schedule: Schedule = { ...base, name: 'multi-step', milestones: [milestone] };
    const step = 3 * 50_000;
    assert.equal(learningRateAt(schedule, step - 1, 50_000 / batch, 2 * step), 0.1, `batch ${batch}`);
    assert.equal(learningRateAt(schedule, step, 50_000 / batch, 2 * step), 0.1 * 0.1, `batch ${batch}`);
  }
});

test('a warm-up of one step is no warm-up', () => {
  assert.deepEqual(curve({ name: 'cosine', warmupEpochs: 0.25 }, 4, 3), [0.1, 0.1, 0.05]);
});

test('runs too short for their schedule still have positive, finite rates', () => {
  for (const name of ['constant', 'multi-step', 'cosine', 'one-cycle'] as const) {
    for (const warmupEpochs of [0, 1, 2, 9]) {
      for (const totalSteps of [1, 2, 3, 4]) {
        for (const rate of curve({ name, warmupEpochs }, 1, totalSteps)) {
          assert(rate > 0 && rate <= 0.1, `${name}, warm-up ${warmupEpochs}, ${totalSteps} steps: ${rate}`);
        }
      }
    }
  }
});

test('past its end a run keeps the last rate', () => {
  assert.equal(learningRateAt({ ...base, name: 'cosine' }, 30, 4, 24), 0);
  assert.equal(learningRateAt({ ...base, name: 'one-cycle' }, 30, 4, 24), 0.1 / 25 / 1e4);
});
