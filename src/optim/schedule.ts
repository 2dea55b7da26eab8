/**
 * The learning rate of each step: a pure function of the number of finished steps.
 *
 * Idea: no state, so a resumed run, another number of ranks and a plot all read the same curve.
 * Must stay true: the values are PyTorch's schedulers', stepped once after every step (test/golden/schedules.py names the classes).
 *
 *   warm-up   (t + 1) / W of the rate at step t < W, W = the steps of warmupEpochs: the first step already moves, step W - 1 has the whole rate
 *   epochs    count from the start of the run, warm-up included; an epoch ends at the first step that completes it
 */

/** The `schedule` part of the configuration. Keys that the schedule does not use are ignored. */
export interface Schedule {
  readonly name: 'constant' | 'multi-step' | 'cosine' | 'one-cycle' | 'polynomial';
  /** The base rate; one-cycle: the peak. */
  readonly learningRate: number;
  /** One-cycle: the length of its rise; 0 means 30 % of the run. */
  readonly warmupEpochs: number;
  readonly milestones: readonly number[];
  readonly factor: number;
  readonly power: number;
}

/** The rate of the step after `step` finished ones. `stepsPerEpoch` is images / globalBatch and may be a fraction. */
export function learningRateAt(schedule: Schedule, step: number, stepsPerEpoch: number, totalSteps: number): number {
  const { name, learningRate, milestones, factor } = schedule;
  const warmupSteps = stepsOf(schedule.warmupEpochs, stepsPerEpoch);
  const warmedUp = learningRate * warmupFactor(step, warmupSteps);
  switch (name) {
    case 'constant':
      return warmedUp;
    case 'multi-step':
      return warmedUp * factor ** milestones.filter((epochs) => step >= stepsOf(epochs, stepsPerEpoch)).length;
    case 'cosine':
      return step < warmupSteps ? warmedUp : cosineRate(learningRate, step - warmupSteps, totalSteps - warmupSteps);
    case 'one-cycle':
      return oneCycleRate(learningRate, step, totalSteps, warmupSteps || ONE_CYCLE_RISE_FRACTION * totalSteps);
    case 'polynomial':
      return step < warmupSteps
        ? warmedUp
        : learningRate * Math.max(0, 1 - (step - warmupSteps) / (totalSteps - warmupSteps)) ** schedule.power;
    default:
      return name satisfies never;
  }
}

/** Steps that complete `epochs`; the margin keeps the rounding of images / globalBatch from adding one. */
function stepsOf(epochs: number, stepsPerEpoch: number): number {
  return Math.ceil(epochs * stepsPerEpoch - 1e-6);
}

/** Gradual warm-up (Goyal et al., "Accurate, large minibatch SGD", 2017, section 2.2); PyTorch's LinearLR from 1/W to 1 in W - 1 steps. */
function warmupFactor(step: number, warmupSteps: number): number {
  return step < warmupSteps ? (step + 1) / warmupSteps : 1;
}

/** Half a cosine from the rate towards 0 without restarts (Loshchilov and Hutter, "SGDR", 2017); PyTorch's CosineAnnealingLR. */
function cosineRate(learningRate: number, step: number, steps: number): number {
  return between(learningRate, 0, step / steps);
}

const ONE_CYCLE_RISE_FRACTION = 0.3;
const ONE_CYCLE_START_DIVISOR = 25;
const ONE_CYCLE_END_DIVISOR = 1e4;

/**
 * One rise from peak / 25 and one fall to peak / 250,000, each half a cosine (Smith and Topin, "Super-convergence", 2018).
 * PyTorch's OneCycleLR with cycle_momentum off: the peak is at step riseSteps - 1, a fraction where riseSteps is one.
 */
function oneCycleRate(peak: number, step: number, totalSteps: number, riseSteps: number): number {
  const start = peak / ONE_CYCLE_START_DIVISOR;
  const top = riseSteps - 1;
  if (step < top) return between(start, peak, step / top);
  return between(peak, start / ONE_CYCLE_END_DIVISOR, (step - top) / Math.max(1, totalSteps - 1 - top));
}

/** From `from` at fraction 0 to `to` at 1 and after, along half a cosine. */
function between(from: number, to: number, fraction: number): number {
  return to + ((from - to) / 2) * (1 + Math.cos(Math.PI * Math.min(1, fraction)));
}
