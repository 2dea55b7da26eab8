/**
 * `npm run bench:peers [ROW...]`: dtrain against its peers on this machine, in turn, A B A B. With rows, those whose names hold one of the words;
 * their figures take the place of older ones in the day's file.
 *
 * Idea: every figure is a ratio of two commands that ran one after the other; the median of the pairs is compared with the goal, so a
 * machine whose speed drifts disturbs both alike. Same work on both sides: momentum SGD, no augmentation, synthetic images.
 * Peers are PyTorch and TensorFlow in Python, as their experts write them (bench/reference), each in an environment of its own that is
 * made once in the cache folder; PEERS_PYTHON and PEERS_TENSORFLOW_PYTHON name pythons that have them already. Of several forms of a peer the
 * best counts, pair by pair; a form that is far behind in the first pair is not run again. A row without a peer holds
 * a figure of ours against a bound. Writes bench/results/<what>-<machine>-<date>.json and prints a table.
 */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { tableText } from '../src/cli/number-text.js';
import { writeFileAtomic } from '../src/core/files.js';
import { cacheFolder } from '../src/core/home.js';
import { median, type Spread, spread } from '../src/core/statistics.js';

type Json = Readonly<Record<string, unknown>>;

interface Row {
  readonly id: string;
  readonly work: string;
  readonly goal: number;
  readonly ours: readonly string[];
  /** The better one of these is the peer, pair by pair. None: the peer's figure is 1. */
  readonly peers: () => readonly (readonly string[])[];
  /** A figure that is better when it is larger. */
  readonly figure: (result: Json) => number;
  /** What our own figure must reach as well. */
  readonly atLeast?: number;
}

interface Measured {
  readonly id: string;
  /** When its last pair ended, in UTC. */
  readonly at: string;
  readonly work: string;
  readonly goal: number;
  readonly ratio: Spread;
  readonly ours: Spread;
  readonly peer: Spread;
  readonly reached: boolean;
  readonly commands: readonly string[];
}

/** A file of bench/results. */
interface Results {
  readonly command: string;
  readonly date: string;
  readonly machine: Json;
  readonly rows: readonly Measured[];
}

const ROOT = path.dirname(path.dirname(path.dirname(fileURLToPath(import.meta.url))));
const REFERENCE = path.join(ROOT, 'bench', 'reference');
const PAIRS = 3;
/** Of the best form of a peer in the first pair: a slower one than this is not run again. */
const FAR_BEHIND = 0.8;

const imagesPerSecond = (result: Json) => (result['imagesPerSecond'] as Spread).median;
const oneOver = (key: string) => (result: Json) => 1 / (result[key] as number);
/** Of ours the second point's, of the peer's script the only one. */
const efficiencyOfTwo = (result: Json) =>
  (result['efficiency'] as number | undefined) ?? (result['points'] as { efficiency: number }[])[1]!.efficiency;
const roundsPerSecond = (result: Json) => 1 / (result['seconds'] as Spread).median;

/** Options that make our step the peers' work. */
const SAME_WORK = [
  'data.name=synthetic',
  'data.augment={crop: 0, flip: false, cutout: 0}',
  'optimizer.weightDecay=0.0001',
];

function dtrainWords(bench: string, config: string, cpus: string): string[] {
  const steps = config === 'resnet20' ? '20' : '8';
  const main = path.join(ROOT, 'dist/src/cli/main.js');
  return [process.execPath, main, 'bench', bench, '--config', config, '--cpus', cpus, '--steps', steps, '--json'];
}

function dtrainStep(config: string, ...words: readonly string[]): string[] {
  return [...dtrainWords('step', config, '2'), '--warmup', '3', 'train.globalBatch=128', ...SAME_WORK, ...words];
}

function pytorchSteps(model: string, ...words: readonly string[]): string[][] {
  const steps = model === 'resnet20' ? '20' : '8';
  const script = [
    pytorchPython(),
    path.join(REFERENCE, 'pytorch_step.py'),
    '--model',
    model,
    '--steps',
    steps,
    '--warmup',
    '3',
    ...words,
  ];
  const eager = [
    [...script, '--processes', '2', '--threads', '1'],
    [...script, '--processes', '1', '--threads', '2'],
  ];
  // The CIFAR network is compared with what is written for it; torchvision's also with what the compiler makes of them.
  return model === 'resnet20' ? eager : [...eager, ...eager.map((form) => [...form, '--compile'])];
}

