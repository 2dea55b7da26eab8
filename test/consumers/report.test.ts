/** The report of real runs in headless Chromium: its figures equal metrics.jsonl, no complaint, no request, keyboard and phone. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import type { EvaluationEvent, StepEvent, TrainEvent } from '../../src/core/events.js';
import { watchRun } from '../../src/run/watch-server.js';
import { writeReport } from '../../src/run/write-report.js';
import { Chromium, type Page } from '../support/chromium.js';
import { runTraining, temporaryFolder } from '../support/train-run.js';

let browser: Chromium;
const runs: { runDir: string; events: TrainEvent[] }[] = [];
/** Pictures are kept where DTRAIN_PICTURES names a folder. */
const pictures = process.env['DTRAIN_PICTURES'];

before(async () => {
  for (const seed of [1, 2]) {
    const { runDir } = await runTraining(2, [`train={epochs: 2, maxSteps: null, globalBatch: 100, seed: ${seed}}`]);
    const lines = fs.readFileSync(path.join(runDir, 'metrics.jsonl'), 'utf8').trim().split('\n');
    runs.push({ runDir, events: lines.map((line) => JSON.parse(line) as TrainEvent) });
  }
  browser = new Chromium();
});
after(() => browser?.close());

/** The rows of a chart's table, as numbers. */
async function figures(page: Page, id: string): Promise<(number | null)[][]> {
  return page.evaluate(`(async () => {
    const details = document.querySelector('#${id} details');
    details.open = true;
    while (!details.querySelector('table')) await new Promise((resolve) => setTimeout(resolve, 10));
    return [...details.querySelectorAll('tbody tr')].map((row) =>
      [...row.cells].map(({ textContent }) => (textContent === '' ? null : Number(textContent))));
  })()`);
}

const stepsOf = (events: readonly TrainEvent[]) => events.filter((event): event is StepEvent => event.event === 'step');
const evaluationsOf = (events: readonly TrainEvent[]) =>
  events.filter((event): event is EvaluationEvent => event.event === 'evaluation');

test('report.html of a run: the figures of metrics.jsonl, nothing in the console, no request', async () => {
  const { runDir, events } = runs[0]!;
  const url = pathToFileURL(path.join(runDir, 'report.html')).href;
  const page = await browser.open(url);
  const steps = stepsOf(events);
  const evaluations = evaluationsOf(events);

  const accuracy = await figures(page, 'accuracy');
  for (const { epoch, trainAccuracy } of steps)
    assert(
      accuracy.some((row) => row[0] === epoch && row[2] === trainAccuracy),
      `training accuracy at ${epoch}`,
    );
  const tested = accuracy.filter((row) => row[1] !== null).map((row) => row[1]);
  assert.deepEqual(
    tested,
    evaluations.map(({ testAccuracy }) => testAccuracy),
  );
  const rate = await figures(page, 'rate');
  assert.deepEqual(
    rate,
    steps.map(({ epoch, learningRate }) => [epoch, learningRate]),
  );
  const phases = await figures(page, 'phases');
  const milliseconds = steps.map(({ epoch, seconds }) => [
    epoch,
    ...Object.values(seconds).map((value) => 1000 * value),
  ]);
  assert.deepEqual(phases, milliseconds);

  const detail = JSON.parse(fs.readFileSync(path.join(runDir, 'evaluation.json'), 'utf8')) as { confusion: number[][] };
  const confusion = await page.evaluate<number[][]>(
    `[...document.querySelectorAll('#confusion tbody tr')].map((row) => [...row.querySelectorAll('td')].map((cell) => Number(cell.textContent)))`,
  );
  assert.deepEqual(confusion, detail.confusion);
  assert.equal(await page.evaluate(`document.querySelectorAll('#mistakes img').length`), 12);
  assert.equal(
    await page.evaluate(`[...document.querySelectorAll('#mistakes img')].every((image) => image.naturalWidth === 32)`),
    true,
  );
  assert.equal(await page.evaluate(`document.querySelectorAll('#accuracy .checkpoint').length`), 2);
  assert.deepEqual(page.complaints, []);
  assert.deepEqual(page.requests, [url]);
  if (pictures) await page.screenshot(path.join(pictures, 'report.png'));
});

