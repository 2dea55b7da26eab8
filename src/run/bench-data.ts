/**
 * `dtrain bench data`: how many images a second reach the steps, from memory and from the stream, and how long real steps wait for them.
 *
 * Idea: of each path first the `feed` phase alone, as fast as it goes, which for the stream is the speed of decoding; then real training
 * steps, of which the waits are read. Each path is a process of its own (bench-data-process.ts).
 */
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { RunConfig } from '../config/schema.js';
import { nowSeconds } from '../core/clock.js';
import { DtrainError, deserializeError, ExitCode, type SerializedError } from '../core/errors.js';
import { median } from '../core/statistics.js';
import { type Assembly, assemble } from './assemble.js';
import { Coordinator, rounded } from './coordinator.js';
import { decodingEnvironment } from './decoder-pool.js';
import type { DeviceRequest } from './devices.js';

export interface DataBenchOptions {
  readonly config: RunConfig;
  readonly configName: string;
  readonly devices: DeviceRequest | null;
  /** Timed training steps, and steps before them that are not. */
  readonly steps: number;
  readonly warmup: number;
  readonly say?: (line: string) => void;
}

export interface DataBench {
  readonly bench: 'data';
  readonly config: string;
  readonly devices: 'cpu' | 'gpu';
  readonly workers: number;
  readonly globalBatch: number;
  /** Timed training steps. */
  readonly steps: number;
  /** Of the path that a run of this configuration takes: fed, without training. */
  readonly imagesPerSecond: number;
  readonly path: 'memory' | 'stream';
  /** Null where the set does not fit. */
  readonly memory: FeedingPath | null;
  /** Null where the set cannot be streamed. */
  readonly stream: (FeedingPath & StreamFacts) | null;
}

export interface FeedingPath {
  /** Fed, without training. */
  readonly imagesPerSecond: number;
  readonly training: {
    readonly imagesPerSecond: number;
    /** Share of the time in which the slowest worker waited for images. */
    readonly dataWait: number;
    readonly waitSeconds: { readonly median: number; readonly max: number };
    readonly stepsThatWaited: number;
  };
}

export interface StreamFacts {
  readonly threads: number;
  /** The room for decoded steps, and the most that were in it at once. */
  readonly stepsAhead: number;
  readonly peakSteps: number;
}

/** What one process measured. */
export interface PathMeasured extends Pick<DataBench, 'devices' | 'workers'> {
  readonly path: FeedingPath;
  /** Null where it came from memory. */
  readonly stream: StreamFacts | null;
}

export type PathAnswer = { readonly measured: PathMeasured } | { readonly error: SerializedError };

/** The feed alone is measured for at least so long. */
const FEED_SECONDS = 0.5;
/** Waits shorter than this are the look itself. */
const WAIT_SECONDS = 1e-4;

/** @throws what assembling and training throw; DTRAIN_BENCH_FAILED (exit 10) where a process ended without a word. */
export async function benchData(options: DataBenchOptions): Promise<DataBench> {
  const { config, configName, steps, say = () => undefined } = options;
  const own = await measureApart(options, config.data.memoryBytes);
  // A set that the machine has no room for is not forced into it.
  const otherBytes = own.stream === null ? 0 : config.data.memoryBytes === null ? undefined : null;
  const other = otherBytes === undefined ? null : await otherPath(options, otherBytes, own, say);
  const paths = [own, ...(other ? [other] : [])];
  const memory = paths.find(({ stream }) => stream === null);
  const streamed = paths.find(({ stream }) => stream !== null);
  return {
    bench: 'data',
    config: configName,
    devices: own.devices,
    workers: own.workers,
    globalBatch: config.train.globalBatch,
    steps,
    imagesPerSecond: own.path.imagesPerSecond,
    path: own.stream ? 'stream' : 'memory',
    memory: memory?.path ?? null,
    stream: streamed ? { ...streamed.path, ...streamed.stream! } : null,
  };
}

/** Null where there is no other: a set that cannot be streamed, or does not fit. */
async function otherPath(
  options: DataBenchOptions,
  memoryBytes: number | null,
  own: PathMeasured,
  say: (line: string) => void,
): Promise<PathMeasured | null> {
  try {
    const other = await measureApart(options, memoryBytes);
    return (other.stream === null) === (own.stream === null) ? null : other;
  } catch (error) {
    if (!(error instanceof DtrainError) || error.code !== 'DTRAIN_DATA_LIMIT') throw error;
    say(error.message);
    return null;
  }
}

