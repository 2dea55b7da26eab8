/** `dtrain bench`: runs a benchmark, prints a table for people or one JSON line, and checks its gate after all figures are out. */
import { ExitCode } from '../core/errors.js';
import { PHASES, type PhaseSeconds } from '../core/events.js';
import { writeFileAtomic } from '../core/files.js';
import type { AllReduceBench } from '../run/bench-all-reduce.js';
import type { DataBench, FeedingPath } from '../run/bench-data.js';
import type { ScalingBench } from '../run/bench-scaling.js';
import type { StepBench, StepBenchOptions } from '../run/bench-step.js';
import type { Context } from './context.js';
import type { Flags } from './flags.js';
import { hostsOf, hostWords } from './hosts-of.js';
import { bandwidthText, countText, percentText, rateText, shortText, tableText } from './number-text.js';
import { wordMeant } from './word-meant.js';

export async function benchStepCommand(flags: Flags, { console, run }: Context): Promise<number> {
  const devices = flags.devices();
  const result = await run.benchStep({ ...(await stepOptions(flags)), devices, say: (line) => console.say(line) });
  if (console.isJson) console.json(result);
  else console.out(stepTable(result));
  return ExitCode.ok;
}

const MAX_RANKS = 64;

export async function benchAllReduceCommand(flags: Flags, { console, run }: Context): Promise<number> {
  const overrides = flags.overrides(wordMeant);
  const foreign = overrides.find((word) => !/^(allReduce|gpu)\./.test(word));
  if (foreign !== undefined) flags.fail(`${foreign}: expected allReduce.KEY=VALUE or gpu.KEY=VALUE.`);
  const bytes = flags.count('bytes', 94_371_840, { min: 4, max: 2 ** 31 });
  if (bytes % 4 !== 0) flags.fail(`--bytes: expected a multiple of 4, got ${bytes}.`);
  const devices = flags.devices();
  if (devices && flags.text('ranks') !== undefined)
    flags.fail(`--ranks and --${devices.kind}s exclude each other: choose one.`);
  const ranks = devices?.count ?? flags.count('ranks', 2, { min: 1, max: MAX_RANKS });
  if (ranks > MAX_RANKS) flags.fail(`--${devices!.kind}s: expected at most ${MAX_RANKS}, got ${ranks}.`);
  const rounds = flags.count('rounds', 20, { min: 1, max: 1_000_000 });
  const { loadConfig } = await import('../config/load.js');
  const config = loadConfig({ overrides });
  if (bytes < 8 && (devices || config.allReduce.kind === 'tensorflow'))
    flags.fail(`--bytes: expected at least 8 on devices, got ${bytes}.`);
  const result = await run.benchAllReduce({ bytes, ranks, rounds, config, devices });
  if (console.isJson) console.json(result);
  else console.out(allReduceTable(result));
  return ExitCode.ok;
}

export async function benchScalingCommand(flags: Flags, context: Context): Promise<number> {
  const { console, run } = context;
  const minEfficiency = flags.fraction('min-efficiency') ?? 0;
  const chart = flags.text('chart');
  const { kind, counts } = flags.deviceCounts();
  const words = hostWords(flags);
  const options = { ...(await stepOptions(flags)), kind, counts, say: (line: string) => console.say(line) };
  const hosts = await hostsOf(words, options.config, context);
  const result = await run.benchScaling({ ...options, ...(hosts && { hosts }) });
  if (console.isJson) console.json(result);
  else console.out(scalingTable(result));
  if (chart !== undefined) {
    const { scalingChart } = await import('../report/scaling-chart.js');
    writeFileAtomic(chart, scalingChart(result));
    console.say(`chart: ${chart}`);
  }
  const low = result.points.filter(({ efficiency }) => !(efficiency >= minEfficiency));
  for (const { workers, efficiency } of low) {
    console.complain(
      `bench scaling: ${workers} workers: expected an efficiency of at least ${minEfficiency}, got ${shortText(efficiency)}.`,
    );
  }
  return low.length > 0 ? ExitCode.internal : ExitCode.ok;
}

export async function benchDataCommand(flags: Flags, { console, run }: Context): Promise<number> {
  const devices = flags.devices();
  const result = await run.benchData({ ...(await stepOptions(flags)), devices, say: (line) => console.say(line) });
  if (console.isJson) console.json(result);
  else console.out(dataTable(result));
  return ExitCode.ok;
}

async function stepOptions(flags: Flags): Promise<Omit<StepBenchOptions, 'devices' | 'say'>> {
  const overrides = flags.overrides(wordMeant);
  const file = flags.required('config', 'for instance --config resnet20');
  const steps = flags.count('steps', 20, { min: 1, max: 1_000_000 });
  const warmup = flags.count('warmup', 5, { min: 0, max: 1_000_000 });
  const { configName, loadConfig } = await import('../config/load.js'); // after the flags: a usage error need not wait for the schema
  return { config: loadConfig({ file, overrides }), configName: configName(file), steps, warmup };
}

