/**
 * A file of TensorBoard events: records framed and summed as TFRecord has it.
 *
 *   8 bytes: length │ 4: masked CRC-32C of them │ the event, a protobuf │ 4: masked CRC-32C of it
 *
 * Sources: tensorflow/core/lib/io/record_writer.h, tensorflow/core/util/event.proto, tensorflow/core/framework/summary.proto.
 * Owns the open file until disposed. Every record is written whole, so that a reader of a running run sees no half of one.
 */
import fs from 'node:fs';
import { storageError } from '../core/files.js';
import { doubleField, field, floatField, message, packedDoubles } from '../tensorflow/protobuf.js';

export class EventFile {
  readonly #file: string;
  readonly #descriptor: number;
  readonly #clock: () => number;

  /** Makes the file. `clock`: seconds since 1970. @throws DTRAIN_STORAGE (exit 7). */
  constructor(file: string, clock: () => number = () => Date.now() / 1000) {
    this.#file = file;
    this.#clock = clock;
    try {
      this.#descriptor = fs.openSync(file, 'w');
    } catch (cause) {
      throw storageError(file, cause);
    }
    this.#event(field(3, 'brain.Event:2'));
  }

  /** Values of one step, as `scalar`, `image`, `histogram` and `text` make them. */
  values(step: number, values: readonly Buffer[]): void {
    this.#event(field(2, step), field(5, message(...values.map((value) => field(1, value)))));
  }

  /** A graph, as a GraphDef. */
  graph(graphDef: Uint8Array): void {
    this.#event(field(4, graphDef));
  }

  #event(...fields: readonly Buffer[]): void {
    try {
      fs.writeSync(this.#descriptor, framed(message(doubleField(1, this.#clock()), ...fields)));
    } catch (cause) {
      throw storageError(this.#file, cause);
    }
  }

  [Symbol.dispose](): void {
    fs.closeSync(this.#descriptor);
  }
}

export function scalar(tag: string, value: number): Buffer {
  return message(field(1, tag), floatField(2, value));
}

export function image(tag: string, png: Uint8Array, height: number, width: number): Buffer {
  return message(field(1, tag), field(4, message(field(1, height), field(2, width), field(3, 3), field(4, png))));
}

/** Shown as Markdown. */
export function text(tag: string, markdown: string): Buffer {
  const metadata = field(9, field(1, field(1, 'text')));
  const tensor = message(field(1, 7), field(2, field(2, field(1, 1))), field(8, markdown)); // DT_STRING, shape [1]
  return message(field(1, tag), metadata, field(8, tensor));
}

const BUCKETS = 30;

/** Thirty buckets of equal width from the smallest value to the largest. */
export function histogram(tag: string, values: readonly number[]): Buffer {
  const [min, max] = [Math.min(...values), Math.max(...values)];
  const width = (max - min) / BUCKETS || 1;
  const counts = new Array<number>(BUCKETS).fill(0);
  for (const value of values) counts[Math.min(BUCKETS - 1, Math.floor((value - min) / width))]! += 1;
  const limits = counts.map((_, i) => min + (i + 1) * width);
  const sum = values.reduce((a, b) => a + b, 0);
  const squares = values.reduce((a, b) => a + b * b, 0);
  const numbers = [min, max, values.length, sum, squares].map((value, i) => doubleField(i + 1, value));
  return message(field(1, tag), field(5, message(...numbers, packedDoubles(6, limits), packedDoubles(7, counts))));
}

function framed(data: Buffer): Buffer {
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(data.length));
  return Buffer.concat([length, maskedSum(length), data, maskedSum(data)]);
}

/** The sum is rotated and moved, because sums of data that hold sums are weak. */
function maskedSum(bytes: Uint8Array): Buffer {
  const sum = crc32c(bytes);
  const masked = Buffer.alloc(4);
  masked.writeUInt32LE((((sum >>> 15) | (sum << 17)) + 0xa282ead8) >>> 0);
  return masked;
}

const TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  let value = n;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? 0x82f63b78 ^ (value >>> 1) : value >>> 1;
  return value >>> 0;
});

/** Castagnoli's polynomial (RFC 3720, appendix B.4). Exported for its test. */
export function crc32c(bytes: Uint8Array): number {
  let sum = 0xffffffff;
  for (const byte of bytes) sum = TABLE[(sum ^ byte) & 255]! ^ (sum >>> 8);
  return (sum ^ 0xffffffff) >>> 0;
}
