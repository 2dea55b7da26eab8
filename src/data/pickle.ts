/**
 * The part of Python's pickle format that the official CIFAR archive for Python uses: lists, dictionaries, numbers, texts, and arrays of
 * bytes as NumPy pickles them.
 *
 * Idea: a pickle is a program, and running a foreign one may do anything; here nothing is ever imported or called. The three names that
 * an array needs are known by name and become plain data; any other name, and any opcode not below, is refused.
 * Sources: CPython, Lib/pickletools.py; NumPy, _core/multiarray._reconstruct and ndarray.__setstate__.
 */

export type PickleValue =
  | null
  | boolean
  | number
  | string
  | PickleBytes
  | readonly PickleValue[]
  | ReadonlyMap<PickleValue, PickleValue>
  | NumpyBytes;

/** Python 2's str, or Python 3's bytes. */
export class PickleBytes {
  readonly bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  get text(): string {
    return Buffer.from(this.bytes).toString('latin1');
  }
}

/** A NumPy array of uint8 in C order. */
export class NumpyBytes {
  readonly shape: readonly number[];
  readonly values: Uint8Array;

  constructor(shape: readonly number[], values: Uint8Array) {
    this.shape = shape;
    this.values = values;
  }
}

const RECONSTRUCT = 'reconstruct';
const NDARRAY = 'ndarray';
const DTYPE = 'dtype';
const GLOBALS: Readonly<Record<string, string>> = {
  'numpy.core.multiarray _reconstruct': RECONSTRUCT,
  'numpy._core.multiarray _reconstruct': RECONSTRUCT,
  'numpy ndarray': NDARRAY,
  'numpy dtype': DTYPE,
};

/** Things on the stack that are no values: a mark, a known name, an array and an element type that await their state. */
class Mark {}
class Global {
  readonly name: string;
  constructor(name: string) {
    this.name = name;
  }
}
class Building {
  readonly kind: 'array' | 'dtype';
  value: NumpyBytes | undefined;
  constructor(kind: 'array' | 'dtype') {
    this.kind = kind;
  }
}
type Slot = PickleValue | Mark | Global | Building | Slot[] | Map<Slot, Slot>;

/** The value of a pickle. Throws an Error that says what is wrong; the caller knows the file and what to do. */
export function unpickle(bytes: Uint8Array): PickleValue {
  return new Unpickler(bytes).run();
}

