/**
 * `node dist/bench/simulate-scaling.js`: images a second and efficiency at 1 to 64 GPUs, from measured phases and the bandwidths of a machine.
 *
 * Idea: a step is the compute of one GPU, which does not change with their number, plus what the sum of gradients adds. That is bytes over
 * bandwidths, counted as docs/cluster.md and collective/rank-group.ts move them, and latencies. Nothing is fitted: every number is an argument.
 * Limits: no contention for cores, caches or PCIe switches beyond the shared bandwidth that is given; no stragglers, no input pipeline; each
 * phase waits for the one before it unless `overlap` says otherwise. So efficiencies are upper bounds of what the same numbers can give.
 */
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

/** Bytes per second, each way, and seconds. */
export interface Machine {
  readonly name: string;
  readonly gpusPerHost: number;
  /** Between one GPU and the host's memory. */
  readonly pcie: number;
  /** All GPUs of a host together. */
  readonly pcieOfHost: number;
  /** What a sum reads and writes in the host's memory, by all threads. */
  readonly memory: number;
  /** NCCL's bus bandwidth between the GPUs of a host. */
  readonly nvlink: number;
  /** Of one host, all its adapters together. */
  readonly network: number;
  /** One message between hosts. */
  readonly networkLatency: number;
  /** One meeting of the ranks of a host. */
  readonly barrier: number;
}

export interface Work {
  readonly name: string;
  /** Of one GPU's share of the batch. */
  readonly imagesPerGpu: number;
  /** Feed, compute, update and report of one GPU: `seconds` of `dtrain bench step`, without reduce. */
  readonly computeSeconds: number;
  /** Parameters × bytes of an element. */
  readonly gradientBytes: number;
}

export type Path = 'shared-memory' | 'nccl';

export interface SimulationOptions {
  readonly path: Path;
  /** See allReduce.exact. */
  readonly exact: boolean;
  /** Seconds of compute that communication may hide behind, as a fraction of computeSeconds. */
  readonly overlap: number;
}

export interface Point {
  readonly gpus: number;
  readonly hosts: number;
  readonly reduceSeconds: number;
  readonly imagesPerSecond: number;
  /** Throughput of n GPUs over n times that of one. */
  readonly efficiency: number;
}

/** One step on `gpus`, in whole hosts where there are several. @throws never. */
export function simulate(gpus: number, work: Work, machine: Machine, options: SimulationOptions): Point {
  const hosts = Math.ceil(gpus / machine.gpusPerHost);
  const local = Math.min(gpus, machine.gpusPerHost);
  const inHost =
    options.path === 'shared-memory'
      ? sharedMemorySeconds(local, hosts, work, machine)
      : ncclSeconds(local, work, machine);
  const between = hosts === 1 ? 0 : betweenSeconds(hosts, work, machine, options);
  const hidden = Math.min(inHost + between, options.overlap * work.computeSeconds);
  const reduceSeconds = gpus === 1 ? alone(work, machine, options) : inHost + between - hidden;
  const perStep = work.computeSeconds + reduceSeconds;
  const imagesPerSecond = (gpus * work.imagesPerGpu) / perStep;
  const one = work.imagesPerGpu / (work.computeSeconds + alone(work, machine, options));
  return { gpus, hosts, reduceSeconds, imagesPerSecond, efficiency: imagesPerSecond / (gpus * one) };
}

/** One GPU needs no sum; by way of the host's memory it still makes the trip, since the row is what the update reads. */
function alone(work: Work, machine: Machine, { path, overlap }: SimulationOptions): number {
  if (path === 'nccl') return 0;
  return Math.max(0, sharedMemorySeconds(1, 1, work, machine) - overlap * work.computeSeconds);
}

/** Device → row, the sum of all rows (each read once, the result written once), result → device; two meetings, four with several hosts. */
function sharedMemorySeconds(gpus: number, hosts: number, { gradientBytes }: Work, machine: Machine): number {
  const link = Math.min(machine.pcie, machine.pcieOfHost / gpus);
  const traffic = (gpus + 1) * gradientBytes;
  return (2 * gradientBytes) / link + traffic / machine.memory + (hosts > 1 ? 4 : 2) * machine.barrier;
}

/** A ring: t = S/B × 2(n−1)/n, B NCCL's bus bandwidth. */
function ncclSeconds(gpus: number, { gradientBytes }: Work, { nvlink }: Machine): number {
  return ((2 * (gpus - 1)) / gpus) * (gradientBytes / nvlink);
}

