/**
 * Assembles the parts of a run from its configuration: library, devices, data, model, recorded functions, arena, rank threads.
 *
 * Idea: assemble outside, run inside: the loops (train.ts, evaluate.ts, bench-step.ts) only receive finished parts.
 * The caller closes what it got.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { ClusterSpec } from '../cluster/cluster-spec.js';
import { type ArenaSpec, createArena } from '../collective/gradient-arena.js';
import { poisonGroup } from '../collective/progress.js';
import { type BatchPlan, deriveBatch, fittingWorkers } from '../config/derive.js';
import type { RunConfig } from '../config/schema.js';
import { DtrainError, ExitCode, internalError } from '../core/errors.js';
import { cacheFolder } from '../core/home.js';
import type { AugmentationOptions } from '../data/augmentation.js';
import { type AnyDataSet, type DataSet, type ImageSetExtent, isStreamed } from '../data/data-set.js';
import { ImageStream } from '../data/image-stream.js';
import { loadDataSet } from '../data/load-data-set.js';
import { localShards } from '../data/shard.js';
import { startEngine } from '../graph/engine.js';
import type { Model } from '../model/catalogue.js';
import { initialWeights } from '../model/initial-weights.js';
import type { Weights } from '../model/torch-layout.js';
import { abortCollectives } from '../tensorflow/host-cluster.js';
import { readWeights } from '../train/checkpoint.js';
import type { CollectivePlan } from '../train/collective-reduce.js';
import { hostRowsOf } from '../train/host-reduce.js';
import { allocateState } from '../train/replica-state.js';
import type { RowLayout } from '../train/row-layout.js';
import { writeFirstWeights } from '../train/state-transfer.js';
import { type ProgramOptions, type RecordedProgram, recordProgram } from '../train/step-program.js';
import { configuredModel } from './configured-model.js';
import { availableCores, type DeviceRequest, openDevices, type RunDevices } from './devices.js';
import { parseFault } from './fault.js';
import { hostFacts } from './host-facts.js';
import { HostLink } from './host-link.js';
import type { Preparation } from './protocol.js';
import { type PoolCallbacks, RankPool } from './rank-pool.js';
import { limitsOf } from './watchdog.js';

export interface AssembleOptions {
  readonly config: RunConfig;
  readonly devices: DeviceRequest | null;
  /** For messages: the command without its device flag, for instance `dtrain --config resnet50`. */
  readonly command: string;
  readonly say: (line: string) => void;
  /** Weights to begin with; else model.initFrom, else initialised from the seed. */
  readonly weights?: (model: Model) => Weights;
  /** Take the synthetic set, saying so, where CIFAR-10 is neither on disk nor reachable. */
  readonly fallBackToSynthetic?: boolean;
  /** An operation with an input on another rank's device is an error instead of a silent copy. For tests. */
  readonly explicitPlacement?: boolean;
  /** Goes on from a checkpoint. Of several hosts, host 0 does. */
  readonly resumed?: ResumedParts;
  /** Counts the engine's lives from 1, for faults on purpose. */
  readonly life?: number;
  /** Where this host is one of several. */
  readonly hosts?: ClusterSpec | undefined;
  /** Where the run begins: host 0's is everybody's. */
  readonly start?: RunStart;
  /** Ends the wait for the other hosts. */
  readonly signal?: AbortSignal | undefined;
}

/** What host 0 decides for all hosts of a run. Plain JSON. */
export interface RunStart {
  /** On host 0. */
  readonly runDir: string;
  /** Steps that are done, and what they took. */
  readonly step: number;
  readonly trainingSeconds: number;
  readonly wallSeconds: number;
  readonly testAccuracy: number | null;
  readonly bestTestAccuracy: number | null;
  /** Whether the evaluation of that step is still to be made. */
  readonly evaluationDue: boolean;
}

