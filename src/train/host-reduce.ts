/**
 * The meeting of several hosts, as operations of TensorFlow: sums of rows at each step, and now and then small values or the whole state.
 *
 * Idea: of each host only the first rank comes here, from its own thread, with what its host has already summed. Two hosts exchange sums by
 * one CollectiveReduceV2 (a + b has one rounding, whoever adds). Three and more gather the hosts' sums, and every host adds them in the same
 * pairwise tree that one process has; or, where the order may differ, they are summed on the way, around a ring.
 * Must stay true: all hosts make the same calls in the same order, which numbers them alike; nothing here has a time limit of its own but the
 * meeting at the start and the farewell (TensorFlow's limits cost two threads a call): who watches the hosts aborts the collectives.
 */
import { DtrainError, ExitCode } from '../core/errors.js';
import { Scope } from '../core/scope.js';
import { type Attribute, attr } from '../tensorflow/attribute.js';
import { DType } from '../tensorflow/dtype.js';
import { execute } from '../tensorflow/execute.js';
import type { Runtime } from '../tensorflow/runtime.js';
import { HOST_DEVICE, type TensorHandle, tensorFrom, tensorOver } from '../tensorflow/tensor-handle.js';

/** This host among the others. Plain data. */
export interface HostPlace {
  readonly count: number;
  readonly rank: number;
  /** Sums in the order of one process. */
  readonly exact: boolean;
}

/** Rows that one exchange brings: the sum of all hosts, or the sum of each. */
export function hostRowsOf({ count, exact }: Pick<HostPlace, 'count' | 'exact'>): number {
  return gathers({ count, exact }) ? count : 1;
}

function gathers({ count, exact }: Pick<HostPlace, 'count' | 'exact'>): boolean {
  return exact && count > 2;
}

/** One group of tasks for all calls. */
const GROUP_KEY = 1;
/** Steps reuse their keys in a cycle; every other call has a fresh one, which TensorFlow remembers for about 1 kB. */
const STEP_KEYS = { first: 1, count: 64 };
const FIRST_FRESH_KEY = 1000;

export class HostReduce {
  readonly place: HostPlace;
  readonly #runtime: Runtime;
  #steps = 0;
  #freshKeys = 0;

  constructor(runtime: Runtime, place: HostPlace) {
    this.#runtime = runtime;
    this.place = place;
  }

  /**
   * The exchange of one step: fills the host rows (`hostRowsOf`) from the sums of all hosts. Blocks until all have come.
   * @throws DTRAIN_HOST_LOST (exit 12).
   */
  exchange(hostSum: Float32Array, hostRows: readonly Float32Array[]): void {
    const key = STEP_KEYS.first + (this.#steps++ % STEP_KEYS.count);
    using input = tensorOver(this.#runtime, HOST_DEVICE, hostSum, [hostSum.length]);
    if (!gathers(this.place)) {
      using sum = this.#sum(input, key);
      sum.readInto(hostRows[0]!);
      return;
    }
    using gathered = this.#gathered(input, key);
    gathered.readRowsInto(hostRows);
  }

  /** The values of every host, one after the other, by rank; all hosts bring as many. `seconds` limits the wait; 0: no limit. */
  gather<T extends Float32Array | Int32Array>(values: T, seconds = 0): T {
    using input = tensorFrom(this.#runtime, HOST_DEVICE, values, [values.length]);
    using gathered = this.#gathered(input, this.#freshKey(), seconds);
    return gathered.readInto(new (values.constructor as new (length: number) => T)(values.length * this.place.count));
  }

  /** `values` ← those of host 0. */
  broadcast(values: Float32Array): void {
    const shape = [values.length];
    const key = this.#freshKey();
    if (this.place.rank === 0) {
      using input = tensorFrom(this.#runtime, HOST_DEVICE, values, shape);
      this.#run({ name: 'CollectiveBcastSendV2', key, value: input, dtype: DType.float32 })[Symbol.dispose]();
      return;
    }
    using dims = tensorFrom(this.#runtime, HOST_DEVICE, Int32Array.from(shape), [1]);
    const attributes = [attr.type('Tshape', DType.int32)];
    using received = this.#run({ name: 'CollectiveBcastRecvV2', key, last: dims, dtype: DType.float32, attributes });
    received.readInto(values);
  }

  /** Comes together once more, for at most `seconds`, so that no host leaves while another still needs it. @throws as `gather` does. */
  farewell(seconds: number): void {
    this.gather(Int32Array.of(this.place.rank), seconds);
  }

  #sum(value: TensorHandle, key: number): TensorHandle {
    const ops = [attr.string('merge_op', 'Add'), attr.string('final_op', 'Id'), attr.int('max_subdivs_per_device', -1)];
    return this.#run({ name: 'CollectiveReduceV2', key, value, last: [], dtype: value.dtype, attributes: ops });
  }

  #gathered(value: TensorHandle, key: number, seconds = 0): TensorHandle {
    return this.#run({ name: 'CollectiveGatherV2', key, value, last: [], dtype: value.dtype, seconds });
  }

  /** Inputs: the value, group_size, group_key, instance_key, and what an operation has after these. */
  #run({ name, key, value, last, dtype, attributes = [], seconds = 0 }: Call): TensorHandle {
    using owned = new Scope();
    const scalars = [this.place.count, GROUP_KEY, key].map((number) =>
      owned.use(tensorFrom(this.#runtime, HOST_DEVICE, Int32Array.of(number), [])),
    );
    const inputs = [...(value ? [value] : []), ...scalars, ...(last ? [last] : [])];
    const common = [
      attr.type('T', dtype),
      attr.string('communication_hint', 'ring'),
      attr.float('timeout_seconds', seconds),
    ];
    const execution = { name, inputs, attributes: [...common, ...attributes], device: HOST_DEVICE, numOutputs: 1 };
    try {
      return execute(this.#runtime, execution)[0]!;
    } catch (error) {
      throw hostLost(error as Error);
    }
  }

  #freshKey(): number {
    return FIRST_FRESH_KEY + this.#freshKeys++;
  }
}

interface Call {
  readonly name: string;
  readonly key: number;
  readonly dtype: DType;
  readonly value?: TensorHandle;
  readonly last?: TensorHandle | readonly TensorHandle[];
  readonly attributes?: readonly Attribute[];
  readonly seconds?: number;
}

/** Which host it was, TensorFlow does not say reliably; the main thread asks them all and says it (run/host-link.ts). */
export function hostLost(error: Error): DtrainError {
  const message = `all-reduce between hosts: ${error.message.split('\n')[0]}`;
  return new DtrainError('DTRAIN_HOST_LOST', ExitCode.hostLost, message, { cause: error });
}