function stepTable({
  config,
  workers,
  devices,
  globalBatch,
  precision,
  imagesPerSecond,
  secondsPerStep,
  seconds,
  ...rest
}: StepBench): string {
  const table = tableOf([
    ['run', `${config}, ${workers} x ${devices}, batch ${globalBatch}, ${precision}, ${rest.steps} steps`],
    [
      'speed',
      `${rateText(imagesPerSecond.median)} (${countText(imagesPerSecond.min)} to ${countText(imagesPerSecond.max)})`,
    ],
    ['step', milliseconds(secondsPerStep.median)],
    [
      'work',
      `${shortText(rest.flopsPerImage / 1e6)} MFLOP an image, ${shortText((rest.flopsPerImage * imagesPerSecond.median) / 1e9)} GFLOP/s`,
    ],
    ['start', `${shortText(rest.startSeconds)} s to the end of the first step`],
    ['memory', `${shortText(rest.peakRssBytes / 1e6)} MB`],
  ]);
  return `${table}\n\n${phaseBars(seconds)}`;
}

const BAR_CHARACTERS = 40;
/** A block of so many eighths. */
const EIGHTHS = ['', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];

/** What a step is made of, a line a phase. */
function phaseBars(seconds: PhaseSeconds): string {
  const all = PHASES.reduce((sum, phase) => sum + seconds[phase], 0);
  const rows = PHASES.map((phase) => {
    const share = seconds[phase] / all;
    return [phase, milliseconds(seconds[phase]), percentText(share), barText(share)] as const;
  });
  const figures = tableText(rows.map(([phase, time, share]) => [phase, time, share])).split('\n');
  return rows.map(([, , , bar], i) => `${figures[i]}  ${bar}`.trimEnd()).join('\n');
}

function barText(share: number): string {
  const eighths = Number.isFinite(share) ? Math.ceil(share * BAR_CHARACTERS * 8) : 0; // what is there at all is seen
  return '█'.repeat(eighths >> 3) + EIGHTHS[eighths & 7]!;
}

function allReduceTable({
  bytes,
  ranks,
  rounds,
  seconds,
  trafficBytesPerSecond,
  memcpyBytesPerSecond,
  kind,
  dtype,
  devices,
}: AllReduceBench): string {
  const where = devices === 'memory' ? 'in memory' : `on ${devices === 'gpu' ? 'GPUs' : 'CPU devices'}`;
  return tableOf([
    ['run', `${countText(bytes)} bytes, ${ranks} ranks, ${rounds} rounds, ${kind}, ${dtype} ${where}`],
    ['round', `${milliseconds(seconds.median)} (${milliseconds(seconds.min)} to ${milliseconds(seconds.max)})`],
    ['traffic', bandwidthText(trafficBytesPerSecond)],
    ['memcpy', bandwidthText(memcpyBytesPerSecond)],
  ]);
}

function scalingTable({ config, devices, precision, points }: ScalingBench): string {
  const rows = points.map(({ workers, hosts, imagesPerSecond, efficiency }) => [
    hosts === undefined ? `${workers}` : `${workers} on ${hosts} ${hosts === 1 ? 'host' : 'hosts'}`,
    countText(imagesPerSecond),
    percentText(efficiency),
  ]);
  return `${config}, ${devices}, ${precision}\n${tableText([['workers', 'images/s', 'efficiency'], ...rows])}`;
}

function dataTable({ config, workers, devices, globalBatch, steps, path, memory, stream }: DataBench): string {
  const rows: [string, string][] = [
    ['run', `${config}, ${workers} x ${devices}, batch ${globalBatch}, ${steps} steps`],
  ];
  const speeds = ({ imagesPerSecond, training }: FeedingPath) =>
    `${rateText(imagesPerSecond)} fed, trains at ${rateText(training.imagesPerSecond)}`;
  rows.push(['memory', memory ? speeds(memory) : 'the set does not fit']);
  rows.push(['stream', stream ? speeds(stream) : 'the set cannot be streamed']);
  if (stream) {
    const { threads, stepsAhead, peakSteps, training } = stream;
    const { stepsThatWaited, dataWait, waitSeconds } = training;
    const longest = stepsThatWaited > 0 ? `, ${milliseconds(waitSeconds.max)} at most` : '';
    rows.push(['ahead', `${threads} ${threads === 1 ? 'thread' : 'threads'}, ${peakSteps} of ${stepsAhead} batches`]);
    rows.push(['waits', `${stepsThatWaited} of ${steps} steps, ${percentText(dataWait)} of the time${longest}`]);
  }
  rows.push(['taken', path]);
  return tableOf(rows);
}

function milliseconds(seconds: number): string {
  return `${shortText(1000 * seconds)} ms`;
}

function tableOf(rows: readonly (readonly [string, string])[]): string {
  return rows.map(([name, text]) => `${name.padEnd(9)}${text}`).join('\n');
}
