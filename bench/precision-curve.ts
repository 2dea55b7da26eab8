/**
 * `npm run bench:precision-curve`: whether ResNet-20 in bfloat16 learns CIFAR-10 as it does in float32, over three epochs.
 *
 * Idea: three seeds in float32 say how far two runs of the same recipe lie apart by chance. The run in bfloat16 has the first of these seeds, so it
 * sees the same images from the same weights, and its distance from that run is compared with the spread of the three, part by part of an epoch.
 * Writes docs/results/bfloat16-curve: the events of each run, a table and a chart. A run whose events are there is not made again.
 */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { EvaluationEvent, StepEvent, TrainEvent } from '../src/core/events.js';

const ROOT = path.dirname(path.dirname(path.dirname(fileURLToPath(import.meta.url))));
const FOLDER = path.join(ROOT, 'docs', 'results', 'bfloat16-curve');
const EPOCHS = 3;
const CPUS = 2;
/** Each epoch is looked at in so many parts. */
const PARTS = 4;
const RUNS = [
  { precision: 'float32', seed: 0 },
  { precision: 'float32', seed: 1 },
  { precision: 'float32', seed: 2 },
  { precision: 'bfloat16', seed: 0 },
] as const;

type Run = (typeof RUNS)[number];

interface Curve {
  readonly run: Run;
  /** Mean training loss of each part. */
  readonly losses: readonly number[];
  readonly evaluations: readonly EvaluationEvent[];
  readonly steps: readonly StepEvent[];
}

function nameOf({ precision, seed }: Run): string {
  return `${precision}, seed ${seed}`;
}

function wordsOf({ precision, seed }: Run): string[] {
  const overrides = [`train.epochs=${EPOCHS}`, `train.precision=${precision}`, `train.seed=${seed}`];
  return ['--config', 'resnet20', '--cpus', `${CPUS}`, '--json', ...overrides];
}

/** The events of a run; trains where they are not there. */
function curveOf(run: Run): Curve {
  const file = path.join(FOLDER, `${run.precision}-${run.seed}.jsonl`);
  if (!fs.existsSync(file)) {
    const runDir = fs.mkdtempSync(path.join(os.tmpdir(), 'dtrain-precision-'));
    process.stderr.write(`${nameOf(run)} …\n`);
    try {
      const words = [path.join(ROOT, 'dist/src/cli/main.js'), ...wordsOf(run), '--run-dir', path.join(runDir, 'run')];
      const text = execFileSync(process.execPath, words, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });
      fs.writeFileSync(file, text.replaceAll(runDir, 'runs'));
    } finally {
      fs.rmSync(runDir, { recursive: true, force: true });
    }
  }
  const lines = fs.readFileSync(file, 'utf8').trim().split('\n');
  const events = lines.map((line) => JSON.parse(line) as TrainEvent);
  const steps = events.filter((event) => event.event === 'step');
  const evaluations = events.filter((event) => event.event === 'evaluation');
  return { run, steps, evaluations, losses: partsOf(steps) };
}

/** A `step` event tells the mean over the steps since the one before it. */
function partsOf(steps: readonly StepEvent[]): number[] {
  const last = steps.at(-1)!.step;
  const numParts = EPOCHS * PARTS;
  const sums = Array.from({ length: numParts }, () => ({ loss: 0, steps: 0 }));
  for (const [i, { step, loss }] of steps.entries()) {
    const before = steps[i - 1]?.step ?? 0;
    const part = sums[Math.min(numParts - 1, Math.floor((((before + step) / 2) * numParts) / last))]!;
    part.loss += loss * (step - before);
    part.steps += step - before;
  }
  return sums.map(({ loss, steps: count }) => loss / count);
}

const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;

fs.mkdirSync(FOLDER, { recursive: true });
const curves = RUNS.map(curveOf);
const low = curves.at(-1)!;
const full = curves.slice(0, -1);
const rows = low.losses.map((loss, part) => {
  const seeds = full.map(({ losses }) => losses[part]!);
  const [least, most] = [Math.min(...seeds), Math.max(...seeds)];
  return { epoch: (part + 1) / PARTS, seeds, loss, spread: most - least, difference: loss - seeds[0]! };
});
const [difference, spread] = [mean(rows.map((row) => Math.abs(row.difference))), mean(rows.map((row) => row.spread))];
const isWithin = difference <= spread;
const inside = rows.filter(({ loss, seeds }) => loss >= Math.min(...seeds) && loss <= Math.max(...seeds)).length;

