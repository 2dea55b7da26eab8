/**
 * The coordinator: cuts the run into segments, gives each rank its samples, merges what the ranks report.
 *
 * Owns no thread and no memory: it is given an assembly. Main thread only; it never blocks.
 */

import { lastResult } from '../collective/gradient-arena.js';
import { type RankPhase, readProgress } from '../collective/progress.js';
import { epochOfStep, lastStepOfEpoch } from '../config/derive.js';
import { nowSeconds } from '../core/clock.js';
import { internalError } from '../core/errors.js';
import { PHASES, type Phase, type PhaseSeconds, type StepEvent } from '../core/events.js';
import { median } from '../core/statistics.js';
import { sampleIds } from '../data/sampler.js';
import { learningRateAt } from '../optim/schedule.js';
import type { Assembly } from './assemble.js';
import { CompileNotice } from './compile-notice.js';
import type { Segment, SegmentReport } from './protocol.js';
import { SlowDecoders } from './slow-decoders.js';
import { SlowRanks } from './slow-ranks.js';
import { limitsOf, Watchdog } from './watchdog.js';

/** Steps that were done before a segment and belong to the same `step` event. */
export interface CarriedSteps {
  readonly losses: readonly number[];
  readonly corrects: readonly number[];
}

const NOTHING_CARRIED: CarriedSteps = { losses: [], corrects: [] };

export interface SegmentResult {
  readonly event: StepEvent;
  /** Steps of the run that are finished now. */
  readonly step: number;
  readonly seconds: number;
  readonly stopRequested: boolean;
  /** Of each finished step. */
  readonly losses: Float64Array;
  readonly corrects: Float64Array;
  /** [steps, phases], merged over ranks. */
  readonly phaseSeconds: Float64Array;
  /** Of each step, the wait of the slowest rank for images; empty where they are not streamed. */
  readonly waits: Float64Array;
  /** Of each rank, for a profile. */
  readonly ranks: readonly Pick<SegmentReport, 'starts' | 'seconds'>[];
  /** Lines about ranks that are much slower than the others. */
  readonly warnings: readonly string[];
}

export class Coordinator {
  readonly #assembly: Assembly;
  readonly #threadIds: (number | undefined)[] = [];
  readonly #slowRanks = new SlowRanks();
  readonly #slowDecoders = new SlowDecoders();
  readonly #rateAt: (step: number) => number;
  /** Of this process. */
  #firstStep: number | undefined;

  /** `rateAt` gives the learning rate of the step after `step` finished ones, in place of the schedule's. */
  constructor(assembly: Assembly, rateAt?: (step: number) => number) {
    this.#assembly = assembly;
    this.#rateAt = rateAt ?? scheduledRates(assembly);
    assembly.stream?.openTraining();
  }

  /** Runs the steps after `step` up to and including `end`, on all ranks at once. */
  async runSegment(step: number, end: number, carried: CarriedSteps = NOTHING_CARRIED): Promise<SegmentResult> {
    const { pool } = this.#assembly;
    const isFirst = this.#firstStep === undefined;
    this.#firstStep ??= step + 1;
    using watchdog = this.watchdog();
    using _notice = isFirst ? this.#compileNotice(step + 1) : undefined;
    const segment = this.segment(step, end);
    const start = nowSeconds();
    const reports = await pool.runAll('segment', () => segment, watchdog.alarm);
    const seconds = nowSeconds() - start;
    this.#checkThreads(reports);
    return this.#merged(step, segment, reports, seconds, carried);
  }

  /** Watches the ranks, and hears of a lost host, until it is disposed. */
  watchdog(): Disposable & { readonly alarm: Promise<never> } {
    const { arena, config, hosts } = this.#assembly;
    const watchdog = new Watchdog(arena, limitsOf(config.allReduce.timeoutSeconds), this.#firstStep ?? 1);
    if (!hosts) return watchdog;
    const alarm = Promise.race([watchdog.alarm, hosts.alarm]);
    alarm.catch(() => undefined); // may come when nobody waits any more
    return { alarm, [Symbol.dispose]: () => watchdog[Symbol.dispose]() };
  }

  #compileNotice(firstStep: number): CompileNotice | undefined {
    const { arena, recorded, say } = this.#assembly;
    if (!recorded.program.xla) return undefined;
    return new CompileNotice({ readProgress: () => readProgress(arena), firstStep, say });
  }

