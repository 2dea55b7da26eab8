/**
 * The safetensors format: named tensors in one file that PyTorch, Keras, JAX and candle read.
 *
 *   8 bytes: length n of the header, little-endian │ n bytes: JSON, padded with spaces to 8 │ data, tensor after tensor
 *
 * Idea: the header is checked as a whole before anything is allocated, so a damaged or hostile file costs an error and no memory.
 * Must stay true: equal tensors give equal bytes, in the order of the reference implementation (wide dtypes first, so that each tensor
 * starts at a multiple of its element, then by name); what the encoder writes the decoder reads.
 * Source: github.com/huggingface/safetensors, README "Format" and safetensors/src/tensor.rs. Little-endian machines only.
 */
import { grouped } from './digits.js';
import { DtrainError, ExitCode, internalError } from './errors.js';
import { type Shape, shapeText, sizeOf } from './shape.js';

/** The dtypes that dtrain reads and writes, in the order of a file; BF16 as its raw bits. */
const ARRAYS = {
  I64: BigInt64Array,
  F64: Float64Array,
  F32: Float32Array,
  I32: Int32Array,
  BF16: Uint16Array,
  U8: Uint8Array,
} as const;
/** The same as types; arrays over shared memory too. */
interface ValuesOf {
  I64: BigInt64Array;
  F64: Float64Array;
  F32: Float32Array;
  I32: Int32Array;
  BF16: Uint16Array;
  U8: Uint8Array;
}
export type StoredDtype = keyof typeof ARRAYS;
const DTYPES = Object.keys(ARRAYS) as StoredDtype[];

/** Row-major values of `shape`. */
export type StoredTensor = {
  [D in StoredDtype]: { readonly dtype: D; readonly shape: Shape; readonly values: ValuesOf[D] };
}[StoredDtype];

type Metadata = Readonly<Record<string, string>>;

const LENGTH_BYTES = 8;
const HEADER_ALIGNMENT_BYTES = 8;
const MAX_HEADER_BYTES = 100_000_000;
const METADATA_NAME = '__metadata__';
const DAMAGED = 'The file is damaged or no safetensors file: export or download it again.';

/** The bytes of a file. Borrows the tensors; metadata is free text, written in the order of its keys. */
export function encodeSafetensors(tensors: ReadonlyMap<string, StoredTensor>, metadata: Metadata = {}): Uint8Array {
  const sorted = [...tensors].sort(byDtypeThenName);
  const members = Object.keys(metadata).length === 0 ? [] : [member(METADATA_NAME, sortedObject(metadata))];
  let dataBytes = 0;
  for (const [name, { dtype, shape, values }] of sorted) {
    if (name === METADATA_NAME) throw internalError(`a tensor is named ${METADATA_NAME}`);
    if (values.length !== sizeOf(shape)) {
      throw internalError(`tensor ${quote(name)}: ${shapeText(shape)} of ${values.length} values`);
    }
    const begin = dataBytes;
    dataBytes += values.byteLength;
    members.push(member(name, { dtype, shape, data_offsets: [begin, dataBytes] }));
  }
  const header = padded(Buffer.from(`{${members.join(',')}}`));
  const bytes = new Uint8Array(LENGTH_BYTES + header.length + dataBytes);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(header.length), true);
  bytes.set(header, LENGTH_BYTES);
  let offset = LENGTH_BYTES + header.length;
  for (const [, { values }] of sorted) {
    bytes.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), offset);
    offset += values.byteLength;
  }
  return bytes;
}

/** The tensors of a file in the order of their data, each in memory of its own. `where` names the file in errors (DTRAIN_SAFETENSORS). */
export function decodeSafetensors(bytes: Uint8Array, where: string): Map<string, StoredTensor> {
  const { header, data } = splitFile(bytes, where);
  const tensors = new Map<string, StoredTensor>();
  for (const { name, dtype, shape, begin, end } of checkedEntries(header, data.length, where)) {
    const { buffer } = new Uint8Array(data.subarray(begin, end));
    tensors.set(name, { dtype, shape, values: new ARRAYS[dtype](buffer) } as StoredTensor);
  }
  return tensors;
}

/** The free text of a file; empty where it has none. */
export function decodeSafetensorsMetadata(bytes: Uint8Array, where: string): Metadata {
  const metadata = splitFile(bytes, where).header[METADATA_NAME] ?? {};
  if (isObject(metadata) && Object.values(metadata).every((text) => typeof text === 'string'))
    return metadata as Metadata;
  throw damaged(where, METADATA_NAME, 'texts by name', brief(metadata));
}

function byDtypeThenName(
  [a, { dtype: dtypeA }]: [string, StoredTensor],
  [b, { dtype: dtypeB }]: [string, StoredTensor],
) {
  return DTYPES.indexOf(dtypeA) - DTYPES.indexOf(dtypeB) || Buffer.compare(Buffer.from(a), Buffer.from(b));
}

/** One member of a JSON object as text: a JavaScript object would move names like "7" to its front. */
function member(name: string, value: unknown): string {
  return `${JSON.stringify(name)}:${JSON.stringify(value)}`;
}

