/**
 * Small state as msgpack: the door to msgpackr.
 *
 * Idea: only plain data passes: maps with text keys, lists, numbers, text, booleans, null. Whatever else a file holds (extension
 * types, records, dates, integers beyond 2^53) makes it a bad file, since a checkpoint may come from somebody else.
 */
import { addExtension, Packr, Unpackr } from 'msgpackr';

export type StateValue =
  | null
  | boolean
  | number
  | string
  | readonly StateValue[]
  | { readonly [key: string]: StateValue };

const packr = new Packr({ useRecords: false });
const unpackr = new Unpackr({
  useRecords: false,
  mapsAsObjects: false,
  structuredClone: false,
  copyBuffers: true,
  int64AsType: 'number',
});

/** Extension types that msgpackr would turn into objects of other classes. The table is global to msgpackr: hence one importing file. */
for (const type of [0x78, 0x65, 0x69, 0x70, 0x73, 0x42, 0x74]) {
  addExtension({
    type,
    unpack: () => {
      throw new Error(`extension type 0x${type.toString(16)}`);
    },
  } as Parameters<typeof addExtension>[0]);
}

export function encodeState(state: StateValue): Uint8Array {
  return packr.pack(state);
}

/** Throws an Error that says what is wrong; the caller knows the file and what to do. Nothing of the file enters its message. */
export function decodeState(bytes: Uint8Array): StateValue {
  let value: unknown;
  try {
    value = unpackr.unpack(bytes);
  } catch (cause) {
    throw new Error('it is no msgpack of plain data', { cause });
  }
  return plain(value);
}

function plain(value: unknown): StateValue {
  if (value === null || typeof value === 'boolean' || typeof value === 'string') return value;
  if (typeof value === 'number') {
    if (Number.isInteger(value) && !Number.isSafeInteger(value)) throw new Error(`integer ${value} beyond 2^53`);
    return value;
  }
  if (Array.isArray(value)) return value.map(plain);
  if (value instanceof Map) {
    const entries = [...value].map(([key, inner]): [string, StateValue] => {
      if (typeof key !== 'string' || key === '__proto__') throw new Error('a key that is no plain text');
      return [key, plain(inner)];
    });
    return Object.fromEntries(entries);
  }
  throw new Error(`a value of type ${typeof value}`);
}