/** Of a step's seconds, the share that lies outside of TensorFlow's kernels. */
function shareOutsideKernels(result: Json): number {
  const seconds = result['seconds'] as Readonly<Record<string, number>>;
  const all = Object.values(seconds).reduce((sum, value) => sum + value, 0);
  return (seconds['feed']! + seconds['reduce']! + seconds['report']!) / all;
}

function kerasSteps(precision: string): string[][] {
  const script = [tensorflowPython(), path.join(REFERENCE, 'keras_step.py'), '--precision', precision];
  return ['fit', 'function'].map((loop) => [...script, '--loop', loop]);
}

function rows(): Row[] {
  const step = (config: string, precision: string, goal: number): Row => {
    const stem = config === 'resnet20' ? 'cifar' : 'imagenet';
    return {
      id: `${config}-${precision}`,
      work: `${config}, batch 128, ${precision}`,
      goal,
      ours: dtrainStep(config, `train.precision=${precision}`, `model.stem=${stem}`),
      peers: () => pytorchSteps(config, '--precision', precision, '--stem', stem),
      figure: imagesPerSecond,
    };
  };
  const allReduce = (ranks: number): Row => {
    const size = ['--bytes', '94371840', '--ranks', `${ranks}`, '--rounds', '20'];
    return {
      id: `all-reduce-${ranks}`,
      work: `all-reduce of 94 MB, ${ranks} ranks (gloo)`,
      goal: 12,
      ours: [process.execPath, path.join(ROOT, 'dist/src/cli/main.js'), 'bench', 'all-reduce', ...size, '--json'],
      peers: () => [[pytorchPython(), path.join(REFERENCE, 'pytorch_allreduce.py'), ...size]],
      figure: roundsPerSecond,
    };
  };
  const resnet20 = step('resnet20', 'float32', 1.4);
  return [
    resnet20,
    step('resnet20', 'bfloat16', 1.3),
    step('resnet18', 'float32', 1.3),
    step('resnet18', 'bfloat16', 1.5),
    step('resnet50', 'float32', 1.3),
    step('resnet50', 'bfloat16', 1.6),
    allReduce(2),
    allReduce(4),
    {
      id: 'all-reduce-bandwidth',
      work: 'all-reduce, 2 ranks: share of the copy bandwidth',
      goal: 0.9,
      ours: allReduce(2).ours,
      peers: () => [],
      figure: (result) => (result['trafficBytesPerSecond'] as number) / (result['memcpyBytesPerSecond'] as number),
    },
    {
      id: 'outside',
      work: 'ResNet-20: 1 % over the share outside of kernels',
      goal: 1,
      ours: resnet20.ours,
      peers: () => [],
      figure: (result) => 0.01 / shareOutsideKernels(result),
    },
    {
      id: 'scaling',
      work: 'efficiency of 2 workers, ResNet-20 (DDP)',
      goal: 1,
      atLeast: 0.97,
      ours: [...dtrainWords('scaling', 'resnet20', '1,2'), 'train.globalBatch=128', ...SAME_WORK],
      peers: () => [
        [pytorchPython(), path.join(REFERENCE, 'pytorch_scaling.py'), '--model', 'resnet20', '--steps', '20'],
      ],
      figure: efficiencyOfTwo,
    },
    {
      ...step('resnet20', 'float32', 1.5),
      id: 'tensorflow-float32',
      work: 'ResNet-20, float32 (TensorFlow in Python)',
      peers: () => kerasSteps('float32'),
    },
    {
      ...step('resnet20', 'bfloat16', 1.5),
      id: 'tensorflow-bfloat16',
      work: 'ResNet-20, bfloat16 (TensorFlow in Python)',
      peers: () => kerasSteps('bfloat16'),
    },
    {
      ...resnet20,
      id: 'start',
      work: 'command to first finished step, ResNet-20',
      goal: 2,
      figure: oneOver('startSeconds'),
    },
    { ...resnet20, id: 'memory', work: 'peak resident memory, ResNet-20', goal: 1, figure: oneOver('peakRssBytes') },
  ];
}

function pytorchPython(): string {
  return process.env['PEERS_PYTHON'] ?? environment('peers', 'requirements.txt');
}

function tensorflowPython(): string {
  return process.env['PEERS_TENSORFLOW_PYTHON'] ?? environment('peers-tensorflow', 'requirements-tensorflow.txt');
}

