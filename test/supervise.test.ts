/** The supervisor's decisions, with an engine that is made up: what an end means, what is restarted, what every deadline does. */
import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { loadConfig } from '../src/config/load.js';
import { nowSeconds } from '../src/core/clock.js';
import { DtrainError } from '../src/core/errors.js';
import { EngineProcess } from '../src/run/engine-process.js';
import { memoryEventsFile, memoryKills } from '../src/run/memory-kills.js';
import { type Supervision, supervise } from '../src/run/supervise.js';
import type { TrainOptions } from '../src/run/train.js';
import { temporaryFolder } from './support/train-run.js';

const ENTRY = fileURLToPath(new URL('./support/fake-engine.js', import.meta.url));
const ALARM = { timeout: 60_000 };
const SEEN =
  /^Last seen \d\.\d s before: rank 1 in compute of step 5 for 1\.3 s; rank 0 in reduce of step 6 for 0\.5 s\.$/;

interface Supervised {
  readonly events: readonly string[];
  readonly said: readonly string[];
  readonly warned: readonly string[];
  readonly error: DtrainError | undefined;
  readonly seconds: number;
  readonly pids: readonly number[];
}

interface Wanted extends Partial<Supervision>, Pick<Partial<TrainOptions>, 'runDir' | 'resume'> {
  readonly overrides?: readonly string[];
  readonly stop?: AbortController;
  readonly onEvent?: (event: string) => void;
}

/** `lives`: what each engine does, `abort,done`. */
async function run(lives: string, wanted: Wanted = {}): Promise<Supervised> {
  const { overrides = [], stop = new AbortController(), onEvent, runDir = null, resume, ...supervision } = wanted;
  const events: string[] = [];
  const said: string[] = [];
  const warned: string[] = [];
  const pids: number[] = [];
  const options: TrainOptions = {
    config: loadConfig({ overrides }),
    devices: null,
    configName: lives,
    runDir,
    ...(resume && { resume }),
    say: (line) => said.push(line),
    warn: (line) => warned.push(line),
  };
  const begun = nowSeconds();
  let error: DtrainError | undefined;
  try {
    const run = supervise(options, stop.signal, {
      atOnce: new AbortController().signal,
      maxRestarts: 3,
      pauseSeconds: 0.01,
      memoryEvents: undefined,
      startEngine: () => {
        const engine = new EngineProcess(ENTRY);
        pids.push(engine.pid!);
        return engine;
      },
      ...supervision,
    });
    for await (const { event } of run) {
      events.push(event);
      onEvent?.(event);
    }
  } catch (thrown) {
    assert(thrown instanceof DtrainError, String(thrown));
    error = thrown;
  }
  for (const pid of pids) assert.throws(() => process.kill(pid, 0), { code: 'ESRCH' }, `engine ${pid} is left`);
  return { events, said, warned, error, seconds: nowSeconds() - begun, pids };
}

/** Code, exit code and lines of the message, without the process id. */
function told({ error }: Supervised): [code: string, exitCode: number, ...lines: string[]] {
  assert(error);
  return [error.code, error.exitCode, ...error.message.replace(/process \d+/, 'process N').split('\n')];
}

test('a run that is done', ALARM, async () => {
  const { events, said, warned, error } = await run('done', { runDir: 'there', resume: { from: 'x' } });
  assert.deepEqual([events, warned, error], [['run', 'end'], [], undefined]);
  assert.deepEqual(said, ['{"runDir":"there","resume":{"from":"x"}}']);
});

const SAFE = 'No checkpoint was saved yet.';
const DOCTOR = 'If it happens again: dtrain doctor tells whether library and devices fit.';

for (const signal of ['SIGABRT', 'SIGSEGV', 'SIGBUS'] as const) {
  test(`${signal} is a native abort: exit code 13, with what the ranks were last seen doing`, ALARM, async () => {
    const ended = await run(`signal:${signal}`, { maxRestarts: 0 });
    const [code, exitCode, what, seen, safe] = told(ended);
    assert.deepEqual([code, exitCode], ['DTRAIN_NATIVE_ABORT', 13]);
    assert.equal(what, `engine (process N): ended by ${signal}, in native code.`);
    assert.match(seen!, SEEN);
    assert.equal(safe, `${DOCTOR} ${SAFE}`);
    assert.equal(ended.error!.step, 5);
  });
}