/** What a checkpoint decides, and what it must be compared with as the parts come to be. */
export interface ResumedParts {
  /** Logical shards of a step, train.accumulate included. */
  readonly shards: number;
  readonly threadsPerWorker: number;
  checkWorkers(workers: number): void;
  checkData(data: AnyDataSet): void;
  checkModel(model: Model): void;
  readState(state: Float32Array, layout: RowLayout, model: Model): void;
}

export interface Assembly {
  /** With the data set that is really used. */
  readonly config: RunConfig;
  readonly devices: RunDevices;
  readonly batch: BatchPlan;
  readonly data: AnyDataSet;
  /** Null where the data set is in memory. */
  readonly stream: ImageStream | null;
  readonly model: Model;
  readonly recorded: RecordedProgram;
  readonly arena: ArenaSpec;
  /** All that training changes, in shared memory: what the ranks began with, later what they were asked to write. */
  readonly state: Float32Array;
  readonly pool: RankPool;
  /** Null on one host. */
  readonly hosts: HostLink | null;
  /** Host 0's `start`. */
  readonly start: RunStart | undefined;
  /** Lines for people. */
  readonly say: (line: string) => void;
  /** Ends all threads. */
  close(): Promise<void>;
}

/** The generated set is twelve times smaller than CIFAR-10: more passes, fewer steps. */
const SYNTHETIC_EPOCHS = 8;
/** Images of one evaluation batch. */
const EVALUATION_BATCH = 250;

export async function assemble(options: AssembleOptions): Promise<Assembly> {
  const planned = options.resumed ? withShards(options.config, options.resumed) : options.config;
  const devices = openPlanned(planned, options);
  const hosts = linkOf(devices, options);
  try {
    return await assembleOn(devices, planned, options, hosts);
  } catch (error) {
    await hosts?.abort(error, options.say);
    throw error;
  }
}

/** Where this host of several fails before it assembles anything: opens its port for as long as it takes to tell the others why. */
export async function tellHosts(options: AssembleOptions, error: unknown): Promise<void> {
  try {
    await linkOf(openPlanned(options.config, options), options)?.abort(error, options.say);
  } catch {
    // Devices or port are not to be had either; the first failure is the one to tell.
  }
}

function openPlanned(planned: RunConfig, options: AssembleOptions): RunDevices {
  const numHosts = options.hosts?.addresses.length ?? 1;
  return openDevices({
    request: options.devices,
    command: options.command,
    defaultWorkers: fittingWorkers(planned, availableCores(), numHosts),
    threadsPerDevice: (workers) => plannedThreads(planned, workers * numHosts),
    explicitPlacement: options.explicitPlacement ?? false,
    gpu: planned.gpu,
    cluster: options.hosts,
  });
}

function linkOf(devices: RunDevices, { hosts, config }: AssembleOptions): HostLink | null {
  const settings = { exact: config.allReduce.exact, waitSeconds: config.cluster.waitSeconds };
  return hosts ? new HostLink(hosts, devices, settings) : null;
}

