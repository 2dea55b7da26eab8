/**
 * compile(fn): a function of tfjs tensors and variables becomes one TensorFlow function for each set of argument shapes.
 *
 * Idea: the first call with new shapes runs `fn` once, with its operations recorded instead of computed. Tensors and numbers among its
 * arguments, the variables that it reads, the learning rates of the tfjs optimizers that it applies and the key of its random numbers are
 * inputs; its result and what it assigns to variables are outputs, assigned at every call.
 * Must stay true: a call does what the same call of `fn` would do eagerly, but for JavaScript's own effects, which happen while recording.
 */
import { DtrainError, ExitCode } from '../core/errors.js';
import { drawWords, Purpose } from '../core/philox.js';
import { shapeText } from '../core/shape.js';
import { DType } from '../tensorflow/dtype.js';
import { noteAssignments, registeredVariables, withValues } from './bound-variables.js';
import type { Built, CompiledFunction, Engine, InputSpec, RecordedInput } from './engine.js';
import type { GraphValue } from './graph-value.js';
import { withRandomKey } from './random-ops.js';
import { type OptimizerHost, withOptimizerRecorder } from './recorded-optimizers.js';
import { type Tensor, tf, type Variable } from './tfjs.js';

/** What a compiled function takes: tensors (float32, int32, bool) and numbers, which become float32 scalars. */
export type CompiledArgument = Tensor | number;
/** What it gives back; nothing, where it is called for what it assigns. */
// biome-ignore lint/suspicious/noConfusingVoidType: that of a function without return
export type CompiledResult = Tensor | readonly Tensor[] | { readonly [name: string]: Tensor } | null | undefined | void;

export interface CompileOptions {
  /** Of tfjs's random operations inside the function: call i after call 0 draws the numbers of (seed, i). */
  readonly seed?: number;
}

/** One recording: the function and where its inputs after the arguments come from. */
interface Recorded {
  readonly fn: CompiledFunction;
  readonly late: readonly (Variable | OptimizerHost | 'key')[];
  readonly assigned: readonly Variable[];
  readonly optimizers: readonly OptimizerHost[];
  readonly rebuild: (outputs: readonly Tensor[]) => CompiledResult;
}

const DTYPES: Readonly<Record<string, DType>> = { float32: DType.float32, int32: DType.int32, bool: DType.bool };

let numFunctions = 0;

/** See the head of this file. Called while something is recorded, the result is `fn` itself. */
export function compileOn<Args extends readonly CompiledArgument[], Result extends CompiledResult>(
  engine: Engine,
  fn: (...args: Args) => Result,
  { seed = 0 }: CompileOptions = {},
): (...args: Args) => Result {
  const known = new Map<string, Recorded>();
  let numCalls = 0;
  return (...args) => {
    if (engine.isRecording) return fn(...args);
    const call = numCalls++;
    return tf.tidy(() => {
      const tensors = args.map((arg, i) => argumentTensor(arg, i, fn.name));
      const signature = tensors.map(({ dtype, shape }) => `${dtype} ${shapeText(shape)}`).join('; ');
      const key = tf.tensor1d(randomKey(seed, call), 'int32');
      let recorded = known.get(signature);
      if (!recorded) {
        recorded = new FunctionRecorder(engine, fn as unknown as LooseFunction, tensors).record(key);
        known.set(signature, recorded);
      }
      return run(engine, recorded, tensors, key) as never;
    }) as unknown as Result;
  };
}

/** The key of the random numbers of call `call`, which counts from 0. */
export function randomKey(seed: number, call: number): Int32Array {
  const [a, b] = drawWords(seed, Purpose.dropout, call, 0);
  return Int32Array.of(a | 0, b | 0);
}

type LooseFunction = (...args: CompiledArgument[]) => CompiledResult;

function run(engine: Engine, recorded: Recorded, tensors: readonly Tensor[], key: Tensor): CompiledResult {
  const { fn, assigned, optimizers, rebuild } = recorded;
  const outputs = engine.call(fn, [...tensors, ...lateTensors(recorded.late, key)]);
  const numResults = outputs.length - assigned.length;
  for (const [i, variable] of assigned.entries()) variable.assign(outputs[numResults + i]!);
  for (const optimizer of optimizers) optimizer.incrementIterations();
  return rebuild(outputs.slice(0, numResults));
}

