/** The chart of `bench scaling`: what is drawn stands where the figures say, and text stays text. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PHASES } from '../src/core/events.js';
import { type ScalingChartData, scalingChart } from '../src/report/scaling-chart.js';

const seconds = { feed: 0.001, compute: 0.2, reduce: 0.002, update: 0.004, report: 0.0001 };
const data: ScalingChartData = {
  config: 'resnet20',
  devices: 'cpu',
  precision: 'float32',
  points: [
    { workers: 1, imagesPerSecond: 300, efficiency: 1, seconds },
    { workers: 2, imagesPerSecond: 450, efficiency: 0.75, seconds: { ...seconds, compute: 0.28 } },
    { workers: 4, imagesPerSecond: 900, efficiency: 0.75, seconds },
  ],
};

/** Numbers of the attributes of all elements called `name`. */
function elements(svg: string, name: string): Record<string, number>[] {
  return Array.from(svg.matchAll(new RegExp(`<${name} ([^>]*)/>`, 'g')), ([, attributes]) =>
    Object.fromEntries(
      Array.from(attributes!.matchAll(/([\w-]+)="([^"]*)"/g), ([, key, value]) => [key, Number(value)]),
    ),
  );
}

test('points lie on a scale that begins at 0, and the dashed line goes through the first and from 0', () => {
  const svg = scalingChart(data);
  const points = elements(svg, 'circle');
  assert.equal(points.length, 3);
  const [left, bottom] = [76, 352];
  const perWorker = points.map(({ cx }, i) => (cx! - left) / data.points[i]!.workers);
  const perImage = points.map(({ cy }, i) => (bottom - cy!) / data.points[i]!.imagesPerSecond);
  for (const values of [perWorker, perImage])
    for (const value of values) assert.ok(Math.abs(value / values[0]! - 1) < 0.002, `${values}`);
  const [, x, y] = /<path d="M76 352L([\d.]+) ([\d.]+)" stroke="#777777"/.exec(svg)!.map(Number);
  assert.ok(Math.abs((x! - left) / perWorker[0]! - 4) < 0.01);
  assert.ok(Math.abs((bottom - y!) / perImage[0]! - 1200) < 3, 'four times the first');
  for (const label of ['300 (100.0 %)', '450 (75.0 %)', '900 (75.0 %)']) assert.ok(svg.includes(`>${label}<`), label);
});

test('a bar is as high as its step, each part as high as its phase', () => {
  const rects = elements(scalingChart(data), 'rect').slice(1); // the paper
  const bars = rects.slice(0, 3 * PHASES.length);
  const heights = [0, 1, 2].map((bar) => bars.slice(5 * bar, 5 * bar + 5).map(({ height }) => height!));
  for (const [i, phase] of PHASES.entries())
    assert.ok(Math.abs(heights[0]![i]! - 268 * (seconds[phase] / 0.32)) < 0.11, phase);
  assert.ok(Math.abs(heights[1]![1]! / heights[0]![1]! - 1.4) < 0.01);
});

test('text is escaped, and every figure is a number', () => {
  const svg = scalingChart({ ...data, config: 'a<script>&b' });
  assert.ok(svg.includes('<title>a&lt;script&gt;&amp;b, cpu, float32</title>'));
  assert.ok(!svg.includes('<script'));
  const single = scalingChart({
    ...data,
    points: [{ workers: 1, hosts: 1, imagesPerSecond: 0.31, efficiency: 1, seconds }],
  });
  for (const text of [svg, single]) assert.ok(!/NaN|Infinity|undefined/.test(text));
  assert.ok(single.includes('>1 on 1<') && single.includes('>0.31 (100.0 %)<'));
});