/** The rest, with which the other hosts may already wait. */
async function assembleOn(
  devices: RunDevices,
  planned: RunConfig,
  options: AssembleOptions,
  hosts: HostLink | null,
): Promise<Assembly> {
  const { say, resumed, hosts: group } = options;
  const numHosts = group?.addresses.length ?? 1;
  const allWorkers = devices.names.length * numHosts;
  resumed?.checkWorkers(allWorkers);
  const batch = deriveBatch(planned, {
    workers: allWorkers,
    device: devices.kind,
    cores: availableCores(),
    hosts: numHosts,
  });
  say(devicesText(devices, batch));
  for (const note of devices.notes) say(note);
  let arena: ArenaSpec | undefined;
  // Its threads load their modules while the data set is read and the step is recorded.
  const pool = new RankPool(
    devices.names.length,
    poolCallbacks(() => arena, planned, devices, hosts),
  );
  let stream: ImageStream | null = null;
  const close = async () => {
    await Promise.all([stream?.close(), pool.close()]);
  };
  try {
    const { data, config } = await loadData(options);
    resumed?.checkData(data);
    const { model, recorded } = await recordStep(devices, { config, batch, data, hosts: numHosts });
    resumed?.checkModel(model);
    const { layout } = recorded.program;
    const state = allocateState(layout);
    if (resumed) resumed.readState(state, layout, model);
    else if (!group || group.rank === 0) writeFirstWeights(state, layout, beginningWeights(options, config, model));
    arena = createArena(arenaPlan(options, config, batch, layout));
    const facts = hostFacts({ config, data, model, batch, devices, hosts: numHosts });
    const { start: own, signal } = options;
    const start = hosts ? await hosts.meet(pool, { facts, start: own, say, signal }) : own;
    await hosts?.broadcast(state);
    stream = startStream({ config, data, batch, recorded, hosts, pool, firstStep: start?.step ?? 0 });
    const parts = { config, devices, batch, data, stream, model, recorded, arena, state, pool, hosts, start, say };
    const assembly: Assembly = { ...parts, close };
    await prepareRanks(assembly, options.life ?? 1);
    return assembly;
  } catch (error) {
    await hosts?.abort(error); // a thread that waits for other hosts comes back
    await close();
    throw error;
  }
}

async function recordStep(
  devices: RunDevices,
  { config, batch, data, hosts }: Pick<Assembly, 'config' | 'batch' | 'data'> & { readonly hosts: number },
): Promise<{ model: Model; recorded: RecordedProgram }> {
  const engine = startEngine(devices.runtime, devices.names[0]!);
  const { height, width } = data.train;
  const evaluationBatch = Math.min(EVALUATION_BATCH, data.test.count);
  const model = await configuredModel(engine, config, data.classes.length, [height, width]);
  const recorded = recordProgram(engine, model, {
    precision: config.train.precision,
    xla: compilesByXla(config, devices),
    shardBatch: batch.shardBatch,
    evaluationBatch,
    ...recordedSplits(data, { config, batch, evaluationBatch }),
    normalization: data.normalization,
    augment: config.data.augment,
    labelSmoothing: config.train.labelSmoothing,
    optimizer: config.optimizer,
    ema: config.train.ema,
    evaluationFlip: config.evaluation.flip,
    lowGradients: config.allReduce.dtype === 'bfloat16',
    collective: collectivePlan(config, batch, devices, hosts),
  });
  return { model, recorded };
}

/** What the functions are recorded for: the data set, or what a shard or a batch of an evaluation has of it. */
function recordedSplits(
  data: AnyDataSet,
  { config, batch, evaluationBatch }: { config: RunConfig; batch: BatchPlan; evaluationBatch: number },
): Pick<ProgramOptions, 'train' | 'test'> {
  if (!isStreamed(data)) return { train: splitShape(data.train), test: splitShape(data.test) };
  const trainImages = batch.shardBatch * (config.data.augment.mixup > 0 ? 2 : 1);
  const { train, test } = data;
  return { train: splitShape({ ...train, count: trainImages }), test: splitShape({ ...test, count: evaluationBatch }) };
}

interface StreamParts extends Pick<Assembly, 'config' | 'data' | 'batch' | 'recorded' | 'hosts' | 'pool'> {
  /** Steps that are finished. */
  readonly firstStep: number;
}

