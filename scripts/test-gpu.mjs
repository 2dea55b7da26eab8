// npm run test:gpu: everything that a machine with GPUs should be asked, in one command: correctness (test/gpu) on one device, on all of them and on
// parts of one card, then every bench, beside PyTorch on the same card in the same run. Writes one JSON file, bench/results/gpu-CARD-DATE.json.
// Where there is no GPU it says why it does nothing, and ends well.
//
//   --cpus N     N CPU devices in place of GPUs, so that every line here but the driver's runs anywhere; the file is dist/test-gpu.json then
//   --short      few steps and small models
//   --out FILE   another file
//   other words  parts of names: only those tests and benches
//
// PyTorch is the python in PEERS_PYTHON, else the environment that npm run bench:peers makes; where there is none, its figures are left out.
import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { runFile } from './recorded-tests.mjs';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
process.chdir(root);

const { values: flags, positionals: wanted } = parseArgs({
  allowPositionals: true,
  options: { cpus: { type: 'string' }, short: { type: 'boolean', default: false }, out: { type: 'string' } },
});
const isShort = flags.short;
const numCpus = flags.cpus === undefined ? 0 : Number(flags.cpus);
if (flags.cpus !== undefined && !(Number.isInteger(numCpus) && numCpus >= 1 && numCpus <= 64)) {
  console.error(`test:gpu: --cpus: expected a whole number from 1 to 64, got ${JSON.stringify(flags.cpus)}.`);
  process.exit(2);
}

/** Goal of every comparison with PyTorch: images/s of dtrain by those of PyTorch. */
const GOAL = 1.2;
const PAIRS = isShort ? 1 : 3;
/** Of a step, on one card; in a rehearsal as few as the models take. */
const BATCH = numCpus > 0 ? 8 * numCpus : 512;
const STEPS = isShort ? 2 : 50;
const WARMUP = isShort ? 1 : 10;
const ALL_REDUCE_BYTES = isShort ? 1_000_000 : 94_371_840;
/** The work that PyTorch's script does. */
const SAME_WORK = [
  'data.name=synthetic',
  'data.augment={crop: 0, flip: false, cutout: 0}',
  'optimizer.weightDecay=0.0001',
];

function skip(why) {
  console.log(`test:gpu: skipped: ${why} With --cpus N it runs on CPU devices.`);
  process.exit(0);
}

if (numCpus === 0 && !fs.existsSync('/proc/driver/nvidia/version') && !fs.existsSync('/dev/nvidiactl')) {
  skip('no NVIDIA driver is loaded on this machine.');
}
const main = 'dist/src/cli/main.js';
execFileSync(process.execPath, ['scripts/build.mjs'], { stdio: 'inherit' });
execFileSync(process.execPath, [main, 'setup', numCpus > 0 ? '--cpu' : '--gpu', '--quiet'], { stdio: 'inherit' });
const cards = numCpus > 0 ? [] : await usableCards();
const layouts = numCpus > 0 ? cpuLayouts(numCpus) : gpuLayouts(cards.length);
const file = flags.out ?? (numCpus > 0 ? 'dist/test-gpu.json' : resultFile(cards[0].name));

const skipped = [];
let hasFailed = false;
const correctness = runTests();
const benches = benchRows().filter(isWanted).map(runBench);
const peers = peerRows().filter(isWanted).flatMap(comparePeer);
const report = { command: commandText(), date: today(), machine: machineFacts(), correctness, benches, peers, skipped };
fs.mkdirSync(path.dirname(file), { recursive: true });
fs.writeFileSync(file, `${JSON.stringify(report, null, 2)}\n`);
printSummary();
process.exitCode = hasFailed ? 1 : 0;

// The machine

/** The cards that TensorFlow will use. Ends with a reason where the driver has none. */
async function usableCards() {
  const { readDriver, driverTrouble } = await import('../dist/src/tensorflow/cuda-driver.js');
  const driver = readDriver();
  const trouble = driverTrouble(driver, process.env.CUDA_VISIBLE_DEVICES);
  if (trouble) skip(`${trouble.what} ${trouble.cure}`);
  return driver.cards;
}

