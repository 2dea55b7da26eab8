/** Metrics of a run for Prometheus: the page's grammar, its figures, who may read it, and a read in the middle of a real run. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import http from 'node:http';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { MetricsServer } from '../src/run/metrics-server.js';
import { END_EVENT, evaluationEvent, RUN_EVENT, stepEvent } from './support/events.js';
import { runCommand } from './support/run-command.js';
import { SMALL_RUN, temporaryFolder } from './support/train-run.js';

function get(
  url: string,
  headers: http.OutgoingHttpHeaders = {},
): Promise<{ status: number; type: string; text: string }> {
  return new Promise((resolve, reject) => {
    http
      .get(url, { headers, agent: false }, (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (part: string) => (text += part));
        response.on('end', () =>
          resolve({ status: response.statusCode!, type: response.headers['content-type'] ?? '', text }),
        );
      })
      .on('error', reject);
  });
}

const NAME = '[a-zA-Z_:][a-zA-Z0-9_:]*';
const LABEL = '[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\\\\n]|\\\\["\\\\n])*"';
const SAMPLE = new RegExp(
  `^(${NAME})(\\{${LABEL}(?:,${LABEL})*\\})? (NaN|[+-]Inf|-?[0-9]+(?:\\.[0-9]+)?(?:e[+-]?[0-9]+)?)$`,
);

/** What `promtool check metrics` looks at: HELP and TYPE once before the samples of a name, names by its conventions, no sample twice. */
function checked(text: string): Map<string, number> {
  assert(text.endsWith('\n'));
  const samples = new Map<string, number>();
  const typed = new Map<string, string>();
  let helped = '';
  for (const line of text.trimEnd().split('\n')) {
    const help = /^# HELP (\S+) \S/.exec(line);
    const type = /^# TYPE (\S+) (gauge|counter)$/.exec(line);
    if (help) {
      assert(!typed.has(help[1]!), line);
      helped = help[1]!;
    } else if (type) {
      assert.equal(type[1], helped);
      typed.set(helped, type[2]!);
      assert.equal(
        helped.endsWith('_total'),
        type[2] === 'counter',
        `${line}: counters, and only they, end with _total`,
      );
    } else {
      const sample = SAMPLE.exec(line);
      assert(sample, line);
      assert.equal(sample[1], helped, 'the samples of a name stand together');
      const key = sample[1]! + (sample[2] ?? '');
      assert(!samples.has(key), `${key} twice`);
      samples.set(key, Number(sample[3]));
    }
  }
  return samples;
}

const CONFIG = { model: { name: 'resnet"20\\\n' } };

test('the page of a run, word by word', async () => {
  using server = await MetricsServer.open({ host: '127.0.0.1', port: 0 }, () => 1234.5);
  assert.match(server.url, /^http:\/\/127\.0\.0\.1:\d+\/metrics$/);
  assert.equal((await get(server.url)).text, '');
  server.event({ ...RUN_EVENT, config: CONFIG });
  server.event({ ...stepEvent(391, 1), loss: Number.NaN });
  server.progress({ step: 400, totalSteps: 782 });
  server.event(evaluationEvent(391, 1));
  server.event({ event: 'checkpoint', step: 391, path: 'there' });
  server.event(END_EVENT);
  const { status, type, text } = await get(server.url);
  assert.deepEqual([status, type], [200, 'text/plain; version=0.0.4; charset=utf-8']);
  assert.deepEqual(Object.fromEntries(checked(text)), {
    dtrain_last_event_timestamp_seconds: 1234.5,
    'dtrain_run_info{model="resnet\\"20\\\\\\n",run="runs/quickstart-1",version="9.9.9",workers="2"}': 1,
    dtrain_finished: 1,
    dtrain_step: 400,
    dtrain_images_total: 51_200,
    dtrain_epoch: 1,
    'dtrain_loss{split="train"}': Number.NaN,
    'dtrain_loss{split="test"}': 1.21,
    'dtrain_accuracy_ratio{split="train"}': 0.4111,
    'dtrain_accuracy_ratio{split="test"}': 0.571,
    dtrain_learning_rate: 0.1,
    dtrain_images_per_second: 612.4,
    'dtrain_phase_seconds{phase="feed"}': 0.001,
    'dtrain_phase_seconds{phase="compute"}': 0.2,
    'dtrain_phase_seconds{phase="reduce"}': 0.001,
    'dtrain_phase_seconds{phase="update"}': 0.002,
    'dtrain_phase_seconds{phase="report"}': 0,
    dtrain_planned_steps: 782,
    dtrain_checkpoint_step: 391,
  });
});

test('a foreign Host is refused on the loopback interface, other paths are not there', async () => {
  using server = await MetricsServer.open({ host: '127.0.0.1', port: 0 });
  assert.equal((await get(server.url, { host: 'evil.example' })).status, 403);
  assert.equal((await get(server.url.replace('/metrics', '/'))).status, 404);
  using open = await MetricsServer.open({ host: '0.0.0.0', port: 0 });
  const local = open.url.replace('0.0.0.0', '127.0.0.1');
  assert.equal(
    (await get(local, { host: 'trainer.example' })).status,
    200,
    'whoever opens it to others wants others to read it',
  );
});

test('a port that is taken, and flags that make no sense', async () => {
  using server = await MetricsServer.open({ host: '127.0.0.1', port: 0 });
  const port = Number(new URL(server.url).port);
  await assert.rejects(MetricsServer.open({ host: '127.0.0.1', port }), {
    code: 'DTRAIN_PORT',
    exitCode: 4,
    message: `--metrics-port: 127.0.0.1:${port}: expected an address to listen on, got EADDRINUSE. Choose another port or --metrics-host.`,
  });
  const outcome = await runCommand(['--config', 'quickstart', '--metrics-host', '0.0.0.0']);
  assert.equal(outcome.exitCode, 2);
  assert.match(outcome.stderr, /^--metrics-host: expected --metrics-port beside it, got none\.\nUsage: dtrain /);
});

test('dtrain --metrics-port: read while the run goes on, with the figures of its events', async () => {
  const main = fileURLToPath(new URL('../src/cli/main.js', import.meta.url));
  const words = ['--config', 'quickstart', '--cpus', '1', '--metrics-port', '0', ...SMALL_RUN];
  const child = spawn(process.execPath, [main, ...words, 'train.maxSteps=100000', 'evaluation.everyEpochs=0'], {
    cwd: temporaryFolder(),
  });
  const ended = new Promise<number | null>((resolve) => child.once('exit', resolve));
  try {
    let said = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => (said += text));
    const url = await until(() => /metrics: (http:\S+)/.exec(said)?.[1], 60);
    const found = await until(async () => {
      const samples = checked((await get(url)).text || '# HELP a b\n');
      return (samples.get('dtrain_step') ?? 0) > 1 ? samples : undefined;
    }, 60);
    assert.equal(found.get('dtrain_finished'), 0);
    assert.equal(found.get('dtrain_images_total'), 32 * found.get('dtrain_step')!);
    const loss = found.get('dtrain_loss{split="train"}');
    assert(loss === undefined || (loss > 0 && loss < 10), `${loss}`);
  } finally {
    child.kill('SIGTERM');
    assert.equal(await ended, 75);
  }
});

/** Asks ten times a second until there is an answer. */
async function until<T>(ask: () => T | undefined | Promise<T | undefined>, seconds: number): Promise<T> {
  for (let i = 0; i < 10 * seconds; i++) {
    const answer = await ask();
    if (answer !== undefined) return answer;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(`no answer in ${seconds} s`);
}