/** Null where the data set is in memory. Its threads wait until training, or an evaluation, begins. */
function startStream({ config, data, batch, recorded, hosts, pool, firstStep }: StreamParts): ImageStream | null {
  if (!isStreamed(data)) return null;
  const { train, test } = data;
  const { seed, globalBatch } = config.train;
  const hostRank = hosts?.rank ?? 0;
  const numHosts = hosts?.count ?? 1;
  const shards = batch.shards / numHosts;
  const { evaluationBatch } = recorded.program;
  const stride = numHosts * pool.world;
  return new ImageStream({
    train,
    test,
    ranks: pool.world,
    shards,
    trainOrder: {
      samples: { seed, count: train.count, shuffle: config.data.shuffle },
      globalBatch,
      shardBatch: batch.shardBatch,
      firstShard: hostRank * shards,
      firstStep,
      mixture: config.data.augment.mixup > 0 ? augmentationOf(config, data) : null,
    },
    testOrder: {
      count: test.count,
      batch: evaluationBatch,
      firstBatch: hostRank * pool.world,
      stride,
      rounds: Math.ceil(Math.ceil(test.count / evaluationBatch) / stride),
    },
  });
}

function augmentationOf(config: RunConfig, { train: { count, height, width } }: AnyDataSet): AugmentationOptions {
  return { ...config.data.augment, seed: config.train.seed, count, height, width };
}

/** One row a shard of this host; several hosts also have rows for what the others send, and one more element, for a request to stop. */
function arenaPlan(
  { hosts }: AssembleOptions,
  { allReduce }: RunConfig,
  { world, shards }: BatchPlan,
  { length, lowLength }: RowLayout,
): Omit<ArenaSpec, 'memory'> {
  const count = hosts?.addresses.length ?? 1;
  const ranks = world / count;
  if (allReduce.kind === 'tensorflow') return { world: ranks, shards: ranks, rowLength: length }; // for the last mean row
  if (!hosts) return { world, shards, rowLength: length, lowLength };
  const own = shards / count;
  const part = { firstShard: hosts.rank * own, allShards: shards, hostRows: hostRowsOf({ count, ...allReduce }) };
  return { world: ranks, shards: own, rowLength: length + 1, lowLength, hosts: part };
}

/** How TensorFlow adds the rows, where it does. */
function collectivePlan(
  { allReduce }: RunConfig,
  { world, shardsPerRank }: BatchPlan,
  { kind, areDistinct }: RunDevices,
  hosts: number,
): CollectivePlan | undefined {
  if (allReduce.kind !== 'tensorflow') return undefined;
  return { world, hosts, shardsPerRank, exact: allReduce.exact, hint: kind === 'gpu' && areDistinct ? 'nccl' : 'ring' };
}

/**
 * A rank that is gone is waited for in shared memory, and where TensorFlow adds the rows, in its collectives. On several hosts the link to the
 * others ends these (host-link.ts).
 */
function poolCallbacks(
  arenaSoFar: () => ArenaSpec | undefined,
  { allReduce }: RunConfig,
  { runtime }: RunDevices,
  hosts: HostLink | null,
): PoolCallbacks {
  const poison = (rank: number) => {
    const arena = arenaSoFar();
    if (arena) poisonGroup(arena, rank);
  };
  if (allReduce.kind !== 'tensorflow' || hosts) return { onDeath: poison };
  return {
    onDeath: (rank) => {
      poison(rank);
      abortCollectives(runtime, `rank ${rank} is gone`);
    },
    release: () => abortCollectives(runtime, 'the run has ended'),
  };
}

/** The shards and threads of the run so far, whatever the workers are now: they decide the bits. */
function withShards(config: RunConfig, { shards, threadsPerWorker }: ResumedParts): RunConfig {
  const logicalShards = shards / config.train.accumulate;
  return { ...config, train: { ...config.train, logicalShards, threadsPerWorker } };
}

/** Threads of one device's pool, before the batch is known to divide: a batch that does not is reported later, with the devices' names. */
function plannedThreads({ train }: RunConfig, workers: number): number {
  const { threadsPerWorker, logicalShards } = train;
  return threadsPerWorker ?? Math.max(1, Math.floor(availableCores() / (logicalShards ?? workers)));
}

/** XLA is for GPUs: on CPUs it is two to four times slower than oneDNN. */
function compilesByXla({ train }: RunConfig, { kind }: RunDevices): boolean {
  return train.compile === 'xla' || (train.compile === 'auto' && kind === 'gpu');
}