/** One device, all cards, and one card split in 2 and 4. */
function gpuLayouts(numCards) {
  const real = [...new Set([1, 2, numCards].filter((count) => count <= numCards))].sort((a, b) => a - b);
  return [
    ...real.map((count) => ({ kind: 'gpu', count, workersPerCard: 1 })),
    ...[2, 4].map((count) => ({ kind: 'gpu', count, workersPerCard: count })),
  ];
}

function cpuLayouts(count) {
  return [...new Set([1, count])].map((own) => ({ kind: 'cpu', count: own, workersPerCard: 1 }));
}

function deviceWords({ kind, count, workersPerCard }) {
  return [`--${kind}s`, String(count), ...(workersPerCard > 1 ? [`gpu.workersPerCard=${workersPerCard}`] : [])];
}

function layoutName({ kind, count, workersPerCard }) {
  return workersPerCard > 1 ? `${count}-on-one-card` : `${kind}s-${count}`;
}

function machineFacts() {
  const versionFile = '/proc/driver/nvidia/version';
  const driver = cards.length > 0 && fs.existsSync(versionFile) ? fs.readFileSync(versionFile, 'utf8') : '';
  return {
    cards: cards.map(({ name, capability }) => ({ name, capability: capability.join('.') })),
    driver: /\d{3}\.\d+(\.\d+)?/.exec(driver)?.[0] ?? null,
    processor: os.cpus()[0]?.model ?? 'unknown',
    cores: os.availableParallelism(),
    memoryBytes: os.totalmem(),
    node: process.version,
  };
}

function resultFile(card) {
  const slug = card
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-|-$/g, '');
  return `bench/results/gpu-${slug}-${today()}.json`;
}

function today() {
  return new Date().toISOString().slice(0, 10);
}

function commandText() {
  const words = [...(numCpus > 0 ? ['--cpus', String(numCpus)] : []), ...(isShort ? ['--short'] : []), ...wanted];
  return ['npm run test:gpu', ...(words.length > 0 ? ['--', ...words] : [])].join(' ');
}

function isWanted({ id }) {
  return wanted.length === 0 || wanted.some((word) => id.includes(word));
}

// Correctness

/** Runs test/gpu, a file a process; what they recorded. */
function runTests() {
  const folder = 'dist/test/gpu';
  const files = fs.readdirSync(folder).filter((name) => name.endsWith('.test.js'));
  return files
    .map((name) => ({ id: name.replace(/\.test\.js$/, ''), path: path.join(folder, name) }))
    .filter(isWanted)
    .flatMap(({ id, path: test }) => {
      const devices = layouts.map((layout) => ({ ...layout, short: isShort }));
      const { status, lines, seconds } = runFile(test, {
        DTRAIN_TEST_DEVICES: JSON.stringify(devices),
        // Float32 that is float32, and kernels that give the same bits twice, for these tests alone.
        ...(numCpus > 0 ? {} : { NVIDIA_TF32_OVERRIDE: '0', TF_DETERMINISTIC_OPS: '1' }),
      });
      console.log(`${id}: ${status === 0 ? 'passed' : 'FAILED'} in ${seconds.toFixed(1)} s`);
      hasFailed ||= status !== 0 || lines.some(({ pass }) => !pass);
      return [{ file: id, passed: status === 0, seconds: Number(seconds.toFixed(1)), records: lines }];
    });
}

// Benches

