/**
 * tf.Variables that stand for other values while code runs: how code that closes over variables is recorded with inputs in their place.
 *
 * Idea: a variable is a tensor with an identity (`id`, which tfjs's autograd follows) and a place (`dataId`, which its kernels read). Both
 * are exchanged for those of the value, so reads and gradients meet the value; an assignment is noted and changes what later reads see.
 * Must stay true: afterwards every variable holds what it held. It keeps the identity, which nobody else has: autograd may still go backwards
 * through what was recorded.
 */
import { type Tensor, type TensorInfo, tf, type Variable } from './tfjs.js';

interface Parts {
  dataId: TensorInfo['dataId'];
  id: number;
}

/** Runs `run` with each variable standing for its value. `assigned`: what the variables would hold now; kept, the caller disposes it. */
export function withValues<T>(
  values: ReadonlyMap<Variable, Tensor>,
  run: () => T,
): { readonly result: T; readonly assigned: ReadonlyMap<Variable, Tensor> } {
  const assigned = new Map<Variable, Tensor>();
  const restore = [...values].map(([variable, value]) => bind(variable, value, assigned));
  try {
    return { result: run(), assigned };
  } finally {
    for (const undo of restore) undo();
  }
}

/** Gives the way back. */
function bind(variable: Variable, value: Tensor, assigned: Map<Variable, Tensor>): () => void {
  const parts = variable as unknown as Parts;
  const wayBack = noteAssignments(variable, assigned);
  parts.dataId = value.dataId;
  parts.id = value.id;
  return wayBack;
}

/** From now on assignments to `variable` only go into `assigned`, kept, and to what is read; until the way back, which is returned. */
export function noteAssignments(variable: Variable, assigned: Map<Variable, Tensor>): () => void {
  const parts = variable as unknown as Parts;
  const { dataId } = parts;
  variable.assign = (value: Tensor) => {
    if (value.dtype !== variable.dtype || !tf.util.arraysEqual(value.shape, variable.shape)) {
      throw new Error(
        `variable ${variable.name}: expected ${variable.dtype} [${variable.shape}], got ${value.dtype} [${value.shape}]`,
      );
    }
    assigned.get(variable)?.dispose();
    const own = tf.keep(value.clone());
    assigned.set(variable, own);
    parts.dataId = own.dataId;
  };
  return () => {
    delete (variable as Partial<Pick<Variable, 'assign'>>).assign;
    parts.dataId = dataId;
  };
}

/** All variables of this thread, by name. */
export function registeredVariables(): Readonly<Record<string, Variable>> {
  return tf.engine().registeredVariables;
}
