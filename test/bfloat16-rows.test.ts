/** Rows of bfloat16: what a number becomes, and the kernel against the reference tree, bit for bit. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  type ArenaSpec,
  createArena,
  LOW_PER_LINE,
  lastResult,
  lowRowView,
  rowOffset,
  rowView,
  shardStride,
} from '../src/collective/gradient-arena.js';
import { instantiateKernel } from '../src/collective/kernel.js';
import { chunkOfRank, RankGroup } from '../src/collective/rank-group.js';
import { bfloat16Bits, bfloat16Value, referenceMean } from '../src/collective/reference.js';
import { attr } from '../src/tensorflow/attribute.js';
import { DType } from '../src/tensorflow/dtype.js';
import { execute } from '../src/tensorflow/execute.js';
import { tensorFrom } from '../src/tensorflow/tensor-handle.js';
import { rowLayout } from '../src/train/row-layout.js';
import { readGoldenJson } from './support/golden.js';
import { CPU_1, testRuntime } from './support/test-runtime.js';

interface GoldenRounding {
  readonly cases: readonly { readonly float32: readonly number[]; readonly bfloat16: readonly number[] }[];
}

const [golden] = readGoldenJson<GoldenRounding>('bfloat16.json').cases;
const numbers = new Float32Array(Uint32Array.from(golden!.float32).buffer);

test('numbers become the bfloat16 of PyTorch', () => {
  assert(numbers.length > 400);
  assert.deepEqual(Array.from(numbers, bfloat16Bits), golden!.bfloat16);
});

test("TensorFlow's Cast, which the step records, rounds alike", () => {
  const runtime = testRuntime();
  using values = tensorFrom(runtime, CPU_1, numbers, [numbers.length]);
  const attributes = [attr.type('SrcT', DType.float32), attr.type('DstT', DType.bfloat16)];
  using cast = execute(runtime, { name: 'Cast', inputs: [values], attributes, device: CPU_1, numOutputs: 1 })[0]!;
  assert.deepEqual([...cast.readInto(new Uint16Array(numbers.length))], golden!.bfloat16);
});

test('a bfloat16 stays itself; a NaN stays one, an infinity too', () => {
  for (let bits = 0; bits < 2 ** 16; bits++) {
    const value = bfloat16Value(bits);
    if (Number.isNaN(value)) assert(Number.isNaN(bfloat16Value(bfloat16Bits(value))));
    else assert.equal(bfloat16Bits(value), bits);
  }
});

test('no bfloat16 is nearer, and of two the even one is taken', () => {
  fc.assert(
    fc.property(fc.float({ noNaN: true, noDefaultInfinity: true, max: 2 ** 127, min: -(2 ** 127) }), (value) => {
      const bits = bfloat16Bits(value);
      const away = (other: number) => Math.abs(bfloat16Value(other) - value);
      for (const other of [bits - 1, bits + 1]) {
        if ((other & 0x7fff) > 0x7f7f || other < 0) continue;
        assert(away(bits) < away(other) || (away(bits) === away(other) && bits % 2 === 0), `${value}`);
      }
    }),
  );
});

const SPECIAL = [0, 0x8000, 1, 0x8001, 0x7f, 0x80, 0x7f7f, 0xff7f, 0x7f80, 0xff80, 0x7fc0, 0x3f80, 0xbf80, 0x4b80];
const anyBits = fc.oneof(fc.integer({ min: 0, max: 0xffff }), fc.constantFrom(...SPECIAL));

interface Rows {
  readonly low: readonly Uint16Array[];
  readonly full: readonly Float32Array[];
}

function arenaWith({ low, full }: Rows): ArenaSpec {
  const lowLength = low[0]!.length;
  const spec = createArena({ world: 1, shards: low.length, rowLength: lowLength + full[0]!.length, lowLength });
  for (const [shard, row] of low.entries()) {
    lowRowView(spec, shard).set(row);
    rowView(spec, shard).set(full[shard]!);
  }
  return spec;
}

function expectedMean({ low, full }: Rows): Float32Array {
  const rows = low.map((row, shard) => Float32Array.of(...Array.from(row, bfloat16Value), ...full[shard]!));
  return referenceMean(rows);
}

function assertSameBits(actual: Float32Array, expected: Float32Array): void {
  assert.equal(actual.length, expected.length);
  for (let i = 0; i < actual.length; i++) {
    if (!Object.is(actual[i], expected[i])) assert.fail(`element ${i}: expected ${expected[i]}, got ${actual[i]}`);
  }
}

test('the all-reduce of 1 to 17 rows, in part bfloat16, equals the reference tree bit for bit', () => {
  for (let shards = 1; shards <= 17; shards++) {
    const rowsOf = <T>(value: fc.Arbitrary<T>, length: number) =>
      fc.array(fc.array(value, { minLength: length, maxLength: length }), { minLength: shards, maxLength: shards });
    const cases = fc.integer({ min: 0, max: 3 }).chain((lines) =>
      fc.record({
        low: rowsOf(anyBits, lines * LOW_PER_LINE),
        full: rowsOf(fc.float(), 19),
      }),
    );
    const property = fc.property(cases, ({ low, full }) => {
      const rows = {
        low: low.map((row) => Uint16Array.from(row)),
        full: full.map((row) => Float32Array.from(row)),
      };
      const spec = arenaWith(rows);
      new RankGroup(spec, 0, 60).allReduceMean();
      assertSameBits(lastResult(spec), expectedMean(rows));
      for (const [shard, row] of rows.low.entries()) assert.deepEqual(lowRowView(spec, shard), row);
    });
    fc.assert(property, { numRuns: 10 });
  }
});

test('any number of ranks sums the same: the chunks of bfloat16 make up the row', () => {
  const lowLength = 70 * LOW_PER_LINE;
  const low = [0, 1, 2].map((shard) =>
    Uint16Array.from({ length: lowLength }, (_, i) => bfloat16Bits(Math.sin(i * (shard + 1)))),
  );
  const expected = expectedMean({ low, full: low.map(() => new Float32Array(0)) });
  for (const world of [1, 2, 3, 7]) {
    const spec = arenaWith({ low, full: low.map(() => new Float32Array(0)) });
    const { sumOfLowRows } = instantiateKernel(spec.memory);
    for (let rank = 0; rank < world; rank++) {
      const { start, end } = chunkOfRank(rank, world, 2 * lowLength);
      sumOfLowRows(rowOffset(spec, 0), shardStride(spec), 3, start, end, rowOffset(spec, 3), 1 / 3);
    }
    assertSameBits(rowView(spec, 3), expected);
  }
});

test('a value that is not finite is seen, in either part; a sum that overflows too', () => {
  const rows = { low: [0, 1].map(() => new Uint16Array(1024)), full: [0, 1].map(() => new Float32Array(3)) };
  const spec = arenaWith(rows);
  const group = new RankGroup(spec, 0, 60);
  const sumIsFinite = () => {
    group.allReduceMean();
    return group.resultIsFinite;
  };
  assert.equal(sumIsFinite(), true);
  for (const at of [0, 31, 32, 1023]) {
    for (const bits of [0x7f80, 0xff80, 0x7fc0]) {
      group.lowRow(1)[at] = bits;
      assert.equal(sumIsFinite(), false, `${bits} at ${at}`);
      group.lowRow(1)[at] = 0x3f80;
      assert.equal(sumIsFinite(), true);
    }
  }
  for (const shard of [0, 1]) group.lowRow(shard)[5] = 0x7f7f;
  assert.equal(sumIsFinite(), false);
  group.lowRow(0)[5] = 0;
  group.row(1)[2] = Number.NaN;
  assert.equal(sumIsFinite(), false);
});

test('a row has whole cache lines of bfloat16: of the gradients all but the last few', () => {
  const layout = rowLayout([[10, 10], [7]], [4], { slots: [], averages: false, lowGradients: true });
  assert.deepEqual([layout.length, layout.lowLength, layout.numGradients], [107 + 8 + 2, 96, 107]);
  assert.equal(rowLayout([[31]], [], { slots: [], averages: false, lowGradients: true }).lowLength, 0);
  assert.equal(rowLayout([[64]], []).lowLength, 0);
  const spec = createArena({ world: 2, shards: 2, rowLength: 117, lowLength: 96 });
  assert.equal(rowView(spec, 0).byteOffset - lowRowView(spec, 0).byteOffset, 192);
  assert.deepEqual([rowView(spec, 0).length, lowRowView(spec, 0).length, rowView(spec, 2).length], [21, 96, 117]);
  assert.throws(() => createArena({ world: 1, shards: 1, rowLength: 100, lowLength: 33 }), {
    message: 'internal: rows of 100 elements, 33 of them in bfloat16.',
  });
});