test("TensorFlow's last fatal line is in the message; what the engine prints is passed on", ALARM, async () => {
  const ended = await run('fatal', { maxRestarts: 0 });
  const fatal = '2026-01-01 00:00:00.000001: F tensorflow/core/fake.cc:7] Check failed: 1 == 2';
  assert.equal(told(ended)[4], `Its last words: ${fatal}`);
  assert.deepEqual(ended.warned.toSorted(), [fatal, 'a line of a model']);
});

test('a SIGKILL of somebody else is no native abort, and no lack of memory', ALARM, async () => {
  const file = path.join(temporaryFolder(), 'memory.events');
  fs.writeFileSync(file, 'low 0\noom 1\noom_kill 3\n');
  const [code, exitCode, what] = told(await run('signal:SIGKILL', { maxRestarts: 0, memoryEvents: file }));
  assert.deepEqual([code, exitCode], ['DTRAIN_ENGINE_KILLED', 13]);
  assert.equal(what, 'engine (process N): ended by SIGKILL, which dtrain did not send.');
});

test('a SIGKILL while the kernel counts a kill for want of memory: exit code 9, not restarted', ALARM, async () => {
  const file = path.join(temporaryFolder(), 'memory.events');
  fs.writeFileSync(file, 'low 0\noom 0\noom_kill 2\n');
  const ended = await run(`oom:${file},done`, { memoryEvents: file });
  const [code, exitCode, what, , safe] = told(ended);
  assert.deepEqual([code, exitCode, ended.pids.length], ['DTRAIN_OUT_OF_MEMORY', 9, 1]);
  const rose = `oom_kill in ${file} rose from 2 to 3`;
  assert.equal(what, `engine (process N): the kernel killed it because memory ran out (${rose}).`);
  assert.equal(safe, `Lower train.globalBatch, or take fewer workers or a smaller model. ${SAFE}`);
});

test("JavaScript's own memory: exit code 9", ALARM, async () => {
  const [code, exitCode, what] = told(await run('heap,done'));
  assert.deepEqual([code, exitCode, what], ['DTRAIN_OUT_OF_MEMORY', 9, 'engine (process N): memory ran out.']);
});

test('an end too early is no success, whatever its exit code', ALARM, async () => {
  for (const status of [0, 3]) {
    const [code, exitCode, what] = told(await run(`exit:${status}`, { maxRestarts: 0 }));
    assert.deepEqual([code, exitCode], ['DTRAIN_ENGINE_ENDED', 13]);
    assert.equal(what, `engine (process N): ended with exit code ${status} before the run was finished.`);
  }
});

test('an engine that cannot load its modules is a mistake of ours, and not started again', ALARM, async () => {
  const ended = await run('unloadable,done');
  const text = 'internal: the engine ended with exit code 1 while it was starting. What it said stands above.';
  assert.deepEqual([...told(ended), ended.pids.length], ['DTRAIN_INTERNAL', 1, text, 1]);
});

test('a crash after the run was finished is told, and changes nothing', ALARM, async () => {
  const { events, warned, error } = await run('crash-after');
  assert.deepEqual([events, error], [['run', 'end'], undefined]);
  assert.deepEqual(warned, ['The engine did not end well after the run was finished (SIGSEGV).']);
});

test('an engine that does not go after the run was finished is killed', ALARM, async () => {
  const { error, warned, seconds } = await run('linger');
  assert.deepEqual([error, warned], [undefined, ['The engine did not end well after the run was finished (SIGKILL).']]);
  assert(seconds < 5 * 2, `${seconds} s`);
});

