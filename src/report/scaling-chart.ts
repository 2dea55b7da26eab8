/**
 * The chart of a `bench scaling`: images a second against what the first point promises, and what a step is made of at each point.
 *
 * Idea: one SVG file, put together as text, that needs no script and nothing from elsewhere: it can stand in a README.
 * Must stay true: text from a configuration reaches the file escaped.
 */
import { grouped } from '../core/digits.js';
import { PHASES, type Phase, type PhaseSeconds } from '../core/events.js';

export interface ScalingChartData {
  readonly config: string;
  readonly devices: string;
  readonly precision: string;
  readonly points: readonly {
    readonly workers: number;
    readonly hosts?: number;
    readonly imagesPerSecond: number;
    readonly efficiency: number;
    /** Of a step, by phase. */
    readonly seconds: PhaseSeconds;
  }[];
}

type Point = ScalingChartData['points'][number];

/** A place for axes, in pixels of the picture. */
interface Panel {
  readonly left: number;
  readonly right: number;
  readonly top: number;
  readonly bottom: number;
}

const WIDTH = 860;
const HEIGHT = 420;
const SPEED: Panel = { left: 76, right: 456, top: 84, bottom: 352 };
const STEP: Panel = { left: 548, right: 836, top: 84, bottom: 352 };
const NUM_TICKS = 4;

/** Told apart by brightness too (Okabe and Ito's colours). */
const COLOURS: Readonly<Record<Phase, string>> = {
  feed: '#e69f00',
  compute: '#0072b2',
  reduce: '#d55e00',
  update: '#56b4e9',
  report: '#999999',
};
const MEASURED = '#0072b2';
const IDEAL = '#777777';

