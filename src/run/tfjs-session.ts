/**
 * tfjs for a program: computing on TensorFlow, and compiled functions of it.
 *
 * Must stay true: there is one engine a thread; `train` in the same program takes it over, and tensors made before are then void.
 */
import { type CompiledArgument, type CompiledResult, type CompileOptions, compileOn } from '../graph/compile.js';
import { currentEngine, type Engine, startEngine } from '../graph/engine.js';
import { tf } from '../graph/tfjs.js';
import { availableCores, openDevices } from './devices.js';

export interface TfjsOptions {
  /** Null: a GPU where there is one, else the CPU. */
  readonly device?: 'gpu' | 'cpu' | null;
  /** Of the CPU; all cores by default. */
  readonly threads?: number;
}

/**
 * tfjs with TensorFlow as its backend: eager operations run there at once. Call it before making tensors; a second call changes nothing.
 * @throws DTRAIN_LIBRARY_MISSING, DTRAIN_TOO_FEW_GPUS (exit 4).
 */
export function openTfjs(options: TfjsOptions = {}): typeof tf {
  if (!currentEngine()) openEngine(options);
  return tf;
}

/**
 * Records a function of tfjs tensors and variables into one TensorFlow function for each set of argument shapes (graph/compile.ts).
 * @returns a function that is called like `fn`; its results are ordinary tfjs tensors, which the caller (or tf.tidy) disposes.
 * @throws when called: DTRAIN_COMPILE_ARGUMENT, _RESULT, _VARIABLE (exit 2); DTRAIN_READ_WHILE_RECORDING, DTRAIN_RANDOM_WHILE_RECORDING,
 * DTRAIN_UNSUPPORTED (exit 3), which name the layer and the line.
 */
export function compile<Args extends readonly CompiledArgument[], Result extends CompiledResult>(
  fn: (...args: Args) => Result,
  options: CompileOptions = {},
): (...args: Args) => Result {
  let engine: Engine | undefined;
  let compiled: ((...args: Args) => Result) | undefined;
  return (...args) => {
    const now = currentEngine() ?? openEngine({});
    if (now !== engine || !compiled) compiled = compileOn(now, fn, options);
    engine = now;
    return compiled(...args);
  };
}

function openEngine({ device = null, threads = availableCores() }: TfjsOptions): Engine {
  const { runtime, names } = openDevices({
    request: device === null ? null : { kind: device, count: 1 },
    command: 'a program',
    defaultWorkers: 1,
    threadsPerDevice: () => threads,
  });
  return startEngine(runtime, names[0]!);
}