function benchRows() {
  const models = isShort ? ['resnet20'] : ['resnet20', 'resnet18', 'resnet50'];
  const compiles = numCpus > 0 && isShort ? ['graph'] : ['xla', 'graph'];
  const steps = models.flatMap((model) =>
    ['float32', 'bfloat16'].flatMap((precision) =>
      compiles.flatMap((compile) =>
        layouts.map((layout) => ({
          id: `step-${model}-${precision}-${compile}-${layoutName(layout)}`,
          words: stepWords(model, precision, compile, layout),
        })),
      ),
    ),
  );
  const several = layouts.filter(({ count }) => count > 1);
  const kinds = [['allReduce.kind=shared-memory'], ['allReduce.dtype=bfloat16'], ['allReduce.kind=tensorflow']];
  if (several.some(({ count }) => count > 2)) kinds.push(['allReduce.kind=tensorflow', 'allReduce.exact=false']);
  const allReduces = several.flatMap((layout) =>
    kinds.map((overrides) => ({
      id: `all-reduce-${layoutName(layout)}-${overrides.map((word) => word.split('=')[1]).join('-')}`,
      words: ['bench', 'all-reduce', ...deviceWords(layout), ...overrides, ...allReduceSize()],
    })),
  );
  const data = {
    id: 'data-resnet20',
    words: [
      'bench',
      'data',
      '--config',
      'resnet20',
      ...deviceWords(layouts[0]),
      ...SAME_WORK.slice(0, 1),
      ...stepSize(),
    ],
  };
  return [...steps, ...allReduces, ...scalingRow(), data, speedrunRow()];
}

function stepSize() {
  return [`train.globalBatch=${BATCH}`, '--steps', String(STEPS), '--warmup', String(WARMUP), '--json'];
}

function allReduceSize() {
  return ['--bytes', String(ALL_REDUCE_BYTES), '--rounds', isShort ? '2' : '20', '--json'];
}

function stepWords(model, precision, compile, layout) {
  const stem = model === 'resnet20' ? 'cifar' : 'imagenet';
  const overrides = [`train.precision=${precision}`, `train.compile=${compile}`, `model.stem=${stem}`];
  return ['bench', 'step', '--config', model, ...deviceWords(layout), ...SAME_WORK, ...overrides, ...stepSize()];
}

/** Parts of one card share it: their speed says nothing of several cards. */
function scalingRow() {
  const counts = layouts.filter(({ workersPerCard }) => workersPerCard === 1).map(({ count }) => count);
  const kind = layouts[0].kind;
  if (counts.length < 2) {
    skipped.push({ what: 'bench scaling', why: 'one device' });
    return [];
  }
  const words = [
    'bench',
    'scaling',
    '--config',
    'resnet20',
    `--${kind}s`,
    counts.join(','),
    ...SAME_WORK,
    ...stepSize(),
  ];
  return [{ id: 'scaling-resnet20', words }];
}

/** 94 % on CIFAR-10; in a rehearsal two steps on generated images. */
function speedrunRow() {
  const small = [`train.globalBatch=${BATCH}`, 'train.maxSteps=2', 'data.name=synthetic', 'train.compile=graph'];
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'dtrain-speedrun-'));
  process.once('exit', () => fs.rmSync(folder, { recursive: true, force: true }));
  const run = ['--config', 'speedrun', ...deviceWords(layouts[0]), '--json', '--run-dir', path.join(folder, 'run')];
  return { id: 'speedrun', words: isShort ? [...run, ...small] : run };
}

function runBench({ id, words }) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [main, ...words], { encoding: 'utf8' });
  const command = `dtrain ${words.join(' ')}`.replace(/ --run-dir \S+/, '');
  if (status !== 0) {
    hasFailed = true;
    console.log(`${id}: FAILED with exit code ${status}`);
    return { id, command, exitCode: status, error: stderr.trim().split('\n').at(-1) };
  }
  const result = lastJson(stdout);
  console.log(`${id}: ${figureOf(result)}`);
  return { id, command, result };
}

function lastJson(text) {
  return JSON.parse(text.trim().split('\n').at(-1));
}

