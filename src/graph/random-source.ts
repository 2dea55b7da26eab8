/**
 * Math.random in the hands of dtrain: seeded while a model is made, refused while a step is recorded.
 *
 * Why: tfjs draws first weights and dropout masks in JavaScript, from Math.random. Seeded, a model starts the same from the same
 * train.seed; in a recording a number drawn in JavaScript would be the same in every step, so it is an error that names the line.
 */
import { DtrainError, ExitCode } from '../core/errors.js';
import { drawWords, Purpose, toUniform } from '../core/philox.js';
import { placeInUserCode } from './user-code.js';

/** Runs `make` with Math.random a stream of (seed, purpose "module"); of a promise, until it is settled. */
export async function withSeededRandom<T>(seed: number, make: () => T | Promise<T>): Promise<T> {
  let drawn = 0;
  const restore = replace(() => toUniform(drawWords(seed, Purpose.module, 0, drawn++)[0]));
  try {
    return await make();
  } finally {
    restore();
  }
}

/** Runs `build` with Math.random refused. */
export function withoutRandom<T>(build: () => T): T {
  const restore = replace(() => {
    throw frozenRandom('Math.random()');
  });
  try {
    return build();
  } finally {
    restore();
  }
}

/** The error of numbers that a recording would freeze. */
export function frozenRandom(what: string): DtrainError {
  const message =
    `recording step: ${what} is drawn in JavaScript${placeInUserCode()}; a recorded step would have the same numbers every time. ` +
    'Use tf.dropout, tf.randomUniform, tf.randomNormal or tf.truncatedNormal, which are drawn anew in each step, or pass the numbers in.';
  return new DtrainError('DTRAIN_RANDOM_WHILE_RECORDING', ExitCode.configuration, message);
}

function replace(random: () => number): () => void {
  const usual = Math.random;
  Math.random = random;
  return () => {
    Math.random = usual;
  };
}