  /** The samples and rates of the steps after `step` up to and including `end`. */
  segment(step: number, end: number): Segment {
    const { config, data } = this.#assembly;
    const { globalBatch, seed } = config.train;
    const { count } = data.train;
    const order = { seed, count, shuffle: config.data.shuffle };
    const { ids, epochs: sampleEpochs } = sampleIds(order, step * globalBatch, (end - step) * globalBatch);
    const learningRates = Float64Array.from({ length: end - step }, (_, i) => this.#rateAt(step + i));
    return { firstStep: step + 1, numSteps: end - step, ids, epochs: sampleEpochs, learningRates };
  }

  /** Steps that all ranks have finished, and loss and accuracy of the last all-reduce, for a progress line. */
  progress(): { step: number; loss: number; trainAccuracy: number } {
    const { arena, recorded } = this.#assembly;
    const { layout } = recorded.program;
    const row = lastResult(arena);
    const isInStep = (phase: RankPhase) => PHASES.includes(phase as Phase);
    const step = Math.min(...readProgress(arena).map(({ step, phase }) => (isInStep(phase) ? step - 1 : step)));
    return { step, loss: row[layout.loss]!, trainAccuracy: row[layout.correct]! };
  }

  /** A rank's thread never changes: a new one would have begun without the rank's weights. */
  #checkThreads(reports: readonly SegmentReport[]): void {
    for (const [rank, { threadId }] of reports.entries()) {
      this.#threadIds[rank] ??= threadId;
      if (this.#threadIds[rank] !== threadId) throw internalError(`rank ${rank} moved to another thread.`);
    }
    if (new Set(this.#threadIds).size !== reports.length) throw internalError('two ranks share a thread.');
  }

  #merged(
    step: number,
    segment: Segment,
    reports: readonly SegmentReport[],
    seconds: number,
    carried: CarriedSteps,
  ): SegmentResult {
    const { config, data, stream } = this.#assembly;
    const { globalBatch } = config.train;
    const { numSteps, losses, corrects, stopRequested } = reports[0]!;
    const finished = step + numSteps;
    const phaseSeconds = mergedSeconds(reports.map((report) => report.seconds));
    const waits = longestWaits(reports);
    const event: StepEvent = {
      event: 'step',
      step: finished,
      epoch: roundedDown(epochOfStep(finished, globalBatch, data.train.count), 4),
      loss: mean([...carried.losses, ...losses]),
      trainAccuracy: mean([...carried.corrects, ...corrects]),
      learningRate: segment.learningRates[numSteps - 1]!,
      imagesPerSecond: rounded((numSteps * globalBatch) / seconds, 1),
      seconds: medians(phaseSeconds),
      ...(stream && { dataWait: rounded(sum(waits) / seconds, 4) }),
    };
    const warnings = this.#slowRanks.add(reports.map((report) => report.seconds));
    if (stream) warnings.push(...this.#slowDecoders.add(waits, seconds));
    const result = { event, step: finished, seconds, stopRequested, losses, corrects, phaseSeconds, waits, warnings };
    return { ...result, ranks: reports };
  }
}

function scheduledRates({ config, data }: Assembly): (step: number) => number {
  const { globalBatch, epochs } = config.train;
  const { count } = data.train;
  const scheduleSteps = lastStepOfEpoch(epochs, globalBatch, count);
  return (step) => learningRateAt(config.schedule, step, count / globalBatch, scheduleSteps);
}

/** Of each step and phase the slowest rank's seconds; of `reduce` the fastest's, who came last and did not wait. */
function mergedSeconds(ranks: readonly Float64Array[]): Float64Array {
  const reduce = PHASES.indexOf('reduce');
  return Float64Array.from(ranks[0]!, (_, i) => {
    const values = ranks.map((seconds) => seconds[i]!);
    return i % PHASES.length === reduce ? Math.min(...values) : Math.max(...values);
  });
}

/** Of each step, over ranks. */
function longestWaits(ranks: readonly Pick<SegmentReport, 'waits'>[]): Float64Array {
  return Float64Array.from(ranks[0]!.waits, (_, step) => Math.max(...ranks.map(({ waits }) => waits[step]!)));
}

/** The median over steps of each phase. */
export function medians(phaseSeconds: Float64Array): PhaseSeconds {
  const of = (index: number) => median(phaseSeconds.filter((_, i) => i % PHASES.length === index));
  return Object.fromEntries(PHASES.map((phase, index) => [phase, rounded(of(index), 6)])) as Record<
    (typeof PHASES)[number],
    number
  >;
}

function sum(values: Float64Array): number {
  return values.reduce((total, value) => total + value, 0);
}

function mean(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0) / values.length;
}

/** An epoch is not finished before it is: 1.99999 is 1.9999. */
export function roundedDown(value: number, digits: number): number {
  return Math.floor(value * 10 ** digits) / 10 ** digits;
}

export function rounded(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}
