/**
 * Rows in shared memory (allReduce.kind: shared-memory): each row is copied into the arena, the ranks' own kernel adds them (collective/), and
 * TensorFlow reads the mean where it lies.
 *
 * On a CPU device the mean row is a tensor over the arena, one over each of its two places, made once. A GPU has a memory of its own: there each meeting ends with a copy to the
 * device. Both ways TensorFlow makes the copies, and a copy from the device waits until the row is computed.
 */
import type { RankGroup } from '../collective/rank-group.js';
import { bfloat16Bits } from '../collective/reference.js';
import { deviceNamed, type Runtime } from '../tensorflow/runtime.js';
import { type TensorHandle, tensorOver } from '../tensorflow/tensor-handle.js';
import type { GradientMeeting, MeanReport } from './gradient-meeting.js';
import type { HostReduce } from './host-reduce.js';
import type { RowLayout } from './row-layout.js';

export class SharedRows implements GradientMeeting {
  readonly #runtime: Runtime;
  readonly #group: RankGroup;
  readonly #layout: RowLayout;
  readonly #device: string;
  /** Where this host is one of several: the exchange with the others, on the first rank; null on the other ranks. Undefined on one host. */
  readonly #hosts: HostReduce | null | undefined;
  /** Over each place of the result. */
  readonly #meanRows: TensorHandle[];

  constructor(
    runtime: Runtime,
    group: RankGroup,
    options: { readonly device: string; readonly layout: RowLayout; readonly hosts?: HostReduce | null | undefined },
  ) {
    this.#runtime = runtime;
    this.#group = group;
    this.#layout = options.layout;
    this.#device = options.device;
    this.#hosts = options.hosts;
    this.#meanRows = group.results.map((result) => this.#over(result));
  }

  get meanRow(): TensorHandle {
    return this.#meanRows[this.#group.resultIndex]!;
  }

  bring(shard: number, outputs: readonly TensorHandle[]): void {
    const { length, lowLength } = this.#layout;
    const [row, low] = outputs.toReversed(); // the part in bfloat16, if there is one, comes first
    row!.readInto(this.#group.row(shard).subarray(0, length - lowLength));
    low?.readInto(this.#group.lowRow(shard));
    for (const output of outputs) output[Symbol.dispose]();
  }

  /** A request to stop travels between hosts in the last element of the row, so that all of them see it alike. */
  meet(): MeanReport {
    const group = this.#group;
    const hosts = this.#hosts;
    if (!hosts) group.allReduceMean();
    else
      group.allReduceMean((hostSum, hostRows) => {
        hostSum[hostSum.length - 1] = group.stopRequested ? 1 : 0;
        hosts.exchange(hostSum, hostRows);
      });
    const { loss, correct } = this.#layout;
    if (deviceNamed(this.#runtime, this.#device).kind === 'gpu') this.#copyToDevice();
    return { isFinite: group.resultIsFinite, loss: group.result[loss]!, correct: group.result[correct]! };
  }

  get stopRequested(): boolean {
    return this.#hosts === undefined ? this.#group.stopRequested : this.#group.result.at(-1)! > 0;
  }

  /** It is there. */
  keepMean(): void {}

  abandon(): void {
    this.#group.poison();
  }

  spoil(shard: number, value: number, index?: number): void {
    const [row, low] = [this.#group.row(shard), this.#group.lowRow(shard)];
    const bits = bfloat16Bits(value);
    if (index === undefined) {
      row.fill(value);
      low.fill(bits);
    } else if (index < low.length) low[index] = bits;
    else row[index - low.length] = value;
  }

  #copyToDevice(): void {
    const { resultIndex, result } = this.#group;
    for (const before of this.#meanRows) before[Symbol.dispose]();
    this.#meanRows[resultIndex] = this.#over(result);
  }

  #over(result: Float32Array): TensorHandle {
    const { length } = this.#layout;
    return tensorOver(this.#runtime, this.#device, result.subarray(0, length), [length]);
  }

  [Symbol.dispose](): void {
    for (const meanRow of this.#meanRows) meanRow[Symbol.dispose]();
  }
}
