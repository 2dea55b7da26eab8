/**
 * TensorFlow's own profiler: what its threads and devices do, operation by operation, between two moments.
 *
 * Idea: the profiler is part of the library that runs the steps; it is begun and ended around them, and its record, an XSpace
 * (tsl/profiler/protobuf/xplane.proto), is read here. There is one at a time in a process.
 */
import { nowSeconds } from '../core/clock.js';
import type { Pointer, ProfilerApi } from './c-api.js';
import { field, message } from './protobuf.js';
import { fieldsOf, integerOf, textOf } from './protobuf-reader.js';
import type { Runtime } from './runtime.js';

/** One operation, or a piece of work of TensorFlow's. */
export interface OperationSpan {
  readonly name: string;
  /** Of the one clock (core/clock.ts). */
  readonly startSeconds: number;
  readonly seconds: number;
}

/** A thread of the host, or a stream of a device. */
export interface OperationLine {
  /** Of the plane: `/host:CPU`, `/device:GPU:0`. */
  readonly plane: string;
  readonly name: string;
  readonly spans: readonly OperationSpan[];
}

/** Bytes in which one of the messages has room; they are a few hundred long. */
const MESSAGE_BYTES = 4096;
const OK_STATUS = 1n;
/** profiler_options.proto: version 1 (5), operations of the host that cost something (2), kernels of devices (3), no Python (4). */
const OPTIONS = message(field(5, 1), field(2, 2), field(3, 1), field(4, 0));

export class Profiler {
  readonly #runtime: Runtime;
  readonly #api: ProfilerApi;
  readonly #session: Pointer;
  readonly #options = new Uint8Array(MESSAGE_BYTES);
  readonly #beganSeconds: number;

  /** Begins. @throws DTRAIN_LIBRARY_UNUSABLE (exit 4) where the library has no profiler. */
  constructor(runtime: Runtime) {
    this.#runtime = runtime;
    this.#api = runtime.native.profiler();
    this.#api.newOptions(this.#options, null);
    this.#api.parse(this.#options, OPTIONS, OPTIONS.length);
    const session = new BigUint64Array(1);
    this.#beganSeconds = nowSeconds(); // TensorFlow tells times from here
    this.#api.create(session, this.#options);
    this.#session = session[0]!;
  }

  /** Ends, once, and gives what was seen; nothing where the profiler itself failed, for instance because another one runs. */
  end(): OperationLine[] {
    const space = new Uint8Array(MESSAGE_BYTES);
    this.#api.newSpace(space, null);
    const status = new BigUint64Array(1);
    this.#api.collect(status, this.#session, space);
    this.#api.deleteSession(this.#session);
    return status[0] === OK_STATUS ? readSpace(this.#serialized(space), this.#beganSeconds) : [];
  }

  /** The std::string begins with address and length; its memory, of a profile that was asked for once, is left to the process. */
  #serialized(space: Uint8Array): Uint8Array {
    const text = new BigUint64Array(4);
    this.#api.serialize(text, space);
    const bytes = new Uint8Array(Number(text[1]));
    this.#runtime.native.copyBytes(bytes, text[0]!, bytes.length);
    return bytes;
  }
}

/** Lines with at least one span, of an XSpace that began at that moment. Exported for its test. */
export function readSpace(space: Uint8Array, beganSeconds: number): OperationLine[] {
  return fieldsOf(space, 1).flatMap((plane) => {
    const planeName = textOf(plane, 2);
    const names = new Map(
      fieldsOf(plane, 4).map((entry) => {
        const metadata = fieldsOf(entry, 2)[0] ?? new Uint8Array(0);
        return [integerOf(entry, 1), textOf(metadata, 4) || textOf(metadata, 2)];
      }),
    );
    const lines = fieldsOf(plane, 3).map((line) => ({
      plane: planeName,
      name: textOf(line, 11) || textOf(line, 2) || `thread ${integerOf(line, 1)}`,
      spans: spansOf(line, names, beganSeconds),
    }));
    return lines.filter(({ spans }) => spans.length > 0);
  });
}

function spansOf(line: Uint8Array, names: ReadonlyMap<number, string>, beganSeconds: number): OperationSpan[] {
  const beginSeconds = beganSeconds + integerOf(line, 3) / 1e9;
  return fieldsOf(line, 4).map((event) => ({
    name: names.get(integerOf(event, 1)) ?? 'unknown',
    startSeconds: beginSeconds + integerOf(event, 2) / 1e12,
    seconds: integerOf(event, 3) / 1e12,
  }));
}
