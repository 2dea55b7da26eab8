/**
 * The all-reduce as operations of TensorFlow among the devices of all ranks, recorded as one function (allReduce.kind: tensorflow).
 *
 *   own rows ─ pairwise tree ─▶ CollectiveReduceV2 ─▶ × 1 / shards ─▶ mean row, [loss, correct, all finite]
 *                               or, in one fixed order: CollectiveGatherV2 ─ pairwise tree
 *
 * On several hosts all ranks of all hosts are one group, and a row has one element more: whether its host was asked to stop. Only so do all of
 * them stop after the same step.
 *
 * Idea: rows stay on the devices. NCCL moves them between GPUs, TensorFlow's ring between any others. Of one rank there is nothing to move, of two a
 * sum has one rounding, whoever adds; of more, the order around a ring is another one for each part of the row, so that `exact` gathers all
 * ranks' sums and every device adds them in the tree that shared memory has.
 * Must stay true: with `exact` the operations on a value are those of collective/assembly/all-reduce.ts, in the same order; a rank's shards are then
 * a whole subtree, which is why their number must be a power of two (config/derive.ts).
 */
import { internalError } from '../core/errors.js';
import { attr, FLOAT_T } from '../tensorflow/attribute.js';
import { DType } from '../tensorflow/dtype.js';
import { GraphBuilder, type NodeOutput } from '../tensorflow/graph-builder.js';
import type { Runtime } from '../tensorflow/runtime.js';
import type { RowLayout } from './row-layout.js';

/** Who meets, and how. Plain data. */
export interface CollectivePlan {
  /** Ranks of all hosts. */
  readonly world: number;
  readonly hosts: number;
  readonly shardsPerRank: number;
  /** Sums in the order of shared memory, whatever it costs. */
  readonly exact: boolean;
  /** nccl: between distinct GPUs; ring: between any devices. */
  readonly hint: 'ring' | 'nccl';
}

/**
 * The recorded function. Inputs: the rank's own rows; then, of several hosts, [1] whether this one was asked to stop; then, of several ranks, group
 * size, group key and instance key. Outputs: the mean row, and [loss, correct, all finite], of several hosts with one more: whether any was asked.
 */
export interface CollectiveReduce extends CollectivePlan {
  readonly name: string;
}

/** Records it into the process's context. */
export function recordCollectiveReduce(
  runtime: Runtime,
  name: string,
  { length, loss, correct }: Pick<RowLayout, 'length' | 'loss' | 'correct'>,
  plan: CollectivePlan,
): CollectiveReduce {
  if (correct !== loss + 1) throw internalError('loss and accuracy are not side by side in a row.');
  const { world, hosts, shardsPerRank } = plan;
  using builder = new GraphBuilder(runtime);
  const add = (...operation: Parameters<GraphBuilder['add']>): NodeOutput => ({
    oper: builder.add(...operation),
    index: 0,
  });
  const ints = (...values: number[]) => builder.constant(Int32Array.from(values), [values.length], DType.int32);
  const floats = (count: number) =>
    add('Placeholder', [], [attr.type('dtype', DType.float32), attr.shape('shape', [count])]);
  const rows = Array.from({ length: shardsPerRank }, () => floats(length));
  const stops = Array.from({ length: hosts > 1 ? 1 : 0 }, () => floats(1));
  const group = Array.from({ length: world > 1 ? 3 : 0 }, () =>
    add('Placeholder', [], [attr.type('dtype', DType.int32), attr.shape('shape', [])]),
  );
  const plus = (a: NodeOutput, b: NodeOutput) => add('AddV2', [a, b], [FLOAT_T]);
  const axis = builder.constant(Int32Array.of(0), [], DType.int32);
  const joined = (...parts: NodeOutput[]) =>
    parts.length === 1 ? parts[0]! : add('ConcatV2', [parts, axis], [FLOAT_T]);
  const own = joined(treeSum(rows, plus), ...stops);
  const sum = world > 1 ? sumOfRanks(builder, own, group, length + stops.length, plan, plus) : own;
  const factor = builder.constant(Float32Array.of(1 / (world * shardsPerRank)), [], DType.float32);
  const all = add('Mul', [sum, factor], [FLOAT_T]);
  const part = (first: number, count: number) => add('Slice', [all, ints(first), ints(count)], [FLOAT_T]);
  const mean = stops.length > 0 ? part(0, length) : all;
  const lossAndCorrect = part(loss, 2);
  const areFinite = add('All', [add('IsFinite', [mean], [FLOAT_T]), ints(0)], [attr.bool('keep_dims', true)]);
  const finite = add('Cast', [areFinite], [attr.type('SrcT', DType.bool), attr.type('DstT', DType.float32)]);
  const report = joined(lossAndCorrect, finite, ...stops.map(() => part(length, 1)));
  builder.finish({ name, inputs: [...rows, ...stops, ...group], outputs: [mean, report], effects: [] });
  return { ...plan, name };
}

/** sum(lo, n) = sum(lo, h) + sum(lo + h, n − h), h the largest power of two below n: the tree of the shared-memory all-reduce. */
function treeSum<T>(rows: readonly T[], plus: (a: T, b: T) => T): T {
  if (rows.length === 1) return rows[0]!;
  const half = 2 ** Math.floor(Math.log2(rows.length - 1));
  return plus(treeSum(rows.slice(0, half), plus), treeSum(rows.slice(half), plus));
}

function sumOfRanks(
  builder: GraphBuilder,
  own: NodeOutput,
  group: readonly NodeOutput[],
  length: number,
  { world, exact, hint }: CollectivePlan,
  plus: (a: NodeOutput, b: NodeOutput) => NodeOutput,
): NodeOutput {
  const inputs = [own, ...group, []];
  const common = [FLOAT_T, attr.string('communication_hint', hint), attr.float('timeout_seconds', 0)];
  if (!(exact && world > 2)) {
    const ops = [attr.string('merge_op', 'Add'), attr.string('final_op', 'Id'), attr.int('max_subdivs_per_device', -1)];
    return { oper: builder.add('CollectiveReduceV2', inputs, [...common, ...ops]), index: 0 };
  }
  const gathered = { oper: builder.add('CollectiveGatherV2', inputs, common), index: 0 };
  builder.setShape(gathered, [world * length]);
  const axis = builder.constant(Int32Array.of(0), [], DType.int32);
  const cut = builder.add('Split', [axis, gathered], [FLOAT_T, attr.int('num_split', world)]);
  return treeSum(
    Array.from({ length: world }, (_, index) => ({ oper: cut, index })),
    plus,
  );
}
