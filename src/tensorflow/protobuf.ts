/**
 * Protocol buffers, writing only: enough for TensorFlow's ConfigProto, SavedModel, ONNX and TensorBoard's events.
 * https://protobuf.dev/programming-guides/encoding
 */

/** One field: an integer as varint (a negative one as 64 bits in two's complement); bytes or text as length-delimited. */
export function field(number: number, value: number | string | Uint8Array): Buffer {
  if (typeof value === 'number') return Buffer.concat([varint(number * 8), varint(value)]);
  const bytes = Buffer.from(value as Uint8Array);
  return Buffer.concat([varint(number * 8 + 2), varint(bytes.length), bytes]);
}

/** A field of type `float`: four bytes, little-endian. */
export function floatField(number: number, value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(value);
  return Buffer.concat([varint(number * 8 + 5), bytes]);
}

/** A field of type `double`: eight bytes, little-endian. */
export function doubleField(number: number, value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleLE(value);
  return Buffer.concat([varint(number * 8 + 1), bytes]);
}

/** A repeated field of integers, packed; of doubles with `packedDoubles`. */
export function packedIntegers(number: number, values: readonly number[]): Buffer {
  return field(number, Buffer.concat(values.map(varint)));
}

export function packedDoubles(number: number, values: readonly number[]): Buffer {
  const bytes = Buffer.alloc(8 * values.length);
  for (const [i, value] of values.entries()) bytes.writeDoubleLE(value, 8 * i);
  return field(number, bytes);
}

/** An entry of a map from text to messages. */
export function mapEntry(number: number, key: string, value: string | Uint8Array): Buffer {
  return field(number, message(field(1, key), field(2, value)));
}

export function message(...fields: readonly Buffer[]): Buffer {
  return Buffer.concat(fields);
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, BigInt(value));
  for (; rest > 127n; rest >>= 7n) bytes.push(Number(rest & 127n) | 128);
  return Buffer.from([...bytes, Number(rest)]);
}