/** Two hosts exchange one row each way; more of them gather all rows and add them, or send parts around a ring. */
function betweenSeconds(
  hosts: number,
  { gradientBytes }: Work,
  machine: Machine,
  { path, exact }: SimulationOptions,
): number {
  const gathers = path === 'shared-memory' && exact && hosts > 2;
  const rows = gathers ? hosts - 1 : (2 * (hosts - 1)) / hosts;
  const messages = gathers ? hosts - 1 : 2 * (hosts - 1);
  const added = path === 'shared-memory' ? ((gathers ? hosts : 1) + 1) * (gradientBytes / machine.memory) : 0;
  return rows * (gradientBytes / machine.network) + messages * machine.networkLatency + added;
}

const GB = 1e9;

/** Sources: docs/results/simulated-scaling.md. */
export const MACHINES: Readonly<Record<string, Machine>> = {
  'h100-sxm': {
    name: '8 H100 SXM, PCIe 5, 400 Gbit/s',
    gpusPerHost: 8,
    pcie: 55.6 * GB,
    pcieOfHost: 504 * GB,
    memory: 330 * GB,
    nvlink: 480 * GB,
    network: 50 * GB,
    networkLatency: 20e-6,
    barrier: 10e-6,
  },
  'a100-pcie': {
    name: '4 A100 on PCIe 4, 100 Gbit/s',
    gpusPerHost: 4,
    pcie: 18.5 * GB,
    pcieOfHost: 74 * GB,
    memory: 148 * GB,
    nvlink: 20 * GB,
    network: 12.5 * GB,
    networkLatency: 20e-6,
    barrier: 10e-6,
  },
};

export const WORKS: Readonly<Record<string, Work>> = {
  'resnet50-32': {
    name: 'ResNet-50 at 32×32, batch 128 a GPU, float32',
    imagesPerGpu: 128,
    computeSeconds: 15.2e-3,
    gradientBytes: 94e6,
  },
  'resnet50-224': {
    name: 'ResNet-50 at 224×224, batch 208 a GPU',
    imagesPerGpu: 208,
    computeSeconds: 208 / 3410,
    gradientBytes: 102e6,
  },
  'resnet20-32': {
    name: 'ResNet-20 at 32×32, batch 128 a GPU',
    imagesPerGpu: 128,
    computeSeconds: 4e-3,
    gradientBytes: 1.1e6,
  },
};

const COUNTS = [1, 2, 4, 8, 16, 32, 64];

function table(work: Work, machine: Machine, overlap: number): string {
  const kinds: readonly SimulationOptions[] = [
    { path: 'shared-memory', exact: true, overlap },
    { path: 'shared-memory', exact: false, overlap },
    { path: 'nccl', exact: false, overlap },
  ];
  const cell = ({ imagesPerSecond, efficiency }: Point) =>
    `${Math.round(imagesPerSecond).toLocaleString('en')} (${(100 * efficiency).toFixed(1)} %)`;
  const rows = COUNTS.map(
    (gpus) => `| ${gpus} | ${kinds.map((options) => cell(simulate(gpus, work, machine, options))).join(' | ')} |`,
  );
  return [
    `### ${work.name}; ${machine.name}`,
    '',
    '| GPUs | shared memory, exact | shared memory, ring between hosts | NCCL |',
    '|---|---|---|---|',
    ...rows,
  ].join('\n');
}

function main(): void {
  const options = {
    work: { type: 'string' },
    machine: { type: 'string' },
    overlap: { type: 'string', default: '0' },
    compute: { type: 'string' },
  } as const;
  const { values } = parseArgs({ options });
  const overlap = Number(values.overlap);
  const chosen = <T>(all: Readonly<Record<string, T>>, name: string | undefined, flag: string): T[] => {
    if (name === undefined) return Object.values(all);
    const found = all[name];
    if (found === undefined) throw new Error(`${flag}: expected one of ${Object.keys(all).join(', ')}, got ${name}.`);
    return [found];
  };
  if (!(overlap >= 0 && overlap <= 1)) throw new Error(`--overlap: expected a fraction, got ${values.overlap}.`);
  const computeSeconds = values.compute === undefined ? undefined : Number(values.compute);
  if (computeSeconds !== undefined && !(computeSeconds > 0))
    throw new Error(`--compute: expected seconds, got ${values.compute}.`);
  const tables = chosen(WORKS, values.work, '--work').flatMap((work) =>
    chosen(MACHINES, values.machine, '--machine').map((machine) =>
      table({ ...work, ...(computeSeconds && { computeSeconds }) }, machine, overlap),
    ),
  );
  process.stdout.write(`${tables.join('\n\n')}\n`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    main();
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n`);
    process.exitCode = 2;
  }
}
