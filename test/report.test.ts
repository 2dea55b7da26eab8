/** Runs read back from their folders, and the page and the server about them, without a browser (that is test/consumers/report.test.ts). */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { test } from 'node:test';
import { readRun } from '../src/report/read-run.js';
import { reportPage } from '../src/report/report-page.js';
import { watchRun } from '../src/run/watch-server.js';
import { writeReport } from '../src/run/write-report.js';
import { END_EVENT, evaluationEvent, RUN_EVENT, stepEvent } from './support/events.js';
import { errorOf } from './support/test-runtime.js';
import { temporaryFolder } from './support/train-run.js';

function runFolder(events: readonly object[], rest = ''): string {
  const folder = path.join(temporaryFolder(), 'a-run');
  fs.mkdirSync(folder);
  fs.writeFileSync(
    path.join(folder, 'metrics.jsonl'),
    events.map((event) => `${JSON.stringify(event)}\n`).join('') + rest,
  );
  return folder;
}

const checkpoint = (step: number) => ({ event: 'checkpoint', step, path: `checkpoints/step-${step}` });

test('a run that was resumed has each step once, as the last attempt had it', () => {
  const config = { train: { seed: 1 }, data: { augment: { crop: 4 } }, list: [1, 2] };
  const start = { ...RUN_EVENT, config };
  const first = [
    start,
    stepEvent(50, 0.5),
    stepEvent(100, 1),
    evaluationEvent(100, 1),
    checkpoint(100),
    stepEvent(150, 1.5),
  ];
  const error = { event: 'error', code: 'DTRAIN_HANG', exitCode: 11, message: 'm', rank: 0, step: 150 };
  const again = [start, { ...stepEvent(120, 1.2), loss: 7 }, stepEvent(150, 1.5), END_EVENT];
  const record = readRun(runFolder([...first, error, ...again], '{"event":"st'));
  assert.equal(record.name, 'a-run');
  assert.deepEqual(
    record.steps.map(({ step }) => step),
    [50, 100, 120, 150],
  );
  assert.equal(record.steps[2]!.loss, 7);
  assert.deepEqual(record.evaluations, [evaluationEvent(100, 1)]);
  assert.deepEqual(record.checkpoints, [checkpoint(100)]);
  assert.deepEqual([record.end, record.error], [END_EVENT, null]);
  assert.deepEqual(record.config, { 'train.seed': '1', 'data.augment.crop': '4', list: '[1,2]' });
  const failed = readRun(runFolder([...first, error]));
  assert.deepEqual([failed.end, failed.error], [null, error]);
});

test('a folder that is none of a run', async () => {
  const folder = temporaryFolder();
  const cure = 'Name a folder under runs/.';
  assert.equal(
    errorOf(() => readRun(folder)).message,
    `${folder}: expected the folder of a run, got one without metrics.jsonl. ${cure}`,
  );
  const empty = runFolder([]);
  assert.equal(
    errorOf(() => readRun(empty)).message,
    `${empty}: expected the folder of a run, got one without the event of a run. ${cure}`,
  );
  const file = path.join(folder, 'x.txt');
  fs.writeFileSync(file, 'nothing');
  const error = await writeReport({ sources: [file], out: path.join(folder, 'r.html') }).catch(
    (thrown: Error) => thrown,
  );
  assert.equal(
    (error as Error).message,
    `${file}: expected the folder of a run, or what dtrain bench --json printed, got another file. ${cure}`,
  );
});

