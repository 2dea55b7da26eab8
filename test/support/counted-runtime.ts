/** A runtime that counts what it is asked: calls of C functions by name, and bytes that are copied between TensorFlow and JavaScript. */
import type { CApi, Native } from '../../src/tensorflow/c-api.js';
import type { Runtime } from '../../src/tensorflow/runtime.js';
import { Status } from '../../src/tensorflow/status.js';

export class CountedRuntime {
  readonly runtime: Runtime;
  #calls = new Map<string, number>();
  #copiedBytes = 0;

  constructor(runtime: Runtime) {
    const c = Object.fromEntries(
      Object.entries(runtime.c).map(([name, call]) => [
        name,
        this.#counted(name, call as (...args: never[]) => unknown),
      ]),
    ) as unknown as CApi;
    const copyBytes: Native['copyBytes'] = (target, source, bytes) => {
      this.#copiedBytes += bytes;
      runtime.native.copyBytes(target, source, bytes);
    };
    const native = { ...runtime.native, c, copyBytes: this.#counted('memcpy', copyBytes) };
    this.runtime = { ...runtime, c, native, status: new Status(c) };
  }

  /** Since the last take; and begins anew. */
  take(): { readonly calls: ReadonlyMap<string, number>; readonly copiedBytes: number } {
    const taken = { calls: this.#calls, copiedBytes: this.#copiedBytes };
    this.#calls = new Map();
    this.#copiedBytes = 0;
    return taken;
  }

  #counted<Call extends (...args: never[]) => unknown>(name: string, call: Call): Call {
    const counting = (...args: never[]) => {
      this.#calls.set(name, (this.#calls.get(name) ?? 0) + 1);
      return call(...args);
    };
    return counting as Call;
  }
}
