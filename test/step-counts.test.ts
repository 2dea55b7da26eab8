/**
 * What a step of ResNet-20 is made of, counted: operations of each recorded function, calls of the C library, bytes that are copied.
 *
 * A guard: times differ from machine to machine, counts do not. Who changes one on purpose writes the new figure here, and says in
 * docs/performance.md what it brought.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { drawWords, Purpose } from '../src/core/philox.js';
import { startEngine } from '../src/graph/engine.js';
import type { RecordedOperation } from '../src/graph/recording.js';
import { makeModel } from '../src/model/catalogue.js';
import { initialWeights } from '../src/model/initial-weights.js';
import { NUM_RATES } from '../src/optim/optimizer-options.js';
import { CountedRuntime } from './support/counted-runtime.js';
import { OneRank } from './support/one-rank.js';
import { CPU_0, testRuntime } from './support/test-runtime.js';

const SHARDS = 2;
const SHARD_BATCH = 4;
const SIZE = 32;

const counted = new CountedRuntime(testRuntime());
const engine = startEngine(counted.runtime, CPU_0);
const model = makeModel(engine, { name: 'resnet20', classes: 10, shortcut: 'A', stem: 'cifar' }, [SIZE, SIZE]);

function rankOf(precision: 'float32' | 'bfloat16'): OneRank {
  const count = SHARDS * SHARD_BATCH;
  const imagesNHWC = Uint8Array.from(
    { length: count * SIZE * SIZE * 3 },
    (_, i) => drawWords(1, Purpose.synthetic, 0, i)[0] >>> 24,
  );
  const labels = Int32Array.from({ length: count }, (_, i) => i % 10);
  const normalization = { mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25] };
  const weights = {
    parameters: initialWeights(model.parameters, 0),
    means: model.statistics.map(({ channels }) => new Float32Array(channels)),
    variances: model.statistics.map(({ channels }) => new Float32Array(channels).fill(1)),
  };
  return new OneRank(
    engine,
    model,
    weights,
    { imagesNHWC, labels, height: SIZE, width: SIZE, normalization },
    {
      precision,
      shardBatch: SHARD_BATCH,
      augment: { crop: 4, flip: true, cutout: 0 },
      optimizer: { momentum: 0.9, weightDecay: 1e-4 },
    },
  );
}

/** `Conv2D 19`, a line a type, in the order of the alphabet, with the sum: of two such texts the difference is a few lines. */
function assertCounts(counts: ReadonlyMap<string, number>, expected: string, what: string): void {
  const lines = [...counts].map(([name, count]) => `${name} ${count}`).sort();
  const all = `all ${[...counts.values()].reduce((sum, count) => sum + count, 0)}`;
  const text = (of: readonly string[]) => [what, ...of].join('\n');
  assert.equal(text([...lines, all]), text(expected.split(', ')));
}

function typesOf(operations: readonly RecordedOperation[]): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const { type } of operations) counts.set(type, (counts.get(type) ?? 0) + 1);
  return counts;
}

/** Of each function; in bfloat16 only casts are added (autocast.test.ts). */
const OPERATIONS = {
  compute:
    'Add 25, ArgMax 1, AvgPool 2, AvgPoolGrad 2, BatchMatMulV2 3, BroadcastTo 2, Cast 4, ConcatV2 1, Const ' +
    '186, Conv2D 19, Conv2DBackpropFilter 19, Conv2DBackpropInput 18, Equal 1, ExpandDims 8, ' +
    'FusedBatchNormGradV3 19, FusedBatchNormV3 19, GatherV2 2, GreaterEqual 2, Less 2, LogicalAnd 3, Maximum ' +
    '2, Mean 3, Minimum 2, Mul 8, OneHot 1, PadV2 4, Placeholder 66, Range 2, ReadVariableOp 59, Relu 19, ' +
    'ReluGrad 19, Reshape 66, Slice 4, SoftmaxCrossEntropyWithLogits 1, SplitV 1, Sub 4, Sum 1, all 600',
  update:
    'Add 59, AssignSubVariableOp 1, Const 241, Mul 60, Placeholder 122, ReadVariableOp 60, Reshape 60, ' +
    'ResourceApplyMomentum 59, Slice 60, Sub 1, Unpack 1, all 724',
  evaluate:
    'Add 11, ArgMax 1, AvgPool 2, BatchMatMulV2 1, Cast 4, Const 31, Conv2D 19, FusedBatchNormV3 19, GatherV2 ' +
    '2, Greater 1, Max 1, Mean 1, Mul 2, OneHot 2, PadV2 4, Placeholder 63, ReadVariableOp 60, Relu 19, ' +
    'Reshape 2, Softmax 1, SoftmaxCrossEntropyWithLogits 1, SplitV 3, Sum 2, all 252',
} as const;

/** Of one step of one rank with two shards. */
const CALLS =
  'TFE_DeleteOp 3, TFE_DeleteTensorHandle 14, TFE_Execute 3, TFE_NewOp 3, TFE_NewTensorHandle 12, ' +
  'TFE_OpAddInput 254, TFE_OpSetDevice 3, TFE_TensorHandleResolve 2, TF_AllocateTensor 12, TF_DeleteTensor ' +
  '14, TF_GetCode 26, TF_TensorByteSize 2, TF_TensorData 14, memcpy 14, all 376';

test('ResNet-20: so many operations of each type, in each function', () => {
  using rank = rankOf('float32');
  for (const [name, expected] of Object.entries(OPERATIONS))
    assertCounts(typesOf(rank.recorded.functions[name as keyof typeof OPERATIONS].operations), expected, name);
});

test('ResNet-20 in bfloat16: so many casts', () => {
  using rank = rankOf('bfloat16');
  const casts = Object.entries(rank.recorded.functions).map(([name, { operations }]) => [
    name,
    typesOf(operations).get('Cast') ?? 0,
  ]);
  assert.deepEqual(Object.fromEntries(casts), { compute: 56, update: 0, evaluate: 33 });
});

test('a step makes so many calls of the C library and copies so many bytes, the first and each later one', () => {
  using rank = rankOf('float32');
  for (const which of ['first', 'second', 'third']) {
    counted.take();
    rank.step(0.1);
    const { calls, copiedBytes } = counted.take();
    assertCounts(calls, CALLS, `calls of the ${which} step`);
    const fed = SHARDS * (8 + SHARD_BATCH * 4 * (1 + 2 + 1 + 2)); // dropout key; index, crop, flip, cutout of each image
    const rates = 4 * (NUM_RATES + 1); // the optimizer's, and that of the averages
    assert.equal(
      copiedBytes,
      fed + rates + SHARDS * 4 * rank.layout.length,
      `bytes copied in the ${which} step: feeds, rates, rows`,
    );
  }
});

test('nothing of a step is kept', () => {
  using rank = rankOf('float32');
  rank.step(0.1);
  counted.take();
  rank.step(0.1);
  const { calls } = counted.take();
  const count = (name: string) => calls.get(name) ?? 0;
  assert.equal(count('TFE_DeleteOp'), count('TFE_NewOp'));
  assert.equal(count('TF_DeleteTensor'), count('TF_AllocateTensor') + count('TFE_TensorHandleResolve'));
});