function lateTensors(late: Recorded['late'], key: Tensor): Tensor[] {
  return late.map((source) => {
    if (source === 'key') return key;
    return 'learningRate' in source ? tf.scalar(source.learningRate) : source;
  });
}

/** Records one function, twice where `fn` makes variables: the first time only for their first values. */
class FunctionRecorder {
  readonly #engine: Engine;
  readonly #fn: LooseFunction;
  readonly #tensors: readonly Tensor[];

  constructor(engine: Engine, fn: LooseFunction, tensors: readonly Tensor[]) {
    this.#engine = engine;
    this.#fn = fn;
    this.#tensors = tensors;
  }

  /** `key`: of this call, for the first values of variables. */
  record(key: Tensor): Recorded {
    const first = this.#attempt();
    if (first.created.length === 0) return first.recorded;
    const { late, fn } = first.recorded;
    const values = this.#engine.call(fn, [...this.#tensors, ...lateTensors(late, key)]);
    for (const [i, variable] of first.created.entries()) variable.assign(values[i]!);
    const second = this.#attempt();
    if (second.created.length > 0) {
      tf.dispose([...second.created]);
      throw newVariablesAgain(this.#fn.name, second.created[0]!);
    }
    return second.recorded;
  }

  /** Records `fn`; where it makes variables, their first values are the outputs. */
  #attempt(): { recorded: Recorded; created: readonly Variable[] } {
    const engine = this.#engine;
    const specs = this.#tensors.map(
      ({ shape, dtype }): InputSpec => ({ kind: 'tensor', shape, dtype: DTYPES[dtype]! }),
    );
    let parts: Omit<Recorded, 'fn'> | undefined;
    let created: readonly Variable[] = [];
    const name = `Compiled_${numFunctions++}`;
    const fn = engine.recordFunction({ name, precision: 'float32' }, specs, (inputs): Built => {
      const late = new LateInputs();
      const key = engine.lateInput([2], DType.int32);
      const variables = variableInputs(engine);
      const rates = new Map<OptimizerHost, number>();
      const rateOf = (optimizer: OptimizerHost) => {
        const known = rates.get(optimizer);
        if (known !== undefined) return known;
        const standIn = engine.standInFor(late.add(optimizer, engine.lateInput([], DType.float32)));
        rates.set(optimizer, standIn);
        return standIn;
      };
      const values = new Map(variables.map(([variable, input]) => [variable, input.value()]));
      const made = new NewVariables();
      const { result, assigned } = withValues(values, () =>
        made.watch(() => {
          const runFn = () => withRandomKey(key.value(), () => this.#fn(...inputs.map((input) => input.value())));
          return flattened(withOptimizerRecorder(rateOf, runFn), this.#fn.name);
        }),
      );
      created = made.variables;
      const tensors = created.length > 0 ? made.firstValues : [...result.tensors, ...assigned.values()];
      const outputs = tensors.map((tensor) => tf.clone(tensor)); // an output may be an input, or the same twice
      const read = new Set(outputs.map((tensor) => engine.graphValue(tensor)));
      const isUsed = ({ raw }: RecordedInput) => read.has(raw) || engine.isRead(raw);
      for (const [variable, input] of variables) if (isUsed(input)) late.add(variable, input);
      if (isUsed(key)) late.add('key', key);
      tf.dispose([...assigned.values()]);
      made.dispose();
      const { rebuild } = result;
      parts = { late: late.sources, assigned: [...assigned.keys()], optimizers: [...rates.keys()], rebuild };
      return { outputs, lateInputs: late.values };
    });
    return { recorded: { fn, ...parts! }, created };
  }
}

/** Inputs after the arguments, each with where its value comes from. */
class LateInputs {
  readonly sources: (Variable | OptimizerHost | 'key')[] = [];
  readonly values: GraphValue[] = [];

  add(source: Variable | OptimizerHost | 'key', input: RecordedInput): RecordedInput {
    this.sources.push(source);
    this.values.push(input.raw);
    return input;
  }
}

/** An input for each variable of this thread. */
function variableInputs(engine: Engine): (readonly [Variable, RecordedInput])[] {
  return Object.values(registeredVariables()).flatMap((variable) => {
    const dtype = DTYPES[variable.dtype];
    return dtype === undefined ? [] : [[variable, engine.lateInput(variable.shape, dtype)] as const];
  });
}

/** The variables that code makes while it is recorded, such as an optimizer's momenta, and their first values. */
class NewVariables {
  readonly #firstValues = new Map<Variable, Tensor>();
  readonly #assigned = new Map<Variable, Tensor>();
  readonly #ways = new Map<Variable, () => void>();

