/**
 * Numbers that follow from a configuration, the machine and the data set. Pure.
 *
 * Idea: batches are cut from the endless sequence of epoch permutations, so every batch is full, an epoch may end inside a step, and epoch e
 * ends at the first step with step x globalBatch >= e x images. Steps count from 1; both words count finished ones.
 * Must stay true: workers divide shards, shards divide the global batch; threads follow the shards and not the workers, so that any number of
 * workers computes the same bits.
 */
import { DtrainError, ExitCode } from '../core/errors.js';
import { originOf } from './origin.js';
import type { RunConfig } from './schema.js';

export interface Workers {
  readonly workers: number;
  /** For the cure in a message; left out, the message says "workers". */
  readonly device?: 'gpu' | 'cpu';
  /** Of this machine, for train.threadsPerWorker. */
  readonly cores: number;
  /** Machines that these workers are on, as many on each; left out, one. */
  readonly hosts?: number;
}

/** How a global batch is shared out. */
export interface BatchPlan {
  /** Ranks: one a worker. */
  readonly world: number;
  /** Logical shards of a global batch. */
  readonly shards: number;
  readonly shardsPerRank: number;
  /** Images. */
  readonly shardBatch: number;
  /** Images of one rank. */
  readonly localBatch: number;
  readonly threadsPerWorker: number;
}

export interface StepPlan {
  /** Of the first epoch; a later one may have one less, as it begins with the images that were left of the step before. */
  readonly stepsPerEpoch: number;
  readonly totalSteps: number;
}

export type Plan = BatchPlan & StepPlan;

/** Throws DTRAIN_BATCH_NOT_DIVISIBLE, exit code 3, with all that does not divide. */
export function derive(config: RunConfig, machine: Workers & { readonly trainImages: number }): Plan {
  return { ...deriveBatch(config, machine), ...deriveSteps(config, machine.trainImages) };
}

/** As `derive`, without the data set. Throws DTRAIN_ALL_REDUCE, too, where workers cannot add as configured. */
export function deriveBatch(config: RunConfig, { workers, device, cores, hosts = 1 }: Workers): BatchPlan {
  const { globalBatch, logicalShards, threadsPerWorker, accumulate } = config.train;
  const shards = (logicalShards ?? workers) * accumulate;
  const flag = device === undefined ? '' : `--${device}s `;
  checkAllReduce(config);
  const mistakes: string[] = [];
  if ((logicalShards ?? workers) % workers !== 0) {
    const cure = logicalShards === null ? '' : orWorkers(logicalShards, workers, flag);
    mistakes.push(
      notAMultiple(config, 'train.logicalShards', shards / accumulate, workers, count(workers, 'rank'), cure),
    );
  }
  if (globalBatch % shards !== 0) {
    const unit =
      logicalShards === null && accumulate === 1
        ? count(workers, 'rank')
        : `${count(shards, 'logical shard')} (${accumulate === 1 ? '' : 'train.accumulate times '}${logicalShards === null ? 'workers' : 'train.logicalShards'})`;
    const cure = logicalShards === null && accumulate === 1 ? orWorkers(globalBatch, workers, flag) : '';
    mistakes.push(notAMultiple(config, 'train.globalBatch', globalBatch, shards, unit, cure));
  }
  if (mistakes.length === 0 && hosts > 1 && needsEvenHosts(config) && !isPowerOfTwo(shards / hosts)) {
    mistakes.push(unevenShards(config, shards / hosts, hosts, 'host', 'one host'));
  }
  if (mistakes.length === 0 && workers > 1 && needsEvenWorkers(config) && !isPowerOfTwo(shards / workers)) {
    const same = 'allReduce.kind=shared-memory';
    mistakes.push(unevenShards(config, shards / workers, workers, 'worker', same));
  }
  if (mistakes.length > 0)
    throw new DtrainError('DTRAIN_BATCH_NOT_DIVISIBLE', ExitCode.configuration, mistakes.join('\n'));
  return {
    world: workers,
    shards,
    shardsPerRank: shards / workers,
    shardBatch: globalBatch / shards,
    localBatch: globalBatch / workers,
    threadsPerWorker: threadsPerWorker ?? Math.max(1, Math.floor(cores / (shards / accumulate))),
  };
}