test('an engine that does not answer is killed: exit code 11', ALARM, async () => {
  const ended = await run('silent', { maxRestarts: 0, overrides: ['allReduce.timeoutSeconds=1'] });
  const [code, exitCode, what] = told(ended);
  assert.deepEqual([code, exitCode], ['DTRAIN_HANG', 11]);
  assert.equal(what, 'engine (process N): no answer for 7 s, so it was ended.');
  assert(ended.seconds < 5 * 8, `${ended.seconds} s`);
});

// ——— restarts ———

test('what may pass is restarted in the same folder, and the end is a success', ALARM, async () => {
  const runDir = temporaryFolder();
  const ended = await run('fail:10,fail:11,fail:12,done', { runDir, resume: { from: null } });
  assert.deepEqual([ended.error, ended.events.at(-1), ended.pids.length], [undefined, 'end', 4]);
  const text = (life: number, seconds: number) =>
    `life ${life} failed.\nRestart ${life} of 3 in ${seconds} s, from the beginning.`;
  assert.deepEqual(ended.warned, [text(1, 0.01), text(2, 0.02), text(3, 0.04)]);
});

test('what would fail again is not', ALARM, async () => {
  for (const exitCode of [1, 3, 4, 5, 6, 7, 8, 9]) {
    const ended = await run(`fail:${exitCode},done`);
    assert.deepEqual([told(ended), ended.warned], [['DTRAIN_TEST', exitCode, 'life 1 failed.'], []]);
  }
});

test('restarts that are used up: the last failure, and that it was given up', ALARM, async () => {
  const ended = await run('signal:SIGKILL,fail:10,fail:11,done', { maxRestarts: 2 });
  const text = ['life 3 failed.', 'Gave up after 2 restarts without a new checkpoint.'];
  assert.deepEqual([...told(ended), ended.pids.length], ['DTRAIN_TEST', 11, ...text, 3]);
});

test('a new checkpoint between failures makes the count begin anew', ALARM, async () => {
  const runDir = temporaryFolder();
  const lives = 'save:2,save:4,fail:10,save:6,fail:10,done';
  const ended = await run(lives, { runDir, maxRestarts: 2 });
  assert.equal(ended.error, undefined);
  const restarts = ended.warned.map((line) => line.split('\n').at(-1));
  const text = (n: number, seconds: number, step: number) => `Restart ${n} of 2 in ${seconds} s, from step ${step}.`;
  assert.deepEqual(restarts, [
    text(1, 0.01, 2),
    text(1, 0.01, 4),
    text(2, 0.02, 4),
    text(1, 0.01, 6),
    text(2, 0.02, 6),
  ]);
  const resumed = JSON.stringify({ runDir, resume: { from: null } });
  assert.deepEqual(ended.said, [JSON.stringify({ runDir, resume: null }), ...Array(5).fill(resumed)]);
});

test('the message names the last good checkpoint', ALARM, async () => {
  const runDir = temporaryFolder();
  const ended = await run('save:2,signal:SIGSEGV', { runDir, maxRestarts: 1 });
  assert.deepEqual(told(ended).slice(-2), [
    `${DOCTOR} Last good checkpoint: step 2.`,
    'Gave up after 1 restart without a new checkpoint.',
  ]);
});

// ——— stopping ———

test('a stop is passed on', ALARM, async () => {
  const stop = new AbortController();
  const ended = await run('wait', { stop, onEvent: () => stop.abort('SIGINT') });
  const text = 'stopped on request after step 5; the checkpoint is there.';
  assert.deepEqual(told(ended), ['DTRAIN_STOPPED', 75, text]);
});

test('a stop in the pause before a restart', ALARM, async () => {
  const stop = new AbortController();
  const runDir = temporaryFolder();
  const onEvent = () => setTimeout(() => stop.abort('SIGTERM'), 500);
  const ended = await run('save:2,done', { stop, runDir, pauseSeconds: 50, onEvent });
  const text = `stopped on request before a step; the checkpoint is ${runDir}/checkpoints/step-2.`;
  assert.deepEqual(told(ended), ['DTRAIN_STOPPED', 75, text]);
  assert(ended.seconds < 5 * 2, `${ended.seconds} s`);
});