const table = [
  [
    'epoch',
    ...full.map(({ run }) => nameOf(run)),
    nameOf(low.run),
    'spread of the seeds',
    'bfloat16 less float32, seed 0',
  ],
  ['---', ...RUNS.map(() => '---'), '---', '---'],
  ...rows.map((row) =>
    [row.epoch, ...row.seeds, row.loss, row.spread, row.difference].map((value, i) => value.toFixed(i === 0 ? 2 : 3)),
  ),
];
const accuracies = [
  ['epoch', ...curves.map(({ run }) => nameOf(run))],
  ['---', ...curves.map(() => '---')],
  ...low.evaluations.map(({ epoch }, i) => [
    `${epoch}`,
    ...curves.map(
      ({ evaluations }) =>
        `${(100 * evaluations[i]!.testAccuracy).toFixed(2)} % (${evaluations[i]!.testLoss.toFixed(3)})`,
    ),
  ]),
];
const markdown = (lines: readonly (readonly string[])[]) => lines.map((cells) => `| ${cells.join(' | ')} |`).join('\n');
const first = curves[0]!;
const versions = { node: process.version, processor: os.cpus()[0]?.model, cores: os.availableParallelism() };
fs.writeFileSync(path.join(FOLDER, 'losses.svg'), chart());
fs.writeFileSync(
  path.join(FOLDER, 'README.md'),
  `# ResNet-20 on CIFAR-10 in bfloat16 and float32, three epochs

Over ${rows.length} parts of the three epochs the training loss in bfloat16 lies ${difference.toFixed(3)} from that in float32 with the same seed on the
average; three seeds in float32 lie ${spread.toFixed(3)} apart. **${isWithin ? 'The curve is within the spread of the seeds' : 'The curve is not within the spread of the seeds'}.** In ${inside} of ${rows.length} parts it lies between the
lowest and the highest of the three.

![training loss](losses.svg)

Training loss, the mean over a quarter of an epoch:

${markdown(table)}

Test accuracy (and loss):

${markdown(accuracies)}

Made by \`npm run bench:precision-curve\`, which runs \`dtrain ${wordsOf(RUNS[0]).join(' ')}\` and so on. ${versions.cores} cores of ${versions.processor},
Node ${versions.node}; dtrain ${version(first)}. CIFAR-10 decoded from JPEG files, which are slightly lossy. The events as they were told stand beside.
`,
);
process.stdout.write(
  `${JSON.stringify({ bench: 'precision-curve', difference, spread, inside, parts: rows.length, reached: isWithin })}\n`,
);

function version({ run }: Curve): string {
  const file = path.join(FOLDER, `${run.precision}-${run.seed}.jsonl`);
  const begin = JSON.parse(fs.readFileSync(file, 'utf8').split('\n')[0]!) as TrainEvent;
  return begin.event === 'run' ? begin.version : '';
}

function chart(): string {
  const [width, height, left, right, top, bottom] = [760, 420, 60, 740, 40, 370];
  const all = curves.flatMap(({ steps }) => steps.map(({ loss }) => loss));
  const [least, most] = [Math.floor(Math.min(...all) * 5) / 5, Math.ceil(Math.max(...all) * 5) / 5];
  const lastStep = low.steps.at(-1)!.step;
  const x = (step: number) => left + ((right - left) * step) / lastStep;
  const y = (loss: number) => bottom - ((bottom - top) * (loss - least)) / (most - least);
  const colours = ['#56b4e9', '#0072b2', '#003f5c', '#d55e00'];
  const place = (step: number, loss: number) => `${x(step).toFixed(1)} ${y(loss).toFixed(1)}`;
  const lines = curves.map(
    ({ steps }, i) =>
      `<path d="M${steps.map(({ step, loss }) => place(step, loss)).join('L')}" stroke="${colours[i]}" stroke-width="2" fill="none"/>`,
  );
  const legend = curves.map(
    ({ run }, i) =>
      `<rect x="${right - 170}" y="${top + 22 * i}" width="16" height="4" fill="${colours[i]}"/><text x="${right - 146}" y="${top + 22 * i + 6}">${nameOf(run)}</text>`,
  );
  const ticks = Array.from({ length: Math.round((most - least) * 5) + 1 }, (_, i) => least + i / 5).map(
    (loss) =>
      `<path d="M${left} ${y(loss).toFixed(1)}H${right}" stroke="#dddddd"/><text x="${left - 8}" y="${(y(loss) + 4).toFixed(1)}" text-anchor="end">${loss.toFixed(1)}</text>`,
  );
  const epochs = Array.from({ length: EPOCHS + 1 }, (_, epoch) => {
    const at = x((lastStep * epoch) / EPOCHS).toFixed(1);
    return `<path d="M${at} ${top}V${bottom}" stroke="#dddddd"/><text x="${at}" y="${bottom + 20}" text-anchor="middle">${epoch}</text>`;
  });
  const axis = `<text x="${(left + right) / 2}" y="${bottom + 40}" text-anchor="middle">epochs</text><text x="${left}" y="24">training loss</text>`;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" font-family="system-ui, sans-serif" font-size="13" fill="#222222">
<title>training loss of ResNet-20 in float32 and bfloat16</title>
<rect width="${width}" height="${height}" fill="#ffffff"/>
${[...ticks, ...epochs, ...lines, ...legend, axis].join('\n')}
</svg>
`;
}