/** The python of an environment in the cache folder, which is made when it is missing. */
function environment(name: string, requirements: string): string {
  const folder = path.join(cacheFolder(), name);
  const python = path.join(folder, 'bin', 'python');
  const done = path.join(folder, 'complete');
  if (!fs.existsSync(done)) {
    process.stderr.write(`making the peers' environment in ${folder}: a download of some gigabytes\n`);
    execFileSync('python3', ['-m', 'venv', folder], { stdio: 'inherit' });
    execFileSync(python, ['-m', 'pip', 'install', '--quiet', '-r', path.join(REFERENCE, requirements)], {
      stdio: 'inherit',
    });
    fs.writeFileSync(done, '');
  }
  return python;
}

/** The JSON that is a command's last line of standard output. */
function resultOf(command: readonly string[]): Json {
  const output = execFileSync(command[0]!, command.slice(1), { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  return JSON.parse(output.trim().split('\n').at(-1)!) as Json;
}

function measure({ id, work, goal, ours, peers: peersOf, figure, atLeast }: Row): Measured {
  const peers = peersOf();
  let near = peers;
  const own: number[] = [];
  const best: number[] = [];
  for (let pair = 0; pair < PAIRS; pair++) {
    own.push(figure(resultOf(ours)));
    const figures = near.map((peer) => figure(resultOf(peer)));
    const most = near.length === 0 ? 1 : Math.max(...figures);
    best.push(most);
    near = near.filter((_, i) => figures[i]! >= FAR_BEHIND * most);
    process.stderr.write(`${id}: pair ${pair + 1} of ${PAIRS}: ${(own.at(-1)! / best.at(-1)!).toFixed(2)}\n`);
  }
  const ratios = own.map((value, i) => value / best[i]!);
  return {
    id,
    at: new Date().toISOString().slice(0, 16),
    work,
    goal,
    ratio: spread(ratios),
    ours: spread(own),
    peer: spread(best),
    reached: median(ratios) >= goal && median(own) >= (atLeast ?? Number.NEGATIVE_INFINITY),
    commands: [ours, ...peers].map((command) =>
      command.map((word) => word.replace(`${ROOT}/`, '').replace(/^\/.*\//, '')).join(' '),
    ),
  };
}

function machineFacts(): Json {
  const [cpu] = os.cpus();
  return {
    processor: cpu?.model ?? 'unknown',
    cores: os.availableParallelism(),
    memoryBytes: os.totalmem(),
    node: process.version,
  };
}

/** The day's file with `measured` in it, rows in the order of `ids`; what is not measured anew stays. */
function merged(file: string, measured: readonly Measured[], ids: readonly string[], date: string): Results {
  const before = fs.existsSync(file) ? (JSON.parse(fs.readFileSync(file, 'utf8')) as Results) : undefined;
  const isAnew = new Set(measured.map(({ id }) => id));
  const kept = before?.rows.filter(({ id }) => !isAnew.has(id)) ?? [];
  const rows = [...kept, ...measured].sort((a, b) => ids.indexOf(a.id) - ids.indexOf(b.id));
  return { command: 'npm run bench:peers', date, machine: machineFacts(), rows };
}

function tableOf(rows: readonly Measured[]): string {
  const ratioText = ({ median, min, max }: Spread) => `${median.toFixed(2)} (${min.toFixed(2)} to ${max.toFixed(2)})`;
  const lines = rows.map(({ work, ratio, goal, reached }) => {
    return [work, ratioText(ratio), String(goal), reached ? 'reached' : 'not reached'];
  });
  return tableText([['work', 'of the peer (spread)', 'goal', 'verdict'], ...lines]);
}

const wanted = process.argv.slice(2);
const all = rows();
const chosen = all.filter(({ id }) => wanted.length === 0 || wanted.some((word) => id.includes(word)));
const ids = all.map(({ id }) => id);
if (chosen.length === 0) throw new Error(`no row is called ${wanted.join(', ')}; there are ${ids.join(', ')}`);
const date = new Date().toISOString().slice(0, 10);
const machine = (os.cpus()[0]?.model ?? 'machine')
  .toLowerCase()
  .replace(/[^a-z0-9]+/g, '-')
  .slice(0, 24)
  .replace(/-$/, '');
const file = path.join(ROOT, 'bench', 'results', `peers-${machine}-${os.availableParallelism()}-cores-${date}.json`);
fs.mkdirSync(path.dirname(file), { recursive: true });
const results: Measured[] = [];
for (const row of chosen) {
  results.push(measure(row));
  // After each row: hours of figures are not lost to the last one.
  writeFileAtomic(file, `${JSON.stringify(merged(file, results, ids, date), null, 2)}\n`);
}
process.stdout.write(`${tableOf(results)}\n${path.relative(process.cwd(), file)}\n`);