/** In a process of its own, with `data.memoryBytes` so. */
async function measureApart(options: DataBenchOptions, memoryBytes: number | null): Promise<PathMeasured> {
  const { say = () => undefined, config, ...rest } = options;
  const given = { ...rest, config: { ...config, data: { ...config.data, memoryBytes } } };
  const entry = fileURLToPath(new URL('./bench-data-process.js', import.meta.url));
  const child = spawn(process.execPath, [entry, JSON.stringify(given)], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: decodingEnvironment(),
  });
  const kill = () => child.kill('SIGKILL');
  process.once('exit', kill);
  let [answer, unread] = ['', ''];
  child.stdout.setEncoding('utf8').on('data', (text: string) => (answer += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    const lines = (unread + text).split('\n');
    unread = lines.pop()!;
    for (const line of lines) say(line);
  });
  const end = await new Promise<string>((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('close', (code, signal) => resolve(signal ?? `exit code ${code}`));
  });
  process.off('exit', kill);
  const line = answer.trim().split('\n').at(-1) ?? '';
  if (!line.startsWith('{')) {
    const text = `bench data: its process ended without a result (${end}). ${unread.trim()}`.trim();
    throw new DtrainError('DTRAIN_BENCH_FAILED', ExitCode.workerFailed, text);
  }
  const said = JSON.parse(line) as PathAnswer;
  if ('error' in said) throw deserializeError(said.error);
  return said.measured;
}

/** In this process. @throws what assembling and training throw. */
export async function measurePath(options: DataBenchOptions): Promise<PathMeasured> {
  const { config, configName, steps, warmup, say = () => undefined } = options;
  const assembly = await assemble({ ...options, command: `dtrain bench data --config ${configName}`, say });
  try {
    const { stream, devices, batch } = assembly;
    const coordinator = new Coordinator(assembly, () => config.schedule.learningRate);
    const room = stream?.stepsAhead ?? 0;
    // What was decoded before the clock starts does not count.
    const { seconds, numSteps } = await feedAlone(assembly, coordinator, steps, room + warmup);
    const first = room + warmup + numSteps;
    const trained = await trainSteps(coordinator, first, warmup, steps, config.train.globalBatch);
    const path = {
      imagesPerSecond: rounded((numSteps * config.train.globalBatch) / seconds, 1),
      training: trained,
    };
    const facts = stream && { threads: stream.numThreads, stepsAhead: room, peakSteps: stream.peak('train') };
    return { devices: devices.kind, workers: batch.world, path, stream: facts };
  } finally {
    await assembly.close();
  }
}

/** Segments of `steps` steps' feed until enough time has passed, after `before` steps that are not timed. */
async function feedAlone(
  { pool }: Assembly,
  coordinator: Coordinator,
  steps: number,
  before: number,
): Promise<{ readonly seconds: number; readonly numSteps: number }> {
  const feed = async (step: number, count: number) => {
    using watchdog = coordinator.watchdog();
    const segment = coordinator.segment(step, step + count);
    await pool.runAll('feed', () => segment, watchdog.alarm);
  };
  if (before > 0) await feed(0, before);
  const start = nowSeconds();
  let numSteps = 0;
  do {
    await feed(before + numSteps, steps);
    numSteps += steps;
  } while (nowSeconds() - start < FEED_SECONDS);
  return { seconds: nowSeconds() - start, numSteps };
}

async function trainSteps(
  coordinator: Coordinator,
  first: number,
  warmup: number,
  steps: number,
  globalBatch: number,
): Promise<FeedingPath['training']> {
  const begin = first + 1 + warmup; // the first step compiles
  await coordinator.runSegment(first, begin);
  const { seconds, waits } = await coordinator.runSegment(begin, begin + steps);
  const waited = waits.length > 0 ? [...waits] : [0];
  return {
    imagesPerSecond: rounded((steps * globalBatch) / seconds, 1),
    dataWait: rounded(waited.reduce((sum, wait) => sum + wait, 0) / seconds, 6),
    waitSeconds: { median: rounded(median(waited), 6), max: rounded(Math.max(...waited), 6) },
    stepsThatWaited: waited.filter((wait) => wait > WAIT_SECONDS).length,
  };
}
