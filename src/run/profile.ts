/**
 * `--profile N`: what every rank does when, in the run's first N steps, as a Chrome trace for ui.perfetto.dev and chrome://tracing.
 *
 * Idea: the ranks note the start and length of each phase anyway; this only writes them down, a line of the picture for each rank, and below
 * them what TensorFlow's own profiler saw on its threads and devices meanwhile.
 * Must stay true: one clock for both.
 * Format: "Trace Event Format", the JSON object form: complete events (X), metadata (M) and counters (C); times in microseconds.
 */
import path from 'node:path';
import { PHASES } from '../core/events.js';
import { writeFileAtomic } from '../core/files.js';
import type { OperationLine } from '../tensorflow/profiler.js';

export interface ProfiledSegment {
  /** Steps that were finished before it. */
  readonly step: number;
  /** Of each rank, [steps, phases]: times of the one clock, in seconds. */
  readonly ranks: readonly { readonly starts: Float64Array; readonly seconds: Float64Array }[];
  readonly losses: Float64Array;
}

interface TraceEvent {
  readonly name: string;
  readonly ph: 'X' | 'M' | 'C';
  readonly pid: number;
  readonly tid: number;
  readonly ts?: number;
  readonly dur?: number;
  readonly cat?: string;
  readonly args?: Readonly<Record<string, unknown>>;
}

const PID = 1;
const MICROSECONDS = 1e6;

export class Profile {
  readonly file: string;
  readonly #lastStep: number;
  readonly #events: TraceEvent[] = [];
  #origin: number | undefined;
  /** End of the last step that belongs to it. */
  #end = Number.NEGATIVE_INFINITY;
  #isWritten = false;

  /** Of the steps after `firstStep` up to and including `firstStep + numSteps`. */
  constructor(runDir: string, devices: readonly string[], firstStep: number, numSteps: number) {
    this.file = path.join(runDir, 'profile.json');
    this.#lastStep = firstStep + numSteps;
    this.#name('process_name', 0, 'dtrain');
    for (const [rank, device] of devices.entries()) this.#name('thread_name', rank, `rank ${rank} ${device}`);
  }

  /** Takes what belongs to it; true when there is nothing more to come. */
  add({ step, ranks, losses }: ProfiledSegment): boolean {
    if (this.#isWritten) return false;
    this.#origin ??= Math.min(...ranks.map(({ starts }) => starts[0]!));
    for (const [rank, { starts, seconds }] of ranks.entries()) {
      for (const [i, start] of starts.entries()) {
        const number = step + 1 + Math.floor(i / PHASES.length);
        if (number > this.#lastStep) break;
        const phase = i % PHASES.length;
        const end = start + seconds[i]!;
        this.#end = Math.max(this.#end, end);
        this.#span(PHASES[phase]!, rank, start, end, number);
        if (phase !== PHASES.length - 1) continue;
        this.#span(`step ${number}`, rank, starts[i - phase]!, end, number);
        if (rank === 0) this.#counter('loss', end, losses[number - step - 1]!);
      }
    }
    return step + losses.length >= this.#lastStep;
  }

  /** What TensorFlow did during these steps; the rest is left out. A process of the picture a plane, a line a thread. */
  addOperations(lines: readonly OperationLine[]): void {
    const planes = [...new Set(lines.map(({ plane }) => plane))];
    for (const [i, plane] of planes.entries()) this.#name('process_name', 0, `TensorFlow ${plane}`, PID + 1 + i);
    for (const [tid, { plane, name, spans }] of lines.entries()) {
      const pid = PID + 1 + planes.indexOf(plane);
      const begin = this.#origin ?? Number.POSITIVE_INFINITY;
      const during = spans.filter(({ startSeconds }) => startSeconds >= begin && startSeconds < this.#end);
      if (during.length > 0) this.#name('thread_name', tid, name, pid);
      for (const { name: full, startSeconds, seconds } of during) {
        const [node, type] = operationOf(full);
        this.#events.push({
          name: type ?? node,
          cat: 'tensorflow',
          ph: 'X',
          pid,
          tid,
          ts: this.#microseconds(startSeconds),
          dur: Math.round(seconds * MICROSECONDS * 1000) / 1000,
          ...(type !== undefined && { args: { node } }),
        });
      }
    }
  }

  /** Writes the file, once and where any step has ended; whether it did. @throws DTRAIN_STORAGE (exit 7). */
  write(): boolean {
    if (this.#isWritten || this.#origin === undefined) return false;
    this.#isWritten = true;
    // Longest first among those that begin together, so that a viewer puts the phases under their step.
    const order = (a: TraceEvent, b: TraceEvent) => (a.ts ?? -1) - (b.ts ?? -1) || (b.dur ?? 0) - (a.dur ?? 0);
    const traceEvents = [...this.#events].sort(order);
    writeFileAtomic(this.file, `${JSON.stringify({ displayTimeUnit: 'ms', traceEvents })}\n`);
    return true;
  }

  #name(name: string, tid: number, text: string, pid = PID): void {
    this.#events.push({ name, ph: 'M', pid, tid, args: { name: text } });
  }

  #span(name: string, tid: number, start: number, end: number, step: number): void {
    const ts = this.#microseconds(start);
    const dur = Math.max(0, this.#microseconds(end) - ts);
    this.#events.push({ name, cat: 'step', ph: 'X', pid: PID, tid, ts, dur, args: { step } });
  }

  #counter(name: string, at: number, value: number): void {
    this.#events.push({ name, ph: 'C', pid: PID, tid: 0, ts: this.#microseconds(at), args: { [name]: value } });
  }

  /** Whole nanoseconds, so that starts and ends that are equal stay equal. */
  #microseconds(at: number): number {
    return Math.round((at - this.#origin!) * MICROSECONDS * 1000) / 1000;
  }
}

/** TensorFlow writes `node:Type` of an operation: both; of other work, its name alone. */
function operationOf(name: string): readonly [node: string, type?: string] {
  const parts = /^(.+):(\w+)$/.exec(name);
  return parts ? [parts[1]!, parts[2]!] : [name];
}