function devicesText({ names, kind }: RunDevices, { threadsPerWorker }: BatchPlan): string {
  const noun = kind === 'gpu' ? 'GPU' : 'CPU worker';
  const threads =
    kind === 'gpu' ? '' : ` with ${threadsPerWorker} ${threadsPerWorker === 1 ? 'thread' : 'threads'} each`;
  return `devices: ${names.length} ${noun}${names.length === 1 ? '' : 's'}${threads} (${names.join(', ')})`;
}

async function loadData({
  config,
  say,
  fallBackToSynthetic,
}: AssembleOptions): Promise<{ data: AnyDataSet; config: RunConfig }> {
  const environment = { cacheFolder: cacheFolder(), say };
  const { seed } = config.train;
  try {
    return { data: await loadDataSet({ ...config.data, seed }, environment), config };
  } catch (error) {
    const notFound = error instanceof DtrainError && error.code === 'DTRAIN_DATA_NOT_FOUND';
    if (!notFound || !fallBackToSynthetic || config.data.path !== null) throw error;
    say(
      'data: CIFAR-10 is neither on this machine nor reachable: using generated images instead (data.name=synthetic)',
    );
    const train = { ...config.train, epochs: SYNTHETIC_EPOCHS };
    const synthetic: RunConfig = { ...config, train, data: { ...config.data, name: 'synthetic' } };
    return { data: await loadDataSet({ ...synthetic.data, seed }, environment), config: synthetic };
  }
}

function splitShape({ count, height, width }: ImageSetExtent): { numImages: number; height: number; width: number } {
  return { numImages: count, height, width };
}

function beginningWeights({ weights }: AssembleOptions, config: RunConfig, model: Model): Weights {
  if (weights) return weights(model);
  if (config.model.initFrom !== null) return readWeights(config.model.initFrom, model);
  if (model.first) return model.first;
  return {
    parameters: initialWeights(model.parameters, config.train.seed),
    means: model.statistics.map(({ channels }) => new Float32Array(channels)),
    variances: model.statistics.map(({ channels }) => new Float32Array(channels).fill(1)),
  };
}

function residentSplits(data: AnyDataSet): Pick<DataSet, 'train' | 'test'> {
  if (isStreamed(data)) throw internalError('a data set that is streamed has no stream.');
  return { train: data.train, test: data.test };
}

async function prepareRanks(assembly: Assembly, life: number): Promise<void> {
  const { config, devices, batch, data, stream, recorded, arena, state, pool, hosts } = assembly;
  const firstRank = (hosts?.rank ?? 0) * pool.world; // among the ranks of all hosts
  const augmentation = augmentationOf(config, data);
  const fault = parseFault(process.env['DTRAIN_FAULT'], life);
  const preparation = (rank: number): Preparation => ({
    rank,
    runtime: { libraryPath: devices.library.path, context: devices.runtime.context },
    arena,
    limits: limitsOf(config.allReduce.timeoutSeconds),
    replica: {
      device: devices.names[rank]!,
      program: recorded.program,
      state,
      images: stream?.spec ?? residentSplits(data),
      shards: localShards(firstRank + rank, batch.world, batch.shards),
      augmentation,
    },
    severalHosts: hosts !== null,
    fault,
  });
  const isPrepared = new AbortController();
  const { firstStepSeconds } = limitsOf(config.allReduce.timeoutSeconds);
  const tooLate = delay(firstStepSeconds * 1000, undefined, { signal: isPrepared.signal }).then(() => {
    throw new DtrainError('DTRAIN_HANG', ExitCode.hang, `workers: not ready to train within ${firstStepSeconds} s.`);
  });
  tooLate.catch(() => undefined); // aborted
  try {
    await pool.runAll('prepare', preparation, hosts ? Promise.race([tooLate, hosts.alarm]) : tooLate);
  } finally {
    isPrepared.abort();
  }
}