function figureOf(result) {
  if (result.bench === 'all-reduce') return `${(1000 * result.seconds.median).toFixed(2)} ms`;
  if (result.bench === 'scaling')
    return result.points.map(({ workers, efficiency }) => `${workers}: ${efficiency.toFixed(2)}`).join(', ');
  if (result.bench === 'data') return `${result.imagesPerSecond} images/s`;
  if (result.bench === 'step') return `${result.imagesPerSecond.median} images/s`;
  return `test accuracy ${result.finalTestAccuracy} in ${result.wallSeconds} s`;
}

// PyTorch, on the same card in the same run

function peerRows() {
  const models = isShort ? ['resnet20'] : ['resnet20', 'resnet18', 'resnet50'];
  return models.flatMap((model) =>
    ['float32', 'bfloat16'].map((precision) => ({ id: `peer-${model}-${precision}`, model, precision })),
  );
}

/** Pair by pair: dtrain compiled by XLA (a rehearsal: as it comes), then PyTorch, eager and compiled; the better of those is the peer. */
function comparePeer({ id, model, precision }) {
  const python = pytorchPython();
  if (python === undefined) {
    const why = 'no PyTorch: set PEERS_PYTHON, or let npm run bench:peers make its environment';
    skipped.push({ what: id, why });
    return [];
  }
  const ours = [process.execPath, main, ...stepWords(model, precision, 'auto', layouts[0])];
  const stem = model === 'resnet20' ? 'cifar' : 'imagenet';
  const common = ['--model', model, '--precision', precision, '--stem', stem, '--batch', String(BATCH)];
  const size = ['--steps', String(STEPS), '--warmup', String(WARMUP), '--threads', '1'];
  const script = [python, 'bench/reference/pytorch_step.py', ...common, ...size];
  const theirs = numCpus > 0 ? [script] : cudaVariants([...script, '--device', 'cuda']);
  const ratios = [];
  const figures = { ours: [], peer: [] };
  for (let pair = 0; pair < PAIRS; pair++) {
    const own = imagesPerSecond(ours);
    const best = Math.max(...theirs.map(imagesPerSecond));
    if (!(own > 0 && best > 0)) {
      hasFailed = true;
      console.log(`${id}: FAILED: ${own > 0 ? 'PyTorch' : 'dtrain'} gave no figure`);
      return [{ id, error: 'a command failed' }];
    }
    figures.ours.push(own);
    figures.peer.push(best);
    ratios.push(own / best);
  }
  const ratio = median(ratios);
  console.log(`${id}: ${ratio.toFixed(2)} times PyTorch (goal ${GOAL})`);
  const commands = [ours, ...theirs].map((command) => command.join(' ').replace(/^\S*\//, ''));
  return [{ id, goal: GOAL, ratio, ratios, reached: ratio >= GOAL, ...figures, commands }];
}

function cudaVariants(script) {
  return [script, [...script, '--compile'], [...script, '--compile', 'reduce-overhead']];
}

/** 0 where the command fails. */
function imagesPerSecond([program, ...words]) {
  const { status, stdout } = spawnSync(program, words, { encoding: 'utf8' });
  return status === 0 ? lastJson(stdout).imagesPerSecond.median : 0;
}

function pytorchPython() {
  if (process.env.PEERS_PYTHON) return process.env.PEERS_PYTHON;
  const cache = process.env.DTRAIN_HOME ?? path.join(process.env.XDG_CACHE_HOME ?? `${os.homedir()}/.cache`, 'dtrain');
  const python = path.join(cache, 'peers', 'bin', 'python');
  return fs.existsSync(python) ? python : undefined;
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

function printSummary() {
  const records = correctness.flatMap((test) => test.records);
  console.log(`\n${records.length} proofs, ${benches.length} benches, ${peers.length} comparisons with PyTorch`);
  for (const { name, observed, pass } of records) console.log(`${pass ? 'pass' : 'FAIL'}  ${name}: ${observed}`);
  for (const { what, why } of skipped) console.log(`skipped  ${what}: ${why}`);
  console.log(file);
}
