/**
 * tfjs's own optimizers in recorded functions: their learning rate is read anew at each call, and their count of steps goes on.
 *
 * Idea: an optimizer computes with numbers of JavaScript, which a recording would freeze. While one is recorded its learning rate is a
 * number that stands for an input (Recording.standInFor); whoever records (graph/compile.ts) feeds the input and counts the steps.
 */
import { type Tensor, tf } from './tfjs.js';

/** What a recorded function takes from an optimizer at each call. */
export interface OptimizerHost {
  learningRate: number;
  incrementIterations(): void;
}

/** Records for one function: gives the number that stands for the optimizer's learning rate. */
export type OptimizerRecorder = (optimizer: OptimizerHost) => number;

let recorder: OptimizerRecorder | undefined;

/** Runs `run`, with `own` told of every optimizer that is applied. */
export function withOptimizerRecorder<T>(own: OptimizerRecorder, run: () => T): T {
  const outer = recorder;
  recorder = own;
  try {
    return run();
  } finally {
    recorder = outer;
  }
}

interface Internals extends OptimizerHost {
  /** Of sgd and momentum: minus the learning rate, as a tensor. */
  c?: Tensor;
  iterations_?: number;
  applyGradients(gradients: unknown): void;
}

/** Once a thread, by startEngine. */
export function installRecordedOptimizers(): void {
  const classes = [
    tf.SGDOptimizer,
    tf.MomentumOptimizer,
    tf.RMSPropOptimizer,
    tf.AdamOptimizer,
    tf.AdamaxOptimizer,
    tf.AdagradOptimizer,
    tf.AdadeltaOptimizer,
  ];
  for (const { prototype } of classes as unknown as readonly { readonly prototype: Internals }[]) {
    const stock = prototype.applyGradients;
    prototype.applyGradients = function (gradients) {
      if (recorder) applyRecorded(this, recorder(this), () => stock.call(this, gradients));
      else stock.call(this, gradients);
    };
  }
}

function applyRecorded(optimizer: Internals, standIn: number, apply: () => void): void {
  const { learningRate, c, iterations_ } = optimizer;
  optimizer.learningRate = standIn;
  if (c) optimizer.c = tf.scalar(-standIn);
  try {
    apply();
  } finally {
    optimizer.learningRate = learningRate;
    if (c) optimizer.c = c;
    if (iterations_ === undefined) delete optimizer.iterations_;
    else optimizer.iterations_ = iterations_;
  }
}