function sortedObject(metadata: Metadata): Metadata {
  return Object.fromEntries(Object.entries(metadata).sort(([a], [b]) => (a < b ? -1 : 1)));
}

function padded(header: Buffer): Buffer {
  const length = Math.ceil(header.length / HEADER_ALIGNMENT_BYTES) * HEADER_ALIGNMENT_BYTES;
  return Buffer.concat([header, Buffer.alloc(length - header.length, ' ')]);
}

interface Entry {
  readonly name: string;
  readonly dtype: StoredDtype;
  readonly shape: Shape;
  /** Bytes of the data part. */
  readonly begin: number;
  readonly end: number;
}

/** Header and data of a file; the header is an object, its members are unchecked. */
function splitFile(bytes: Uint8Array, where: string): { header: Record<string, unknown>; data: Uint8Array } {
  if (bytes.length < LENGTH_BYTES) throw damaged(where, 'file', 'at least 8 bytes', `${bytes.length}`);
  const length = Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
  if (length > MAX_HEADER_BYTES) {
    throw damaged(where, 'header', `at most ${count(MAX_HEADER_BYTES)} bytes`, `a length of ${count(length)}`);
  }
  const dataStart = LENGTH_BYTES + length;
  if (dataStart > bytes.length) {
    throw damaged(where, 'header', `${count(length)} bytes`, count(bytes.length - LENGTH_BYTES));
  }
  const header = parseHeader(bytes.subarray(LENGTH_BYTES, dataStart));
  if (!isObject(header)) throw damaged(where, 'header', 'an object in JSON', 'something else');
  return { header, data: bytes.subarray(dataStart) };
}

/** The value that the header holds; undefined when it is not JSON in UTF-8. */
function parseHeader(header: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(header));
  } catch {
    return undefined;
  }
}

/** All tensors in the order of their data, which they fill without a hole or an overlap. */
function checkedEntries(header: Record<string, unknown>, dataBytes: number, where: string): Entry[] {
  const entries = Object.entries(header)
    .filter(([name]) => name !== METADATA_NAME)
    .map(([name, value]) => checkedEntry(name, value, where))
    .sort((a, b) => a.begin - b.begin || a.end - b.end);
  let position = 0;
  for (const { name, begin, end } of entries) {
    if (begin !== position) {
      throw damaged(where, `tensor ${quote(name)}`, `data from byte ${count(position)}`, `from byte ${count(begin)}`);
    }
    position = end;
  }
  if (position !== dataBytes) throw damaged(where, 'data', `${count(position)} bytes`, count(dataBytes));
  return entries;
}

function checkedEntry(name: string, value: unknown, where: string): Entry {
  const subject = `tensor ${quote(name)}`;
  if (!isObject(value)) throw damaged(where, subject, 'dtype, shape and data_offsets', brief(value));
  const { dtype, shape, data_offsets: offsets } = value;
  if (!DTYPES.includes(dtype as StoredDtype)) {
    const expected = `dtype ${DTYPES.join(', ')}`;
    throw safetensorsError(where, subject, expected, brief(dtype), 'Convert the tensor to float32 (F32) first.');
  }
  if (!isCounts(shape)) throw damaged(where, subject, 'a shape of whole numbers', brief(shape));
  if (!isCounts(offsets) || offsets.length !== 2) {
    throw damaged(where, subject, 'data_offsets of two whole numbers', brief(offsets));
  }
  const [begin, end] = offsets as [number, number];
  const bytes = sizeOf(shape) * ARRAYS[dtype as StoredDtype].BYTES_PER_ELEMENT;
  if (end - begin !== bytes) {
    const expected = `${count(bytes)} bytes for ${dtype} ${quote(shapeText(shape)).slice(1, -1)}`;
    throw damaged(where, subject, expected, `${count(end - begin)} from data_offsets`);
  }
  return { name, dtype: dtype as StoredDtype, shape, begin, end };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isCounts(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((item) => Number.isSafeInteger(item) && item >= 0);
}

function damaged(where: string, subject: string, expected: string, got: string): DtrainError {
  return safetensorsError(where, subject, expected, got, DAMAGED);
}

function safetensorsError(where: string, subject: string, expected: string, got: string, cure: string): DtrainError {
  const message = `${where}: ${subject}: expected ${expected}, got ${got}. ${cure}`;
  return new DtrainError('DTRAIN_SAFETENSORS', ExitCode.checkpoint, message);
}

function count(value: number): string {
  return grouped(value);
}

/** A value of the header for people: never long, never deep. */
function brief(value: unknown): string {
  if (typeof value === 'string') return quote(value);
  if (Array.isArray(value))
    return value.length === 0 ? 'an empty list' : `a list that begins with ${briefItem(value[0])}`;
  return briefItem(value);
}

function briefItem(value: unknown): string {
  if (value === undefined) return 'nothing';
  return typeof value === 'object' && value !== null ? 'an object' : quote(String(value)).slice(1, -1);
}

/** A text from the file, made harmless for a terminal: quoted, printable, short. */
function quote(text: string): string {
  const shown = text.length > 60 ? `${text.slice(0, 60)}…` : text;
  const escaped = (unit: string) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`;
  return JSON.stringify(shown).replace(/[^\x20-\x7e…]/g, escaped);
}
