/**
 * The entry of a rank's thread: one rank, one thread, one device, for the whole run.
 *
 * Piscina calls the exported functions by name (protocol.ts). Each returns an Outcome; a failure also poisons the group, so that the
 * other ranks stop waiting at once.
 * Must stay true: a thread is prepared once; a task for a thread that is not prepared is refused, so that a thread that silently took
 * the place of a dead one never trains.
 */
import { threadId } from 'node:worker_threads';
import { RankGroup } from '../collective/rank-group.js';
import { internalError, serializeError } from '../core/errors.js';
import type { Phase } from '../core/events.js';
import { attachRuntime } from '../tensorflow/runtime.js';
import { HostReduce } from '../train/host-reduce.js';
import { Replica, type StepBatch } from '../train/replica.js';
import type { Fault } from './fault.js';
import type { EvaluationShare, Outcome, Preparation, RankTasks, Segment, SegmentReport } from './protocol.js';

interface PreparedRank {
  readonly rank: number;
  readonly limits: Preparation['limits'];
  readonly group: RankGroup;
  readonly replica: Replica;
  readonly options: Preparation['replica'];
}

let prepared: PreparedRank | undefined;
let isFirstStep = true;
/** On rank 0, where this host is one of several. */
let hosts: HostReduce | undefined;

export function prepare(preparation: Preparation): Outcome<RankTasks['prepare']['result']> {
  const { rank, runtime, arena, limits, fault } = preparation;
  const group = new RankGroup(arena, rank, limits.timeoutSeconds);
  return guarded({ rank, group }, () => {
    if (prepared) throw internalError(`rank ${rank} was prepared twice.`);
    const onPhase = fault?.rank === rank ? (phase: Phase, step: number) => act(fault, phase, step) : undefined;
    const exchange = preparation.severalHosts ? { hosts: hosts ?? null } : {};
    const options = { ...preparation.replica, ...exchange, ...(onPhase && { onPhase }) };
    prepared = { rank, limits, group, replica: new Replica(attachRuntime(runtime), group, options), options };
    return { threadId };
  });
}

export function segment(task: Segment): Outcome<SegmentReport> {
  return onRank(({ replica, group, limits }) => {
    const losses: number[] = [];
    const corrects: number[] = [];
    let stopRequested = false;
    for (let i = 0; i < task.numSteps && !stopRequested; i++) {
      group.timeoutSeconds = isFirstStep ? limits.firstStepSeconds : limits.timeoutSeconds;
      const report = replica.step(stepOf(task, i));
      isFirstStep = false;
      losses.push(report.loss);
      corrects.push(report.correct);
      stopRequested = report.stopRequested;
    }
    replica.settle();
    group.enter(task.firstStep + losses.length - 1, 'idle');
    const { starts, seconds } = replica.clock.take();
    return {
      threadId,
      numSteps: losses.length,
      losses: Float64Array.from(losses),
      corrects: Float64Array.from(corrects),
      starts,
      seconds,
      waits: replica.takeWaits(),
      stopRequested,
    };
  });
}

function stepOf({ firstStep, numSteps, ids, epochs, learningRates }: Segment, i: number): StepBatch {
  const globalBatch = ids.length / numSteps;
  const samples = [i * globalBatch, (i + 1) * globalBatch] as const;
  return {
    step: firstStep + i,
    ids: ids.subarray(...samples),
    epochs: epochs.subarray(...samples),
    learningRate: learningRates[i]!,
  };
}

export function feed(task: Segment): Outcome<RankTasks['feed']['result']> {
  return onRank(({ replica, group }) => {
    for (let i = 0; i < task.numSteps; i++) replica.feedAlone(stepOf(task, i));
    group.enter(task.firstStep + task.numSteps - 1, 'idle');
    replica.clock.take();
    return { waits: replica.takeWaits() };
  });
}

export function evaluate({ first, stride }: RankTasks['evaluate']['argument']): Outcome<EvaluationShare> {
  return onRank(({ replica, group, options }) => {
    const { step } = group;
    const { count } = options.images.test;
    const batch = options.program.evaluationBatch;
    const ids: number[] = [];
    const losses: number[] = [];
    const predicted: number[] = [];
    const confidences: number[] = [];
    const above: number[] = [];
    replica.beginEvaluation();
    for (let start = first * batch; start < count && !group.stopAsked; start += stride * batch) {
      group.enter(step, 'evaluation');
      const { lossN, predictedN, confidenceN, aboveN } = replica.evaluate(start, Math.min(batch, count - start));
      for (const [i, loss] of lossN.entries()) {
        ids.push(start + i);
        losses.push(loss);
        predicted.push(predictedN[i]!);
        confidences.push(confidenceN[i]!);
        above.push(aboveN[i]!);
      }
    }
    replica.endEvaluation();
    group.enter(step, 'idle');
    return {
      ids: Int32Array.from(ids),
      losses: Float32Array.from(losses),
      predicted: Int32Array.from(predicted),
      confidences: Float32Array.from(confidences),
      above: Float32Array.from(above),
    };
  });
}

