/** Protocol buffers, reading only, and only what a caller asks for by number: https://protobuf.dev/programming-guides/encoding */

/** The contents of each field `wanted` of a message, of those that are length-delimited: text, bytes, messages. Views, not copies. */
export function fieldsOf(message: Uint8Array, wanted: number): Uint8Array[] {
  return [...fieldsIn(message)].flatMap(([number, value]) =>
    number === wanted && typeof value !== 'number' ? [value] : [],
  );
}

/** The last field `wanted` that is an integer; 0, its default, where there is none. Exact below 2^53. */
export function integerOf(message: Uint8Array, wanted: number): number {
  let found = 0;
  for (const [number, value] of fieldsIn(message)) if (number === wanted && typeof value === 'number') found = value;
  return found;
}

/** The first field `wanted` as text; empty where there is none. */
export function textOf(message: Uint8Array, wanted: number): string {
  return Buffer.from(fieldsOf(message, wanted)[0] ?? []).toString();
}

/** Each field: its number, and its integer or its bytes. Fields of fixed width are left out. */
function* fieldsIn(message: Uint8Array): Generator<readonly [number: number, value: number | Uint8Array]> {
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let factor = 1; at < message.length; factor *= 128) {
      const byte = message[at++]!;
      value += (byte % 128) * factor;
      if (byte < 128) break;
    }
    return value;
  };
  while (at < message.length) {
    const tag = varint();
    const [number, wireType] = [Math.floor(tag / 8), tag % 8];
    if (wireType === 0) yield [number, varint()];
    else if (wireType === 1) at += 8;
    else if (wireType === 5) at += 4;
    else {
      const length = varint();
      yield [number, message.subarray(at, at + length)];
      at += length;
    }
  }
}