class Unpickler {
  readonly #bytes: Buffer;
  readonly #stack: Slot[] = [];
  readonly #memo = new Map<number, Slot>();
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  run(): PickleValue {
    for (;;) {
      const opcode = this.#take(1)[0]!;
      if (opcode === 0x2e) return finished(this.#pop()); // STOP
      this.#do(opcode);
    }
  }

  #do(opcode: number): void {
    const stack = this.#stack;
    switch (String.fromCharCode(opcode)) {
      case '\x80': // PROTO
        if (this.#take(1)[0]! > 3) throw new Error('expected protocol 2 or 3');
        return;
      case '}':
        return this.#push(new Map<Slot, Slot>());
      case ']':
        return this.#push([]);
      case ')':
        return this.#push([]);
      case '(':
        return this.#push(new Mark());
      case 'N':
        return this.#push(null);
      case '\x88':
        return this.#push(true);
      case '\x89':
        return this.#push(false);
      case 'K':
        return this.#push(this.#take(1)[0]!);
      case 'M':
        return this.#push(this.#take(2).readUInt16LE());
      case 'J':
        return this.#push(this.#take(4).readInt32LE());
      case 'U':
      case 'C':
        return this.#push(new PickleBytes(this.#take(this.#take(1)[0]!)));
      case 'T':
      case 'B':
        return this.#push(new PickleBytes(this.#take(this.#take(4).readUInt32LE())));
      case 'X':
        return this.#push(this.#take(this.#take(4).readUInt32LE()).toString('utf8'));
      case 'q':
        this.#memo.set(this.#take(1)[0]!, stack.at(-1)!);
        return;
      case 'r':
        this.#memo.set(this.#take(4).readUInt32LE(), stack.at(-1)!);
        return;
      case 'h':
        return this.#recall(this.#take(1)[0]!);
      case 'j':
        return this.#recall(this.#take(4).readUInt32LE());
      case 'a': {
        const value = this.#pop();
        return void this.#top(isList).push(value);
      }
      case 'e': {
        const values = this.#popToMark();
        const list = this.#top(isList);
        for (const value of values) list.push(value);
        return;
      }
      case 's': {
        const [value, key] = [this.#pop(), this.#pop()];
        return void this.#top(isMap).set(key, value);
      }
      case 'u': {
        const pairs = this.#popToMark();
        const map = this.#top(isMap);
        for (let i = 0; i + 1 < pairs.length; i += 2) map.set(pairs[i]!, pairs[i + 1]!);
        return;
      }
      case 't':
        return this.#push(this.#popToMark());
      case '\x85':
      case '\x86':
      case '\x87':
        return this.#push(stack.splice(-(opcode - 0x84)));
      case 'c': {
        const name = `${this.#line()} ${this.#line()}`;
        const known = GLOBALS[name];
        if (known === undefined) throw new Error(`it names ${JSON.stringify(name)}, which is never run`);
        return this.#push(new Global(known));
      }
      case 'R': {
        const [, callee] = [this.#pop(), this.#pop()];
        if (callee instanceof Global && callee.name === RECONSTRUCT) return this.#push(new Building('array'));
        if (callee instanceof Global && callee.name === DTYPE) return this.#push(new Building('dtype'));
        throw new Error('it calls something that is no array');
      }
      case 'b': {
        const state = this.#pop();
        const target = stack.at(-1);
        if (!(target instanceof Building)) throw new Error('it builds something that is no array');
        if (target.kind === 'array') target.value = arrayOf(state);
        return;
      }
      default:
        throw new Error(`opcode 0x${opcode.toString(16)} is not one that data needs`);
    }
  }

  #push(value: Slot): void {
    this.#stack.push(value);
  }

  #pop(): Slot {
    const value = this.#stack.pop();
    if (value === undefined) throw new Error('it takes more than it has');
    return value;
  }

  #popToMark(): Slot[] {
    const at = this.#stack.findLastIndex((value) => value instanceof Mark);
    if (at === -1) throw new Error('it takes more than it has');
    return this.#stack.splice(at).slice(1);
  }

  #top<T extends Slot>(is: (value: Slot | undefined) => value is T): T {
    const value = this.#stack.at(-1);
    if (!is(value)) throw new Error('it adds to something that is no list or dictionary');
    return value;
  }

  #recall(index: number): void {
    const value = this.#memo.get(index);
    if (value === undefined) throw new Error('it recalls what it never kept');
    this.#push(value);
  }

  #take(length: number): Buffer {
    if (this.#at + length > this.#bytes.length) throw new Error('it ends early');
    this.#at += length;
    return this.#bytes.subarray(this.#at - length, this.#at);
  }

  #line(): string {
    const end = this.#bytes.indexOf(0x0a, this.#at);
    if (end === -1 || end - this.#at > 200) throw new Error('it ends early');
    const text = this.#bytes.toString('latin1', this.#at, end);
    this.#at = end + 1;
    return text;
  }
}

const isList = (value: Slot | undefined): value is Slot[] => Array.isArray(value);
const isMap = (value: Slot | undefined): value is Map<Slot, Slot> => value instanceof Map;

/** From (version, shape, dtype, is Fortran, bytes). */
function arrayOf(state: Slot): NumpyBytes {
  if (!isList(state)) throw new Error('an array without its state');
  const [, shape, , isFortran, data] = state;
  const isShape = isList(shape) && shape.every((extent) => typeof extent === 'number');
  if (!isShape || isFortran !== false || !(data instanceof PickleBytes)) {
    throw new Error('expected an array of bytes in C order');
  }
  const extents = shape as number[];
  const size = extents.reduce((a, b) => a * b, 1);
  if (size !== data.bytes.length) throw new Error(`expected ${size} bytes of an array, got ${data.bytes.length}`);
  return new NumpyBytes(extents, data.bytes);
}

/** With arrays in place of what built them. */
function finished(value: Slot): PickleValue {
  if (value instanceof Building && value.value) return value.value;
  if (value instanceof Mark || value instanceof Global || value instanceof Building) throw new Error('it ends early');
  if (isList(value)) return value.map(finished);
  if (isMap(value)) return new Map([...value].map(([key, inner]) => [finished(key), finished(inner)]));
  return value;
}