/** A whole SVG file. */
export function scalingChart(data: ScalingChartData): string {
  const { config, devices, precision, points } = data;
  const title = `${config}, ${devices}, ${precision}`;
  const spoken = points.map((point) => `${labelOf(point)}: ${rounded(point.imagesPerSecond)} images/s`).join('; ');
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" width="${WIDTH}" height="${HEIGHT}" role="img" font-family="system-ui, sans-serif" font-size="13" fill="#222222">
<title>${escaped(title)}</title>
<desc>${escaped(spoken)}</desc>
<rect width="${WIDTH}" height="${HEIGHT}" fill="#ffffff"/>
<text x="24" y="34" font-size="17" font-weight="600">${escaped(title)}</text>
${speedPanel(points)}
${stepPanel(points)}
</svg>
`;
}

/** Throughput over workers: the measured line, and the dashed one of the first point's speed a worker. */
function speedPanel(points: readonly Point[]): string {
  const [first] = points;
  if (!first) return '';
  const ideal = (workers: number) => (first.imagesPerSecond / first.workers) * workers;
  const mostWorkers = Math.max(...points.map(({ workers }) => workers));
  const top = niceTop(Math.max(ideal(mostWorkers), ...points.map(({ imagesPerSecond }) => imagesPerSecond)));
  const x = (workers: number) => SPEED.left + ((SPEED.right - SPEED.left) * workers) / (mostWorkers * 1.08);
  const y = scale(SPEED, top);
  const places = points.map((point) => ({ point, at: [x(point.workers), y(point.imagesPerSecond)] as const }));
  return [
    heading(SPEED, 'images a second, and efficiency'),
    grid(SPEED, top, (value) => rounded(value)),
    ...points.map(({ workers }) => text(x(workers), SPEED.bottom + 20, `${workers}`, 'middle')),
    text((SPEED.left + SPEED.right) / 2, SPEED.bottom + 42, first.hosts ? 'workers on all hosts' : 'workers', 'middle'),
    `<path d="M${number(x(0))} ${number(y(0))}L${number(x(mostWorkers))} ${number(y(ideal(mostWorkers)))}" stroke="${IDEAL}" stroke-dasharray="5 4" fill="none"/>`,
    `<path d="${places.map(({ at }, i) => `${i === 0 ? 'M' : 'L'}${number(at[0])} ${number(at[1])}`).join('')}" stroke="${MEASURED}" stroke-width="2.5" fill="none"/>`,
    ...places.map(({ at }) => `<circle cx="${number(at[0])}" cy="${number(at[1])}" r="4.5" fill="${MEASURED}"/>`),
    ...places.map(({ point, at: [x, y] }) => {
      const words = `${rounded(point.imagesPerSecond)} (${percent(point.efficiency)})`;
      const isLast = point.workers === mostWorkers && points.length > 1;
      return isLast ? text(x + 14, y + 36, words, 'end') : text(x + 9, y + 17, words, 'start');
    }),
  ].join('\n');
}

/** A bar a point: the phases of a step, stacked. */
function stepPanel(points: readonly Point[]): string {
  const sum = ({ seconds }: Point) => PHASES.reduce((total, phase) => total + seconds[phase], 0);
  const top = niceTop(1000 * Math.max(...points.map(sum), 1e-6));
  const y = scale(STEP, top);
  const slot = (STEP.right - STEP.left) / points.length;
  const width = Math.min(56, 0.6 * slot);
  const bars = points.flatMap((point, i) => {
    const left = STEP.left + slot * (i + 0.5) - width / 2;
    let below = 0;
    const parts = PHASES.map((phase) => {
      const from = below;
      below += 1000 * point.seconds[phase];
      const height = y(from) - y(below);
      return `<rect x="${number(left)}" y="${number(y(below))}" width="${number(width)}" height="${number(height)}" fill="${COLOURS[phase]}"/>`;
    });
    const label = text(left + width / 2, y(below) - 7, milliseconds(below / 1000), 'middle');
    return [...parts, label, text(left + width / 2, STEP.bottom + 20, labelOf(point), 'middle')];
  });
  let next = STEP.left - 52;
  const legend = PHASES.map((phase) => {
    const [x, y] = [next, STEP.bottom + 34];
    next += 30 + 7 * phase.length;
    return `<rect x="${number(x)}" y="${y}" width="10" height="10" fill="${COLOURS[phase]}"/>\n${text(x + 14, y + 10, phase, 'start')}`;
  });
  const axis = grid(STEP, top, (value) => shortNumber(value));
  return [heading(STEP, 'a step by phases, milliseconds'), axis, ...bars, ...legend].join('\n');
}

function labelOf({ workers, hosts }: Point): string {
  return hosts === undefined ? `${workers}` : `${workers} on ${hosts}`;
}

function heading({ left, top }: Panel, words: string): string {
  return text(left - 40, top - 20, words, 'start');
}

/** Lines at round values, with their labels. */
function grid(panel: Panel, top: number, label: (value: number) => string): string {
  const y = scale(panel, top);
  return Array.from({ length: NUM_TICKS + 1 }, (_, i) => (top * i) / NUM_TICKS)
    .map((value) => {
      const at = number(y(value));
      const line = `<path d="M${panel.left} ${at}H${panel.right}" stroke="${value === 0 ? '#444444' : '#dddddd'}"/>`;
      return `${line}\n${text(panel.left - 8, y(value) + 4, label(value), 'end')}`;
    })
    .join('\n');
}

function scale({ top, bottom }: Panel, most: number): (value: number) => number {
  return (value) => bottom - ((bottom - top) * value) / most;
}

/** The smallest number not below `value` of which a quarter is round. */
function niceTop(value: number): number {
  const unit = 10 ** Math.floor(Math.log10(value));
  return unit * [1, 1.2, 1.6, 2, 2.4, 2.8, 3.2, 4, 5, 6, 8, 10].find((factor) => factor * unit >= value * 0.999_999)!;
}

/** With a white edge, so that a line behind it does not cross it. */
function text(x: number, y: number, words: string, anchor: 'start' | 'middle' | 'end'): string {
  const edge = 'stroke="#ffffff" stroke-width="4" paint-order="stroke"';
  return `<text x="${number(x)}" y="${number(y)}" text-anchor="${anchor}" ${edge}>${escaped(words)}</text>`;
}

/** A coordinate. */
function number(value: number): string {
  return String(Number(value.toFixed(1)));
}

function rounded(value: number): string {
  return value >= 10 ? grouped(Math.round(value)) : shortNumber(value);
}

function shortNumber(value: number): string {
  return String(Number(value.toPrecision(3)));
}

function percent(fraction: number): string {
  return `${(100 * fraction).toFixed(1)} %`;
}

function milliseconds(seconds: number): string {
  return `${shortNumber(1000 * seconds)} ms`;
}

function escaped(words: string): string {
  return words.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;');
}