test('the keyboard reads a chart', async () => {
  const { runDir, events } = runs[0]!;
  const page = await browser.open(pathToFileURL(path.join(runDir, 'report.html')).href);
  for (let i = 0; i < 10; i++) {
    await page.press('Tab');
    if (await page.evaluate(`document.activeElement.closest('#accuracy') !== null`)) break;
  }
  assert.equal(await page.evaluate('document.activeElement.tagName'), 'svg');
  await page.press('End');
  const last = evaluationsOf(events).at(-1)!;
  const text = await page.evaluate<string>(`document.querySelector('#accuracy output').textContent`);
  assert(text.startsWith(`epoch 2: test ${(100 * last.testAccuracy).toFixed(1)} %, train `), text);
  await page.press('Home');
  assert.notEqual(await page.evaluate(`document.querySelector('#accuracy output').textContent`), text);
});

test('several runs on one page; a phone; dark', async () => {
  const folder = temporaryFolder();
  const bench = path.join(folder, 'scaling.jsonl');
  const points = [1, 2].map((workers) => ({ workers, imagesPerSecond: 300 * workers, efficiency: 1 / workers ** 0.1 }));
  const step = { bench: 'step', workers: 2, globalBatch: 128, imagesPerSecond: { median: 612.3 } };
  const benches = [{ bench: 'scaling', points }, step].map((one) => ({ config: 'resnet20', devices: 'cpu', ...one }));
  fs.writeFileSync(bench, benches.map((one) => `${JSON.stringify(one)}\n`).join(''));
  const out = path.join(folder, 'report.html');
  await writeReport({ sources: [...runs.map(({ runDir }) => runDir), bench], out });
  const url = pathToFileURL(out).href;
  const page = await browser.open(url);
  assert.equal(await page.evaluate(`document.querySelectorAll('#comparison tbody tr').length`), 2);
  assert.deepEqual(
    await page.evaluate(`[...document.querySelectorAll('tr.differs td:first-child')].map((cell) => cell.textContent)`),
    ['train.seed'],
  );
  assert.deepEqual(
    await figures(page, 'scaling'),
    points.map(({ workers, efficiency }) => [workers, efficiency]),
  );
  assert.deepEqual(await figures(page, 'scaling-speed'), [
    [1, 300, 300],
    [2, 600, 600],
  ]);
  assert.equal(
    await page.evaluate(`document.querySelector('#benches tbody').textContent`),
    'stepresnet20, cpu, batch 1282612 images/s',
  );
  const before = await page.evaluate<string>(`document.querySelector('#confusion').textContent`);
  await page.evaluate(
    `(() => { const choice = document.querySelector('#choice'); choice.value = '1'; choice.dispatchEvent(new Event('change')); })()`,
  );
  assert.notEqual(await page.evaluate(`document.querySelector('#confusion').textContent`), before);
  assert.deepEqual([page.complaints, page.requests], [[], [url]]);
  for (const [name, options] of [
    ['phone', { width: 390, height: 800, scale: 2 }],
    ['dark', { dark: true }],
  ] as const) {
    const other = await browser.open(url, options);
    const overflow = await other.evaluate(
      'document.documentElement.scrollWidth - document.documentElement.clientWidth',
    );
    assert.equal(overflow, 0, `${name}: the page is wider than the window`);
    assert.deepEqual(other.complaints, []);
    if (pictures) await other.screenshot(path.join(pictures, `report-${name}.png`));
  }
});

test('dtrain watch: the same page follows the run', async () => {
  const { runDir } = runs[0]!;
  const copy = path.join(temporaryFolder(), 'run');
  fs.cpSync(runDir, copy, { recursive: true });
  const file = path.join(copy, 'metrics.jsonl');
  const lines = fs.readFileSync(file, 'utf8').trim().split('\n');
  fs.writeFileSync(file, `${lines.slice(0, 3).join('\n')}\n`);
  const server = await watchRun(copy, 0);
  try {
    const page = await browser.open(server.url);
    const state = () => page.evaluate<string>(`document.querySelector('#page > p').textContent`);
    assert.match(await state(), /running, or stopped$/);
    fs.writeFileSync(file, `${lines.join('\n')}\n`);
    const isFinished = `(async () => {
      for (let i = 0; i < 100 && !document.querySelector('.good'); i++) await new Promise((resolve) => setTimeout(resolve, 100));
      return document.querySelector('.good') !== null;
    })()`;
    assert.equal(await page.evaluate(isFinished), true);
    assert.deepEqual(page.complaints, []);
    for (const request of page.requests) assert(request.startsWith(server.url), request);
  } finally {
    await server.close();
  }
});