  get variables(): readonly Variable[] {
    return [...this.#firstValues.keys()];
  }

  /** In the same order. Kept until dispose. */
  get firstValues(): readonly Tensor[] {
    return [...this.#firstValues.values()];
  }

  /** Runs `run`; where it throws, the variables that it made are gone. */
  watch<T>(run: () => T): T {
    const engine = tf.engine() as unknown as { makeVariable(...args: unknown[]): Variable };
    engine.makeVariable = (...args) => {
      const variable = Object.getPrototypeOf(engine).makeVariable.apply(engine, args) as Variable;
      this.#firstValues.set(variable, tf.keep(variable.clone()));
      this.#ways.set(variable, noteAssignments(variable, this.#assigned));
      return variable;
    };
    try {
      return run();
    } catch (error) {
      this.dispose();
      for (const variable of this.#firstValues.keys()) variable.dispose();
      throw error;
    } finally {
      delete (engine as Partial<typeof engine>).makeVariable;
    }
  }

  /** Lets go of the values; the variables can be assigned again. */
  dispose(): void {
    for (const wayBack of this.#ways.values()) wayBack();
    tf.dispose([...this.#firstValues.values(), ...this.#assigned.values()]);
  }
}

/** A result as a list of tensors, and the way back. */
function flattened(result: CompiledResult, name: string): { tensors: Tensor[]; rebuild: Recorded['rebuild'] } {
  if (result === null || result === undefined) return { tensors: [], rebuild: () => result };
  if (result instanceof tf.Tensor) return { tensors: [result.clone()], rebuild: ([tensor]) => tensor };
  if (result instanceof Promise) {
    result.catch(() => undefined); // what went wrong is that there is a promise
    throw asynchronous(name);
  }
  const entries = Object.entries(result as Readonly<Record<string, Tensor>>);
  const other = entries.find(([, value]) => !(value instanceof tf.Tensor));
  if (typeof result !== 'object' || other)
    throw wrongResult(name, other ? `${other[0]}: ${typeof other[1]}` : typeof result);
  const rebuild = (tensors: readonly Tensor[]) =>
    Array.isArray(result) ? [...tensors] : Object.fromEntries(entries.map(([key], i) => [key, tensors[i]!]));
  return { tensors: entries.map(([, tensor]) => tensor.clone()), rebuild };
}

function argumentTensor(arg: CompiledArgument, index: number, name: string): Tensor {
  if (typeof arg === 'number') return tf.scalar(arg);
  if (arg instanceof tf.Tensor && DTYPES[arg.dtype] !== undefined) return arg;
  const got = (arg as unknown) instanceof tf.Tensor ? `a tensor of ${(arg as Tensor).dtype}` : typeof arg;
  throw compileError(
    'DTRAIN_COMPILE_ARGUMENT',
    `compiled ${named(name)}: argument ${index + 1}: expected a tensor of float32, int32 or bool, or a number, got ${got}. ` +
      'Close over what is always the same.',
  );
}

function wrongResult(name: string, got: string): DtrainError {
  return compileError(
    'DTRAIN_COMPILE_RESULT',
    `compiled ${named(name)}: result: expected a tensor, an array or a record of tensors, or nothing, got ${got}.`,
  );
}

function asynchronous(name: string): DtrainError {
  return compileError(
    'DTRAIN_COMPILE_RESULT',
    `compiled ${named(name)}: result: expected tensors, got a promise. Values cannot be awaited inside of a recording: read them from the result.`,
  );
}

function newVariablesAgain(name: string, { name: variable }: Variable): DtrainError {
  return compileError(
    'DTRAIN_COMPILE_VARIABLE',
    `compiled ${named(name)}: variable ${variable}: expected variables to be made once, got a new one at every call. Make it before the call.`,
  );
}

function named(name: string): string {
  return name || 'function';
}

function compileError(code: string, message: string): DtrainError {
  return new DtrainError(code, ExitCode.usage, message);
}
