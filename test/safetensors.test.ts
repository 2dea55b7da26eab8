import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { DtrainError } from '../src/core/errors.js';
import {
  decodeSafetensors,
  decodeSafetensorsMetadata,
  encodeSafetensors,
  type StoredTensor,
} from '../src/core/safetensors.js';
import { sizeOf } from '../src/core/shape.js';
import { readGoldenJson } from './support/golden.js';

const golden = Buffer.from(readGoldenJson<{ base64: string }>('safetensors_file.json').base64, 'base64');

const goldenTensors = new Map<string, StoredTensor>([
  ['pixels', { dtype: 'U8', shape: [3], values: Uint8Array.of(0, 128, 255) }],
  ['Grüße', { dtype: 'F64', shape: [1], values: Float64Array.of(1e300) }],
  ['ids', { dtype: 'I32', shape: [2], values: Int32Array.of(-1, 2) }],
  ['empty', { dtype: 'F32', shape: [0, 4], values: new Float32Array(0) }],
  [
    'layer1.0.conv1.weight',
    { dtype: 'F32', shape: [2, 1, 3, 2], values: Float32Array.from({ length: 12 }, (_, i) => i / 4 - 0.5) },
  ],
  ['bn1.num_batches_tracked', { dtype: 'I64', shape: [], values: BigInt64Array.of(7n) }],
]);

/** A file from the text of its header. */
function fileOf(header: string | Uint8Array, dataBytes = 0): Uint8Array {
  const text = Buffer.from(header);
  const bytes = Buffer.alloc(8 + text.length + dataBytes);
  bytes.writeBigUInt64LE(BigInt(text.length));
  bytes.set(text, 8);
  return bytes;
}

function message(act: () => unknown): string {
  try {
    act();
  } catch (error) {
    assert(error instanceof DtrainError, String(error));
    assert.equal(error.code, 'DTRAIN_SAFETENSORS');
    assert.equal(error.exitCode, 6);
    return error.message;
  }
  assert.fail('no error');
}

/** The message for a file whose header is this JSON value. */
function messageFor(header: unknown, dataBytes = 0): string {
  return message(() => decodeSafetensors(fileOf(JSON.stringify(header), dataBytes), 'w.safetensors'));
}

const DAMAGED = 'The file is damaged or no safetensors file: export or download it again.';

test('the file of the reference implementation is read', () => {
  const tensors = decodeSafetensors(golden, 'golden');
  assert.deepEqual(new Map([...tensors].sort()), new Map([...goldenTensors].sort()));
  assert.deepEqual({ ...decodeSafetensorsMetadata(golden, 'golden') }, { format: 'pt' });
});

test('the same tensors in any order are written as the very bytes of the reference implementation', () => {
  assert.deepEqual(Buffer.from(encodeSafetensors(goldenTensors, { format: 'pt' })), golden);
  const reversed = new Map([...goldenTensors].reverse());
  assert.deepEqual(Buffer.from(encodeSafetensors(reversed, { format: 'pt' })), golden);
});

test('a view into a larger array is written as the view alone, and read into memory of its own', () => {
  const values = Float32Array.of(9, 1, 2, 9).subarray(1, 3);
  const bytes = encodeSafetensors(new Map([['x', { dtype: 'F32', shape: [2], values }]]));
  const unaligned = Buffer.concat([Buffer.alloc(3), bytes]).subarray(3);
  const read = decodeSafetensors(unaligned, 'x').get('x')!;
  assert.deepEqual(read.values, Float32Array.of(1, 2));
  unaligned.fill(0);
  assert.deepEqual(read.values, Float32Array.of(1, 2));
  assert.equal(read.values.buffer.byteLength, 8);
});

test('no tensors and no metadata are a file too', () => {
  const bytes = encodeSafetensors(new Map());
  assert.deepEqual(Buffer.from(bytes), Buffer.from('\x08\0\0\0\0\0\0\0{}      ', 'latin1'));
  assert.equal(decodeSafetensors(bytes, 'x').size, 0);
  assert.deepEqual(decodeSafetensorsMetadata(bytes, 'x'), {});
});

const arrays = {
  I64: (n: number) => fc.bigInt64Array({ minLength: n, maxLength: n }),
  F64: (n: number) => fc.float64Array({ minLength: n, maxLength: n }),
  F32: (n: number) => fc.float32Array({ minLength: n, maxLength: n }),
  I32: (n: number) => fc.int32Array({ minLength: n, maxLength: n }),
  BF16: (n: number) => fc.uint16Array({ minLength: n, maxLength: n }),
  U8: (n: number) => fc.uint8Array({ minLength: n, maxLength: n }),
};
const storedTensor = fc
  .tuple(fc.constantFrom(...(Object.keys(arrays) as (keyof typeof arrays)[])), fc.array(fc.nat(4), { maxLength: 4 }))
  .chain(([dtype, shape]) => arrays[dtype](sizeOf(shape)).map((values) => ({ dtype, shape, values }) as StoredTensor));