export function exportState({ state }: RankTasks['exportState']['argument']): Outcome<null> {
  return onRank(({ replica, group }) => {
    group.enter(group.step, 'save');
    replica.exportState(state);
    group.enter(group.step, 'idle');
    return null;
  });
}

export function stateHash(): Outcome<string> {
  return onRank(({ replica, group }) => {
    group.enter(group.step, 'save');
    const hash = replica.stateHash();
    group.enter(group.step, 'idle');
    return hash;
  });
}

export function joinHosts({ runtime, place, facts, seconds }: RankTasks['joinHosts']['argument']): Outcome<Int32Array> {
  return asOutcome(() => {
    hosts = new HostReduce(attachRuntime(runtime), place);
    return hosts.gather(facts, seconds);
  });
}

export function gatherHosts({ values }: RankTasks['gatherHosts']['argument']): Outcome<Float32Array | Int32Array> {
  return asOutcome(() => joined().gather<Float32Array | Int32Array>(values));
}

export function broadcastHosts({ state }: RankTasks['broadcastHosts']['argument']): Outcome<null> {
  return asOutcome(() => {
    joined().broadcast(state);
    return null;
  });
}

export function leaveHosts({ seconds }: RankTasks['leaveHosts']['argument']): Outcome<null> {
  return asOutcome(() => {
    joined().farewell(seconds);
    return null;
  });
}

function joined(): HostReduce {
  if (!hosts) throw internalError('this thread has not joined the other hosts.');
  return hosts;
}

function asOutcome<T>(run: () => T): Outcome<T> {
  try {
    return { ok: true, value: run() };
  } catch (error) {
    return { ok: false, error: serializeError(error, {}) };
  }
}

export function close(): Outcome<null> {
  return onRank(({ replica }) => {
    replica[Symbol.dispose]();
    prepared = undefined;
    return null;
  });
}

function onRank<T>(run: (rank: PreparedRank) => T): Outcome<T> {
  if (!prepared) {
    const error = internalError(
      'a thread that holds no rank was given a task; the thread of a rank has been replaced.',
    );
    return { ok: false, error: serializeError(error, {}) };
  }
  const rank = prepared;
  return guarded(rank, () => run(rank));
}

/** Runs it; what it throws becomes data, and the other ranks are told. */
function guarded<T>({ rank, group }: Pick<PreparedRank, 'rank' | 'group'>, run: () => T): Outcome<T> {
  try {
    return { ok: true, value: run() };
  } catch (error) {
    if (prepared) prepared.replica.abandon(`rank ${rank} has failed`);
    else group.poison();
    return { ok: false, error: serializeError(error, { rank }) };
  }
}

const SLOW_MILLISECONDS = 300;
const SIGNALS: Readonly<Partial<Record<Fault['kind'], NodeJS.Signals>>> = {
  abort: 'SIGABRT',
  segv: 'SIGSEGV',
  kill: 'SIGKILL',
  freeze: 'SIGSTOP',
};

/** Makes the planned fault happen at its step and phase. */
function act(fault: Fault, phase: Phase, step: number): void {
  if (phase !== fault.phase || (fault.kind === 'slow' ? step < fault.step : step !== fault.step)) return;
  if (fault.kind === 'slow') Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, SLOW_MILLISECONDS);
  const signal = SIGNALS[fault.kind];
  if (signal !== undefined) process.kill(process.pid, signal);
  if (fault.kind === 'flip') prepared!.replica.flipOneBit();
  if (fault.kind === 'heap') for (const kept: unknown[] = []; ; ) kept.push(new Array(1e5).fill(0));
  if (fault.kind === 'throw') throw new Error('fault injected by DTRAIN_FAULT');
  if (fault.kind === 'exit') process.exit(1); // in a worker thread this ends the thread
  if (fault.kind === 'stall') Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
  if (fault.kind === 'inf') prepared!.replica.spoilRows(Number.POSITIVE_INFINITY, 7);
  if (fault.kind === 'nan') prepared!.replica.spoilRows(Number.NaN);
}
