/**
 * Rows that stay on the devices (allReduce.kind: tensorflow): TensorFlow's collectives add them (collective-reduce.ts), and the host is told
 * three numbers of the mean.
 *
 * Idea: a collective waits without a limit and cannot say for whom, so the ranks first meet at the barrier that they have anyway (collective/): who
 * does not come is named there, nobody enters the collective without the others, and a request to stop is seen alike by all. Who fails
 * nevertheless, or is given up by the watchdog, ends the collectives of the process, which is for ever.
 * The barrier is that of a host. Other hosts are waited for in the collective; the main thread, which watches them, ends the wait where one is lost
 * or fails (run/host-link.ts), and nobody before it, so that the others are told why.
 * Must stay true: all ranks make the same calls in the same order, which numbers them alike.
 */
import type { RankGroup } from '../collective/rank-group.js';
import { Scope } from '../core/scope.js';
import { execute } from '../tensorflow/execute.js';
import { abortCollectives } from '../tensorflow/host-cluster.js';
import type { Runtime } from '../tensorflow/runtime.js';
import { type TensorHandle, tensorFrom } from '../tensorflow/tensor-handle.js';
import type { CollectiveReduce } from './collective-reduce.js';
import type { GradientMeeting, MeanReport } from './gradient-meeting.js';
import { hostLost } from './host-reduce.js';
import type { RowLayout } from './row-layout.js';

/** One group of devices for all calls; that of the hosts' first ranks has another key (host-reduce.ts). */
const GROUP_KEY = 2;
/** The ring takes the same keys again after so many calls; NCCL has a fresh one for each, which TensorFlow remembers for about 1 kB. */
const RING_KEYS = 64;

export interface DeviceRowsOptions {
  readonly device: string;
  readonly layout: RowLayout;
  readonly collective: CollectiveReduce;
  /** The rank's first shard. */
  readonly firstShard: number;
}

export class DeviceRows implements GradientMeeting {
  readonly #runtime: Runtime;
  readonly #group: RankGroup;
  readonly #options: DeviceRowsOptions;
  readonly #owned = new Scope();
  /** Group size and group key; of one rank nothing. */
  readonly #groupInputs: readonly TensorHandle[];
  readonly #rows: TensorHandle[] = [];
  #meanRow: TensorHandle | undefined;
  /** Of several hosts: whether one of them was asked to stop. */
  #anyHostStops = false;
  #calls = 0;

  constructor(runtime: Runtime, group: RankGroup, options: DeviceRowsOptions) {
    this.#runtime = runtime;
    this.#group = group;
    this.#options = options;
    const { world } = options.collective;
    const scalars = world > 1 ? [world, GROUP_KEY] : [];
    this.#groupInputs = scalars.map((value) => this.#owned.use(this.#scalar(value)));
  }

  get meanRow(): TensorHandle {
    return this.#meanRow!;
  }

  bring(shard: number, outputs: readonly TensorHandle[]): void {
    this.#rows[shard - this.#options.firstShard] = outputs[0]!;
  }

  meet(): MeanReport {
    this.#group.arrive();
    try {
      return this.#reduce();
    } catch (error) {
      this.#group.throwIfPoisoned();
      throw this.#isOfHosts ? hostLost(error as Error) : error;
    } finally {
      this.#dropRows();
    }
  }

  get stopRequested(): boolean {
    return this.#isOfHosts ? this.#anyHostStops : this.#group.stopRequested;
  }

  keepMean(): void {
    if (this.#group.rank === 0) this.#meanRow?.readInto(this.#group.result);
  }

  abandon(reason: string): void {
    this.#group.poison();
    if (!this.#isOfHosts) abortCollectives(this.#runtime, reason);
  }

  spoil(shard: number, value: number, index?: number): void {
    const { device, layout, firstShard } = this.#options;
    using row = this.#rows[shard - firstShard]!;
    const values = row.readInto(new Float32Array(layout.length));
    if (index === undefined) values.fill(value);
    else values[index] = value;
    this.#rows[shard - firstShard] = tensorFrom(this.#runtime, device, values, [layout.length]);
  }

  get #isOfHosts(): boolean {
    return this.#options.collective.hosts > 1;
  }

  #reduce(): MeanReport {
    const { device, layout, collective } = this.#options;
    using owned = new Scope();
    const group = this.#groupInputs.length > 0 ? [...this.#groupInputs, owned.use(this.#scalar(this.#nextKey()))] : [];
    const stops = this.#isOfHosts ? [owned.use(this.#stop())] : [];
    const inputs = [...this.#rows, ...stops, ...group];
    const [mean, reportHandle] = execute(this.#runtime, { name: collective.name, inputs, device, numOutputs: 2 });
    using report = reportHandle!;
    this.#meanRow?.[Symbol.dispose]();
    this.#meanRow = mean!;
    const [loss, correct, finite, stop] = report.readInto(new Float32Array(this.#isOfHosts ? 4 : 3));
    this.#anyHostStops = stop !== undefined && stop > 0;
    if (this.#group.rank === 0) {
      this.#group.result[layout.loss] = loss!; // for the progress line
      this.#group.result[layout.correct] = correct!;
    }
    return { isFinite: finite === 1, loss: loss!, correct: correct! };
  }

  #nextKey(): number {
    const call = this.#calls++;
    return 1 + (this.#options.collective.hint === 'ring' ? call % RING_KEYS : call);
  }

  #stop(): TensorHandle {
    const { device } = this.#options;
    return tensorFrom(this.#runtime, device, Float32Array.of(this.#group.stopRequested ? 1 : 0), [1]);
  }

  /** int32: in host memory, where functions expect it on every device. */
  #scalar(value: number): TensorHandle {
    return tensorFrom(this.#runtime, this.#options.device, Int32Array.of(value), []);
  }

  #dropRows(): void {
    for (const row of this.#rows.splice(0)) row[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    this.#dropRows();
    this.#meanRow?.[Symbol.dispose]();
    this.#owned[Symbol.dispose]();
  }
}