const tensorName = fc
  .oneof(fc.string({ unit: 'binary' }), fc.constantFrom('__proto__', '7', '10', 'constructor', ''))
  .filter((name) => name !== '__metadata__');
const tensorMap = fc
  .array(fc.tuple(tensorName, storedTensor), { maxLength: 6 })
  .map((entries) => new Map<string, StoredTensor>(entries));

test('property: what is written is read, bit for bit, and the order of the tensors does not matter', () => {
  fc.assert(
    fc.property(tensorMap, fc.dictionary(fc.string(), fc.string()), (tensors, metadata) => {
      const bytes = encodeSafetensors(tensors, metadata);
      const read = decodeSafetensors(bytes, 'x');
      assert.equal(read.size, tensors.size);
      for (const [name, { dtype, shape, values }] of tensors) {
        const got = read.get(name)!;
        assert.equal(got.dtype, dtype);
        assert.deepEqual(got.shape, shape);
        assert.deepEqual(Buffer.from(got.values.buffer), Buffer.from(values.buffer));
      }
      assert.deepEqual({ ...decodeSafetensorsMetadata(bytes, 'x') }, { ...metadata });
      assert.deepEqual(encodeSafetensors(new Map([...tensors].reverse()), metadata), bytes);
    }),
  );
});

test('every truncation and every appended byte is an error', () => {
  for (let length = 0; length < golden.length; length++) {
    message(() => decodeSafetensors(golden.subarray(0, length), 'x'));
  }
  message(() => decodeSafetensors(Buffer.concat([golden, Buffer.of(0)]), 'x'));
});

test('any byte of length or header changed to any value: a typed error or a decode that holds together', () => {
  const headerEnd = 8 + Number(golden.readBigUInt64LE());
  let decoded = 0;
  for (let position = 0; position < headerEnd; position++) {
    for (let value = 0; value < 256; value++) {
      const bytes = Buffer.from(golden);
      bytes[position] = value;
      try {
        for (const { shape, values } of decodeSafetensors(bytes, 'x').values())
          assert.equal(values.length, sizeOf(shape));
        decoded++;
      } catch (error) {
        assert(error instanceof DtrainError && error.code === 'DTRAIN_SAFETENSORS', String(error));
        assert(error.message.length < 400, error.message);
      }
    }
  }
  assert(decoded > headerEnd, 'at least the unchanged files decode');
});

test('property: arbitrary bytes and arbitrary JSON headers never crash the reader', () => {
  const decodeOrTypedError = (bytes: Uint8Array) => {
    try {
      decodeSafetensors(bytes, 'x');
    } catch (error) {
      assert(error instanceof DtrainError && error.code === 'DTRAIN_SAFETENSORS', String(error));
    }
  };
  fc.assert(fc.property(fc.uint8Array({ maxLength: 64 }), decodeOrTypedError));
  const offsets = fc.array(fc.oneof(fc.integer(), fc.double()), { maxLength: 3 });
  const entry = fc.record({
    dtype: fc.constantFrom('F32', 'U8', 'F16', 3),
    shape: fc.oneof(offsets, fc.anything()),
    data_offsets: offsets,
  });
  const header = fc.oneof(
    fc.json(),
    fc.dictionary(fc.string(), entry).map((value) => JSON.stringify(value)),
  );
  fc.assert(fc.property(header, fc.nat(16), (text, data) => decodeOrTypedError(fileOf(text, data))));
});

test('a deeply nested header is an error, not a stack overflow', () => {
  const text = `{"x":${'['.repeat(200_000)}${']'.repeat(200_000)}}`;
  assert.equal(
    message(() => decodeSafetensors(fileOf(text), 'w.safetensors')),
    `w.safetensors: tensor "x": expected dtype, shape and data_offsets, got a list that begins with an object. ${DAMAGED}`,
  );
});

test('a length that no file holds is refused before anything is allocated', () => {
  const bytes = Buffer.alloc(16, 0xff);
  assert.equal(
    message(() => decodeSafetensors(bytes, 'w.safetensors')),
    `w.safetensors: header: expected at most 100,000,000 bytes, got a length of 18,446,744,073,709,552,000. ${DAMAGED}`,
  );
  const huge = 2 ** 40;
  assert.equal(
    messageFor({ x: { dtype: 'F32', shape: [huge], data_offsets: [0, 4 * huge] } }, 8),
    `w.safetensors: data: expected 4,398,046,511,104 bytes, got 8. ${DAMAGED}`,
  );
});

