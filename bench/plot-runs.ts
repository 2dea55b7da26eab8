/**
 * `node dist/bench/plot-runs.js OUT.svg TITLE NAME=FILE...`: the error of runs over their epochs, as the ResNet paper's figure 6 draws it: dashed on
 * training images as they were augmented, solid on test images.
 *
 * FILE: the events of dtrain (--json, or metrics.jsonl), or the lines of bench/reference/pytorch_train.py, which tell no training accuracy.
 */
import fs from 'node:fs';

interface Curve {
  readonly name: string;
  /** [epoch, error in percent]. */
  readonly training: readonly (readonly [number, number])[];
  readonly test: readonly (readonly [number, number])[];
}

type Line = Readonly<Record<string, unknown>>;

const [WIDTH, HEIGHT] = [760, 440];
const PANEL = { left: 64, right: 584, top: 64, bottom: 392 };
/** Okabe and Ito's, told apart by brightness too. */
const COLOURS = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00'];

const [out, title, ...runs] = process.argv.slice(2);
if (out === undefined || title === undefined || runs.length === 0) {
  console.error('usage: node dist/bench/plot-runs.js OUT.svg TITLE NAME=FILE...');
  process.exit(2);
}
fs.writeFileSync(out, picture(title, runs.map(curveOf)));

function curveOf(word: string): Curve {
  const [name, file] = word.split('=') as [string, string];
  const text = fs.readFileSync(file, 'utf8').trim();
  const lines = text.split('\n').map((line) => JSON.parse(line) as Line);
  const evaluated = lines.filter(({ event, accuracy }) => event === 'evaluation' || accuracy !== undefined);
  const test = evaluated.map(
    (line) => [Number(line['epoch']), error(line['testAccuracy'] ?? line['accuracyWithMirror'])] as const,
  );
  return { name, training: trainingErrors(lines.filter(({ event }) => event === 'step')), test };
}

/** Means of epochs. A line tells the mean since the line before it; an epoch may end inside a step. */
function trainingErrors(steps: readonly Line[]): Curve['training'] {
  const sums = new Map<number, { errors: number; steps: number }>();
  let before = 0;
  for (const line of steps) {
    const count = Number(line['step']) - before;
    before += count;
    const epoch = Math.ceil(Number(line['epoch']) - 1e-2);
    const sum = sums.get(epoch) ?? { errors: 0, steps: 0 };
    sums.set(epoch, { errors: sum.errors + count * error(line['trainAccuracy']), steps: sum.steps + count });
  }
  return [...sums].map(([epoch, { errors, steps }]) => [epoch, errors / steps] as const);
}

function error(accuracy: unknown): number {
  return 100 * (1 - Number(accuracy));
}

function picture(title: string, curves: readonly Curve[]): string {
  const points = curves.flatMap(({ training, test }) => [...training, ...test]);
  const epochs = Math.max(...points.map(([epoch]) => epoch));
  const most = 10 * Math.ceil(Math.max(...points.map(([, error]) => error)) / 10);
  const { left, right, top, bottom } = PANEL;
  const x = (epoch: number) => left + ((right - left) * epoch) / epochs;
  const y = (error: number) => bottom - ((bottom - top) * error) / most;
  const ticks = Array.from({ length: most / 10 + 1 }, (_, i) => 10 * i);
  const rows = ticks.map((error) => {
    const at = y(error).toFixed(1);
    return `<path d="M${left} ${at}H${right}" stroke="#dddddd"/>${words(left - 8, Number(at) + 4, `${error}`, 'end')}`;
  });
  const step = Math.max(1, Math.round(epochs / 8));
  const columns = Array.from({ length: Math.floor(epochs / step) }, (_, i) => step * (i + 1));
  const lines = curves.flatMap(({ name, training, test }, i) => {
    const colour = COLOURS[i % COLOURS.length]!;
    const path = (at: Curve['test'], style: string) =>
      at.length === 0
        ? ''
        : `<path d="M${at.map(([epoch, error]) => `${x(epoch).toFixed(1)} ${y(error).toFixed(1)}`).join('L')}" fill="none" stroke="${colour}" ${style}/>`;
    const last = test.at(-1)![1];
    const key = top + 22 * i;
    return [
      path(training, 'stroke-dasharray="4 4" stroke-width="1.4"'),
      path(test, 'stroke-width="2.4"'),
      `<path d="M${right + 20} ${key}h18" stroke="${colour}" stroke-width="3"/>`,
      words(right + 44, key + 4, `${name}: ${last.toFixed(2)} %`, 'start'),
    ];
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" width="${WIDTH}" height="${HEIGHT}" role="img" font-family="system-ui, sans-serif" font-size="13" fill="#222222">
<title>${escaped(title)}</title>
<rect width="${WIDTH}" height="${HEIGHT}" fill="#ffffff"/>
<text x="24" y="30" font-size="16" font-weight="600">${escaped(title)}</text>
${[...rows, ...columns.map((epoch) => words(x(epoch), bottom + 20, `${epoch}`, 'middle')), ...lines].join('\n')}
${words((left + right) / 2, bottom + 40, 'epochs; error %, dashed on training images, solid on test images', 'middle')}
</svg>
`;
}

function words(x: number, y: number, text: string, anchor: 'start' | 'middle' | 'end'): string {
  return `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" text-anchor="${anchor}">${escaped(text)}</text>`;
}

function escaped(text: string): string {
  return text.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;');
}