/** The most workers a host, at most `available`, whose shares of the configured batch are whole. At least 1. */
export function fittingWorkers(config: RunConfig, available: number, hosts = 1): number {
  const { train } = config;
  const total = train.logicalShards ?? train.globalBatch / train.accumulate;
  const isEven = (workers: number) => {
    if (needsEvenWorkers(config)) return isPowerOfTwo(((train.logicalShards ?? workers) / workers) * train.accumulate);
    return (
      hosts === 1 || !needsEvenHosts(config) || train.logicalShards !== null || isPowerOfTwo(workers * train.accumulate)
    );
  };
  for (let workers = available; workers > 1; workers--) {
    if (total % (workers * hosts) === 0 && isEven(workers)) return workers;
  }
  return 1;
}

/** `trainImages` is the size of the training set. */
export function deriveSteps({ train }: RunConfig, trainImages: number): StepPlan {
  const steps = lastStepOfEpoch(train.epochs, train.globalBatch, trainImages);
  return {
    stepsPerEpoch: lastStepOfEpoch(1, train.globalBatch, trainImages),
    totalSteps: Math.min(steps, train.maxSteps ?? Number.POSITIVE_INFINITY),
  };
}

/** The first step after which every image has been seen `epoch` times. */
export function lastStepOfEpoch(epoch: number, globalBatch: number, trainImages: number): number {
  return Math.ceil((epoch * trainImages) / globalBatch);
}

/** Passes over the training images that are done after `step` steps, a fraction. */
export function epochOfStep(step: number, globalBatch: number, trainImages: number): number {
  return (step * globalBatch) / trainImages;
}

/** What one host sums is then a part of the tree that one process would have. */
function isPowerOfTwo(count: number): boolean {
  return Number.isInteger(Math.log2(count));
}

/** Whether what one host sums must be a part of the tree of one process. */
function needsEvenHosts({ allReduce }: RunConfig): boolean {
  return allReduce.kind === 'shared-memory' && allReduce.exact;
}

/** Whether what one worker sums on its device must be a part of the tree of shared memory. */
function needsEvenWorkers({ allReduce }: RunConfig): boolean {
  return allReduce.kind === 'tensorflow' && allReduce.exact;
}

/** What TensorFlow's collectives do not do. Throws DTRAIN_ALL_REDUCE, exit code 3. */
export function checkAllReduce(config: RunConfig): void {
  const { kind, dtype } = config.allReduce;
  if (kind !== 'tensorflow' || dtype === 'float32') return;
  const where = originOf(config, 'allReduce.dtype');
  const text =
    `${where}: expected float32 with allReduce.kind=tensorflow, got ${dtype}. TensorFlow's collectives would add in bfloat16, and on GPUs ` +
    'not at all. Use allReduce.dtype=float32, or allReduce.kind=shared-memory.';
  throw new DtrainError('DTRAIN_ALL_REDUCE', ExitCode.configuration, text);
}

/** `groups` of `unit` with `each` logical shards, whose sums are not a part of the tree. */
function unevenShards(config: RunConfig, each: number, groups: number, unit: string, same: string): string {
  const below = 2 ** Math.floor(Math.log2(each));
  return (
    `${originOf(config, 'train.logicalShards')}: expected 1, 2, 4, 8, ... a ${unit}, so that sums are those of ${same}, got ${each}. ` +
    `Use ${below * groups} or ${2 * below * groups}, or allReduce.exact=false.`
  );
}

function notAMultiple(
  config: RunConfig,
  key: string,
  got: number,
  divisor: number,
  unit: string,
  cure: string,
): string {
  const below = Math.floor(got / divisor) * divisor;
  const near = below === 0 ? `${divisor}` : `${below} or ${below + divisor}`;
  return `${originOf(config, key)}: expected a multiple of ${unit}, got ${got}. Use ${near}${cure}.`;
}

/** `, or --gpus 5`: the number of workers nearest to the one asked for that divides `total`. */
function orWorkers(total: number, workers: number, flag: string): string {
  for (let distance = 1; ; distance++) {
    // Fewer first: they are there. One worker always divides.
    const fit = [workers - distance, workers + distance].find((n) => n >= 1 && total % n === 0);
    if (fit !== undefined) return flag === '' ? `, or ${count(fit, 'worker')}` : `, or ${flag}${fit}`;
  }
}

function count(n: number, noun: string): string {
  return n === 1 ? `1 ${noun}` : `${n} ${noun}s`;
}