test('benches beside a run: scaling for the charts, the others for a table; what is none is refused', async () => {
  const folder = temporaryFolder();
  const write = (name: string, values: readonly unknown[]) => {
    const file = path.join(folder, name);
    fs.writeFileSync(file, values.map((value) => `${JSON.stringify(value)}\n`).join(''));
    return file;
  };
  const points = [{ workers: 1, imagesPerSecond: 300, efficiency: 1 }];
  const scaling = { bench: 'scaling', config: 'resnet20', devices: 'cpu', points };
  const step = { bench: 'step', config: 'resnet20', workers: 2, imagesPerSecond: { median: 600, min: 1, max: 700 } };
  const reduce = { bench: 'all-reduce', bytes: 400, ranks: 2, seconds: { median: 0.001 } };
  const data = { bench: 'data', config: 'resnet20', imagesPerSecond: 90_000 };
  const out = path.join(folder, 'report.html');
  const sources = [
    runFolder([RUN_EVENT]),
    write('a.jsonl', [step, 'a line', scaling]),
    write('b.jsonl', [reduce, data]),
  ];
  assert.equal((await writeReport({ sources, out })).runs, 1);
  const [, text] = /id="data">(.*)<\/script>/.exec(fs.readFileSync(out, 'utf8'))!;
  const shown = JSON.parse(text!) as { scaling: unknown; benches: unknown };
  assert.deepEqual([shown.scaling, shown.benches], [[scaling], [step, reduce, data]]);
  for (const value of [
    null,
    { bench: 'scaling', points: [] },
    { bench: 'step' },
    { bench: 'all-reduce', seconds: {} },
  ]) {
    const file = write('c.jsonl', [value]);
    const error = await writeReport({ sources: [file], out }).catch((thrown: Error) => thrown);
    assert.match(
      (error as Error).message,
      /c\.jsonl: expected the folder of a run, or what dtrain bench --json printed/,
    );
  }
});

test('names from a run are data on the page, never markup', () => {
  const folder = runFolder([{ ...RUN_EVENT, config: { model: { name: '</script><img src=x>' } } }]);
  const page = reportPage({ runs: [{ ...readRun(folder), name: '<b>&' }], scaling: [], benches: [] });
  assert.equal(page.split('</script>').length, 3, 'two scripts end, ours');
  assert(page.includes('<title>&lt;b>&amp; – dtrain</title>'));
  assert(!page.includes('<img src=x>'));
  assert.equal(/(?:src|href)="(?!data:,")/.test(page), false, 'nothing is loaded');
  assert(page.includes("connect-src 'none'"));
});

function get(
  url: string,
  headers: Record<string, string> = {},
  method = 'GET',
): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const request = http.request(url, { headers, method }, (response) => {
      let body = '';
      response.on('data', (chunk: Buffer) => (body += chunk.toString()));
      response.on('end', () => resolve({ status: response.statusCode!, body }));
    });
    request.on('error', reject).end();
  });
}

test('watch serves the page and its data on the loopback interface, to local names only', async () => {
  const folder = runFolder([RUN_EVENT, stepEvent(50, 0.5)]);
  const server = await watchRun(folder, 0);
  try {
    assert.match(server.url, /^http:\/\/127\.0\.0\.1:\d+\/$/);
    const page = await get(server.url);
    assert.equal(page.status, 200);
    assert(page.body.includes('data-live') && page.body.includes("connect-src 'self'"));
    const steps = async () =>
      (JSON.parse((await get(`${server.url}data.json`)).body) as { runs: { steps: object[] }[] }).runs[0]!.steps;
    assert.equal((await steps()).length, 1);
    fs.appendFileSync(path.join(folder, 'metrics.jsonl'), `${JSON.stringify(stepEvent(100, 1))}\n`);
    assert.equal((await steps()).length, 2);
    assert.equal((await get(`${server.url}../../etc/passwd`)).status, 404);
    assert.equal((await get(server.url, {}, 'POST')).status, 404);
    assert.equal((await get(server.url, { host: 'evil.example' })).status, 403);
    const port = Number(new URL(server.url).port);
    const taken = await watchRun(folder, port).catch((thrown: Error) => thrown);
    assert.equal(
      (taken as Error).message,
      `--port: 127.0.0.1:${port}: expected a free port, got EADDRINUSE. Choose another with --port, or leave it out.`,
    );
  } finally {
    await server.close();
  }
});