test('a stop before there is anything to save, of an engine that does not hear it', ALARM, async () => {
  const stop = new AbortController();
  stop.abort('SIGINT');
  const text = 'before the first step; nothing was saved, and --resume starts from the beginning';
  assert.deepEqual(told(await run('done', { stop })), ['DTRAIN_STOPPED', 75, `stopped on request ${text}.`]);
  const resumed = await run('done', { stop, resume: { from: 'there' } });
  const asTheyWere = 'stopped on request before the run went on; its checkpoints are as they were.';
  assert.deepEqual(told(resumed), ['DTRAIN_STOPPED', 75, asTheyWere]);
  const later = new AbortController();
  const starting = run('start', { stop: later });
  setTimeout(() => later.abort('SIGINT'), 300);
  const ended = await starting;
  assert.deepEqual(told(ended), ['DTRAIN_STOPPED', 75, `stopped on request ${text}.`]);
  assert(ended.seconds < 5 * 9, `${ended.seconds} s`);
});

test('after a stop nothing is restarted', ALARM, async () => {
  const stop = new AbortController();
  const ended = await run('signal:SIGSEGV,done', { stop, onEvent: () => stop.abort('SIGINT') });
  assert.deepEqual([ended.error!.exitCode, ended.pids.length], [13, 1]);
});

for (const [signal, code, exitCode] of [
  ['SIGINT', 'DTRAIN_INTERRUPTED', 130],
  ['SIGTERM', 'DTRAIN_TERMINATED', 143],
] as const) {
  test(`a second ${signal} ends it at once: exit code ${exitCode}`, ALARM, async () => {
    const [stop, atOnce] = [new AbortController(), new AbortController()];
    const onEvent = () => {
      stop.abort(signal);
      setTimeout(() => atOnce.abort(signal), 100);
    };
    const ended = await run('deaf', { stop, atOnce: atOnce.signal, onEvent });
    const text = `ended at once by a second ${signal}; nothing new was saved. ${SAFE}`;
    assert.deepEqual(told(ended), [code, exitCode, text]);
    assert(ended.seconds < 5 * 1, `${ended.seconds} s`);
  });
}

test('who stops reading the events leaves no engine', ALARM, async () => {
  const engine = new EngineProcess(ENTRY);
  const options = { config: loadConfig({}), devices: null, configName: 'wait', runDir: null };
  const never = new AbortController().signal;
  const run = supervise(options, never, { atOnce: never, maxRestarts: 3, startEngine: () => engine });
  for await (const { event } of run) if (event === 'run') break;
  assert.equal((await engine.ended).signal, 'SIGKILL');
});

// ——— the kernel's count ———

test(
  'the engine ends where its supervisor is gone before it hears of it, while it loads its modules',
  ALARM,
  async () => {
    const engine = fork(fileURLToPath(new URL('../src/run/engine-main.js', import.meta.url)), [String(process.pid)], {
      stdio: 'ignore',
    });
    engine.disconnect();
    assert.deepEqual(await once(engine, 'exit'), [null, 'SIGKILL']);
  },
);

test('kills for want of memory are counted where the kernel says so', () => {
  const folder = temporaryFolder();
  const v2 = path.join(folder, 'memory.events');
  fs.writeFileSync(v2, 'low 0\nhigh 0\nmax 5\noom 1\noom_kill 4\noom_group_kill 0\n');
  const v1 = path.join(folder, 'memory.oom_control');
  fs.writeFileSync(v1, 'oom_kill_disable 0\nunder_oom 0\noom_kill 7\n');
  assert.deepEqual([v2, v1, folder, undefined].map(memoryKills), [4, 7, undefined, undefined]);
  const file = memoryEventsFile();
  assert(file === undefined || memoryKills(file)! >= 0);
});

test('a host that was waited for in vain is not waited for again: no restart', ALARM, async () => {
  const ended = await run('missing,done');
  assert.deepEqual(told(ended), ['DTRAIN_HOST_MISSING', 12, 'cluster: host 0 (a:1) did not come within 600 s.']);
  assert.deepEqual([ended.pids.length, ended.warned], [1, []]);
});
