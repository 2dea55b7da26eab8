/**
 * What an optimizer is told, and the numbers that it is fed at each step. Without tfjs: the ranks' threads read it too.
 */
export interface OptimizerOptions {
  readonly name: 'sgd' | 'adamw' | 'lars' | 'muon';
  /** In [0, 1); adamw's β₁. */
  readonly momentum: number;
  readonly nesterov: boolean;
  readonly weightDecay: number;
  /** For sgd and lars. */
  readonly decoupled: boolean;
  /** What has no weight decay: parameters of one axis, or nothing. */
  readonly exempt: 'none' | 'norms-and-biases';
  /** Longest gradient, over all parameters; 0: any. */
  readonly clipNorm: number;
  /** Of adamw. */
  readonly beta2: number;
  readonly epsilon: number;
  /** Of lars. */
  readonly trust: number;
}

/** What an optimizer keeps of each parameter; all start at 0. */
export function optimizerSlots({ name }: Pick<OptimizerOptions, 'name'>): readonly string[] {
  return name === 'adamw' ? ['momentum', 'square'] : ['momentum'];
}

/** Length of `rates`. */
export const NUM_RATES = 3;

/** What changes from step to step: the learning rate, 1 − β₁ᵗ and 1 − β₂ᵗ. Steps count from 1. */
export function ratesOf(learningRate: number, step: number, { momentum, beta2 }: OptimizerOptions): number[] {
  return [learningRate, 1 - momentum ** step, 1 - beta2 ** step];
}