test('each mistake has its message', () => {
  const at = 'w.safetensors: ';
  const short = message(() => decodeSafetensors(new Uint8Array(3), 'w.safetensors'));
  assert.equal(short, `${at}file: expected at least 8 bytes, got 3. ${DAMAGED}`);
  const truncated = message(() => decodeSafetensors(golden.subarray(0, 108), 'w.safetensors'));
  assert.equal(truncated, `${at}header: expected 424 bytes, got 100. ${DAMAGED}`);
  const noJson = `${at}header: expected an object in JSON, got something else. ${DAMAGED}`;
  for (const header of ['', '[]', '3', 'null', '{"x":', Buffer.of(0x7b, 0xff, 0x7d), '\ufeff{}']) {
    assert.equal(
      message(() => decodeSafetensors(fileOf(header), 'w.safetensors')),
      noJson,
    );
  }

  const cases: [unknown, string][] = [
    [null, `expected dtype, shape and data_offsets, got null. ${DAMAGED}`],
    [
      { dtype: 'F16' },
      'expected dtype I64, F64, F32, I32, BF16, U8, got "F16". Convert the tensor to float32 (F32) first.',
    ],
    [{}, 'expected dtype I64, F64, F32, I32, BF16, U8, got nothing. Convert the tensor to float32 (F32) first.'],
    [{ dtype: 'F32' }, `expected a shape of whole numbers, got nothing. ${DAMAGED}`],
    [{ dtype: 'F32', shape: [-1] }, `expected a shape of whole numbers, got a list that begins with -1. ${DAMAGED}`],
    [{ dtype: 'F32', shape: [1] }, `expected data_offsets of two whole numbers, got nothing. ${DAMAGED}`],
    [
      { dtype: 'F32', shape: [1], data_offsets: [] },
      `expected data_offsets of two whole numbers, got an empty list. ${DAMAGED}`,
    ],
    [
      { dtype: 'F32', shape: [2, 3], data_offsets: [0, 20] },
      `expected 24 bytes for F32 [2,3], got 20 from data_offsets. ${DAMAGED}`,
    ],
    [
      { dtype: 'U8', shape: [4], data_offsets: [4, 0] },
      `expected 4 bytes for U8 [4], got -4 from data_offsets. ${DAMAGED}`,
    ],
  ];
  for (const [entry, text] of cases) assert.equal(messageFor({ x: entry }, 24), `${at}tensor "x": ${text}`);

  const a = { dtype: 'U8', shape: [4], data_offsets: [0, 4] };
  const hole = { a, b: { ...a, data_offsets: [5, 9] } };
  assert.equal(messageFor(hole, 9), `${at}tensor "b": expected data from byte 4, got from byte 5. ${DAMAGED}`);
  const overlap = { a, b: { ...a, data_offsets: [3, 7] } };
  assert.equal(messageFor(overlap, 7), `${at}tensor "b": expected data from byte 4, got from byte 3. ${DAMAGED}`);
  assert.equal(messageFor({ a }, 5), `${at}data: expected 4 bytes, got 5. ${DAMAGED}`);

  const metadata = fileOf(JSON.stringify({ __metadata__: { format: 3 } }));
  assert.equal(
    message(() => decodeSafetensorsMetadata(metadata, 'w.safetensors')),
    `${at}__metadata__: expected texts by name, got an object. ${DAMAGED}`,
  );
});

test('a name from the file cannot steer a terminal or fill the screen', () => {
  assert.equal(
    messageFor({ '\u001b[2J\u009b5mé': 7 }),
    `w.safetensors: tensor "\\u001b[2J\\u009b5m\\u00e9": expected dtype, shape and data_offsets, got 7. ${DAMAGED}`,
  );
  assert.equal(
    messageFor({ ['n'.repeat(1000)]: 'v'.repeat(1000) }),
    `w.safetensors: tensor "${'n'.repeat(60)}…": expected dtype, shape and data_offsets, got "${'v'.repeat(60)}…". ${DAMAGED}`,
  );
});

test('a tensor whose values do not fit its shape is our own mistake', () => {
  const wrong = new Map<string, StoredTensor>([['x', { dtype: 'F32', shape: [2, 2], values: new Float32Array(3) }]]);
  assert.throws(() => encodeSafetensors(wrong), {
    code: 'DTRAIN_INTERNAL',
    message: 'internal: tensor "x": [2,2] of 3 values',
  });
});
