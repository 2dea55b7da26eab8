/** Rows 1, 3 to 7, 9 to 11, 38 and 40: the engine dies, hangs or computes nonsense, or loses its supervisor. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { before, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { loadConfig } from '../../src/config/load.js';
import { nowSeconds } from '../../src/core/clock.js';
import { DtrainError } from '../../src/core/errors.js';
import { PHASES } from '../../src/core/events.js';
import { EngineProcess } from '../../src/run/engine-process.js';
import { supervise } from '../../src/run/supervise.js';
import { gone, isUsable, lives, PATIENCE_SECONDS, QUICK_RUN, SupervisedRun } from '../support/supervised-run.js';
import { lastCheckpointFile, temporaryFolder } from '../support/train-run.js';
import { recordRow } from './record.js';

const ALARM = { timeout: PATIENCE_SECONDS * 1000 };
const ONCE = ['--max-restarts', '0'];
const STATE_FILES = ['weights.safetensors', 'optimizer.safetensors'];

let undisturbed: string;

before(async () => {
  undisturbed = path.join(temporaryFolder(), 'run');
  const run = new SupervisedRun([...QUICK_RUN, '--run-dir', undisturbed]);
  assert.equal((await run.ended).code, 0, run.stderr);
});

function newRunDir(): string {
  return path.join(temporaryFolder(), 'run');
}

function hasSameBits(runDir: string): boolean {
  return STATE_FILES.every((file) => lastCheckpointFile(runDir, file).equals(lastCheckpointFile(undisturbed, file)));
}

async function faulty(fault: string, words: readonly string[] = []) {
  const runDir = newRunDir();
  const run = new SupervisedRun([...QUICK_RUN, '--run-dir', runDir, ...words], { DTRAIN_FAULT: fault });
  const ended = await run.ended;
  await run.nothingLeft(5 * 1);
  return { run, ended, runDir };
}

test(
  'row 1: kill -9 of the engine, three times: each life goes on from a whole checkpoint, and the bits are the same',
  ALARM,
  async () => {
    const runDir = newRunDir();
    const run = new SupervisedRun([...QUICK_RUN, '--run-dir', runDir], {
      DTRAIN_FAULT: 'slow:rank=0,step=1,phase=feed',
    });
    let engine: number | undefined;
    let kills = 0;
    for (let i = 0; i < 3; i++) {
      const from = run.stderr.length;
      engine = await run.engine(engine);
      await run.says(/resume:|run {6}/, from);
      await delay(900 + 700 * i);
      if (fs.existsSync(path.join(runDir, 'checkpoints', 'step-12'))) break; // a machine that is quicker than expected
      process.kill(engine, 'SIGKILL');
      kills++;
      await run.says(new RegExp(`process ${engine}\\): ended by SIGKILL`));
    }
    const ended = await run.ended;
    assert.equal(ended.code, 0, run.stderr);
    assert(kills >= 1 && hasSameBits(runDir));
    assert(!fs.readdirSync(path.join(runDir, 'checkpoints')).some((name) => name.startsWith('.tmp')));
    await run.nothingLeft(5 * 1);
    recordRow({
      row: 1,
      fault: 'kill -9 of the engine',
      injected: `SIGKILL to the engine of a running command, ${kills} times, while it steps and saves`,
      observed: 'each time restarted from the newest checkpoint; the end has the bits of the undisturbed run',
      code: ended.code,
      seconds: ended.seconds,
      lost: 'steps since the last checkpoint, done again',
      pass: true,
    });
  },
);

test('row 3: kill -9 of the supervisor: the engine ends with its step, and nothing is left', ALARM, async () => {
  let slowest = 0;
  for (const [when, pattern] of [
    ['while it starts', /dtrain: starting/],
    ['while it steps', /epoch 1/],
  ] as const) {
    const runDir = newRunDir();
    const words = [...QUICK_RUN, 'train.maxSteps=null', '--run-dir', runDir];
    const run = new SupervisedRun(words);
    await run.says(pattern);
    run.kill('SIGKILL');
    const seconds = await run.nothingLeft(5 * 10);
    slowest = Math.max(slowest, seconds);
    if (when === 'while it steps') assert((await isUsable(runDir)) > 0);
  }
  recordRow({
    row: 3,
    fault: 'kill -9 of the supervisor',
    injected: 'SIGKILL to the command, while it starts and while it steps',
    observed: 'the engine finished its step, saved, and ended; no process and no lock was left',
    code: null,
    seconds: slowest,
    lost: 'nothing',
    pass: true,
  });
});

test(
  'row 3: the supervisor is killed while the coordinator hangs: a thread beside it ends the engine',
  ALARM,
  async () => {
    const guard = JSON.stringify(new URL('../../src/run/parent-guard.js', import.meta.url).href);
    const hung = `
    const { Worker } = require('node:worker_threads');
    new Worker(new URL(${guard}), { workerData: process.ppid });
    process.stdout.write(process.pid + '\\n');
    setTimeout(() => { for (;;); }, 500);`;
    const parent = spawn('sh', ['-c', `'${process.execPath}' -e "$0" & wait`, hung], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [pid] = (await once(parent.stdout!, 'data')).map(Number) as [number];
    await delay(1000);
    assert(lives(pid));
    parent.kill('SIGKILL');
    const killed = nowSeconds();
    while (lives(pid)) {
      assert(nowSeconds() - killed < 5 * 9, 'still there');
      await delay(50);
    }
    recordRow({
      row: 3,
      fault: 'kill -9 of the supervisor while the coordinator hangs',
      injected: 'the main thread spins; then SIGKILL to the parent',
      observed: 'the guard thread ended the process',
      code: null,
      seconds: nowSeconds() - killed,
      lost: 'steps since the last checkpoint',
      pass: true,
    });
  },
);

test('row 3: the supervisor is killed while a rank hangs: the engine still ends', ALARM, async () => {
  const words = [...QUICK_RUN, 'allReduce.timeoutSeconds=2', '--run-dir', newRunDir()];
  const run = new SupervisedRun(words, { DTRAIN_FAULT: 'stall:rank=0,step=3,phase=compute' });
  await run.says(/epoch 1/);
  await delay(500);
  run.kill('SIGKILL');
  const seconds = await run.nothingLeft(5 * 14);
  recordRow({
    row: 3,
    fault: 'kill -9 of the supervisor while a rank hangs',
    injected: 'rank 0 never returns from step 3; then SIGKILL to the command',
    observed: 'the other rank gave up after allReduce.timeoutSeconds, and the engine ended itself',
    code: null,
    seconds,
    lost: 'steps since the last checkpoint',
    pass: true,
  });
});

for (const [fault, code, text, what] of [
  [
    'throw',
    10,
    /^rank 1, step 5, compute: fault injected by DTRAIN_FAULT\. Last good checkpoint: step \d\.$/m,
    'an exception in a worker',
  ],
  ['exit', 10, /^rank 1: its thread ended: /m, "a worker's thread ends"],
  ['heap', 9, /^rank 1: its thread ended: .*memory limit/m, "a worker's JavaScript memory runs out"],
] as const) {
  test(`row 4: ${what}: exit code ${code}`, ALARM, async () => {
    const { run, ended, runDir } = await faulty(`${fault}:rank=1,step=5,phase=compute`, ONCE);
    assert.equal(ended.code, code, run.stderr);
    assert.match(run.stderr, text);
    const step = await isUsable(runDir);
    recordRow({
      row: 4,
      fault: what,
      injected: `${fault} in rank 1, step 5, compute`,
      observed: lastLine(run.stderr),
      code,
      seconds: null,
      lost: `steps after ${step}`,
      pass: true,
    });
  });
}

const NATIVE = [
  ...PHASES.map((phase, i) => ['abort', 'SIGABRT', i % 2, phase] as const),
  ['segv', 'SIGSEGV', 1, 'compute'] as const,
];
for (const [kind, signal, rank, phase] of NATIVE) {
  test(`row 5: ${signal} in ${phase} of rank ${rank}: exit code 13, with what the ranks did`, ALARM, async () => {
    const { run, ended, runDir } = await faulty(`${kind}:rank=${rank},step=5,phase=${phase}`, [...ONCE, '--json']);
    assert.equal(ended.code, 13, run.stderr);
    const error = JSON.parse(run.stdout.trim().split('\n').at(-1)!);
    assert.deepEqual([error.event, error.code, error.exitCode], ['error', 'DTRAIN_NATIVE_ABORT', 13]);
    assert.match(
      error.message,
      new RegExp(
        `^engine \\(process \\d+\\): ended by ${signal}, in native code\\.\n(Last seen .*|It had not come to its first step\\.)\nIf it happens again: .* Last good checkpoint: step [24]\\.$`,
      ),
    );
    await isUsable(runDir);
    recordRow({
      row: 5,
      fault: `${signal} in native code`,
      injected: `${signal} in rank ${rank}, step 5, ${phase}`,
      observed: error.message.replace(/\n/g, ' '),
      code: 13,
      seconds: null,
      lost: 'steps since the last checkpoint',
      pass: true,
    });
  });
}

test('row 5: SIGBUS once: restarted, and the end has the same bits', ALARM, async () => {
  const runDir = newRunDir();
  const run = new SupervisedRun([...QUICK_RUN, '--run-dir', runDir], { DTRAIN_FAULT: 'slow:rank=0,step=3,phase=feed' });
  await run.says(/epoch 1/);
  const engine = await run.engine();
  process.kill(engine, 'SIGBUS');
  const killed = nowSeconds();
  await gone(engine);
  await run.says(/ended by SIGBUS, in native code/);
  const detected = nowSeconds() - killed;
  assert(detected < 5 * 1, `${detected} s`);
  await run.engine(engine);
  const ended = await run.ended;
  assert.equal(ended.code, 0, run.stderr);
  assert(hasSameBits(runDir));
  recordRow({
    row: 5,
    fault: 'SIGBUS, once',
    injected: 'SIGBUS to the engine',
    observed: 'restarted from the newest checkpoint; the end has the bits of the undisturbed run',
    code: 0,
    seconds: detected,
    lost: 'steps since the last checkpoint, done again',
    pass: true,
  });
});

test(
  'row 6: a rank that never returns is named with its phase, and the run goes on without the fault',
  ALARM,
  async () => {
    const { run, ended, runDir } = await faulty('stall:rank=0,step=5,phase=compute,life=1', [
      'allReduce.timeoutSeconds=2',
    ]);
    assert.equal(ended.code, 0, run.stderr);
    assert.match(
      run.stderr,
      /^all-reduce, step 5: rank 0 did not arrive within 2 s \(last seen in compute\); rank 1 waited\. .*\nRestart 1 of 3 in 1 s, from step [24]\.$/m,
    );
    assert(hasSameBits(runDir));
    recordRow({
      row: 6,
      fault: 'a native call that never returns',
      injected: 'rank 0 sleeps for ever in step 5, compute; timeout 2 s',
      observed:
        'all-reduce, step 5: rank 0 did not arrive within 2 s (last seen in compute); rank 1 waited. Killed and restarted; same bits',
      code: 0,
      seconds: ended.seconds,
      lost: 'steps since the last checkpoint, done again',
      pass: true,
    });
  },
);

test('row 6: an engine that does not answer is killed by the supervisor: exit code 11', ALARM, async () => {
  const words = [...ONCE, 'allReduce.timeoutSeconds=2'];
  const { run, ended } = await faulty('freeze:rank=0,step=5,phase=compute', words);
  assert.equal(ended.code, 11, run.stderr);
  assert.match(
    run.stderr,
    /^engine \(process \d+\): no answer for 8 s, so it was ended\.\n(Last seen .*|It had not come to its first step\.)\nLast good checkpoint: step [24]\.$/m,
  );
  recordRow({
    row: 6,
    fault: 'the coordinator hangs',
    injected: 'SIGSTOP of the whole engine in step 5; timeout 2 s',
    observed: 'engine: no answer for 8 s, so it was ended, with a table of the ranks',
    code: 11,
    seconds: ended.seconds,
    lost: 'steps since the last checkpoint',
    pass: true,
  });
});

test('row 6: a run that is stopped for a while and continued raises no alarm', ALARM, async () => {
  const runDir = newRunDir();
  const run = new SupervisedRun([...QUICK_RUN, 'allReduce.timeoutSeconds=2', '--run-dir', runDir]);
  await run.says(/ {2}devices/);
  const engine = await run.engine();
  for (let i = 0; i < 2; i++) {
    await delay(300);
    for (const pid of [run.pid, engine]) process.kill(pid, 'SIGSTOP');
    await delay(6000);
    for (const pid of [engine, run.pid]) process.kill(pid, 'SIGCONT');
  }
  const ended = await run.ended;
  assert.equal(ended.code, 0, run.stderr);
  assert.doesNotMatch(run.stderr, /no progress|did not arrive|no answer|Restart/);
  assert(hasSameBits(runDir));
  recordRow({
    row: 6,
    fault: 'a false alarm',
    injected: 'SIGSTOP of both processes for three times the timeout, twice, then SIGCONT',
    observed: 'no alarm; the same bits',
    code: 0,
    seconds: null,
    lost: 'nothing',
    pass: true,
  });
});

test('row 7: a slow rank is told of once, and ends no run', ALARM, async () => {
  const { run, ended } = await faulty('slow:rank=1,step=2,phase=compute', [
    'train.maxSteps=23',
    'checkpoint.everySteps=1000',
  ]);
  assert.equal(ended.code, 0, run.stderr);
  const told = run.stderr.match(/^rank 1 is slow: 20 steps in a row took \d+\.\d times as long .*$/gm);
  assert.equal(told?.length, 1, run.stderr);
  recordRow({
    row: 7,
    fault: 'a slow rank',
    injected: 'rank 1 takes 0.3 s longer from step 2 on',
    observed: told[0]!,
    code: 0,
    seconds: null,
    lost: 'nothing',
    pass: true,
  });
});

test('row 9: the kernel kills the engine for want of memory: exit code 9', ALARM, async () => {
  const runDir = newRunDir();
  const memoryEvents = path.join(temporaryFolder(), 'memory.events');
  fs.writeFileSync(memoryEvents, 'oom_kill 0\n');
  const overrides = QUICK_RUN.filter((word) => word.includes('=') && !word.startsWith('--'));
  const options = {
    config: loadConfig({ overrides }),
    devices: { kind: 'cpu', count: 2 } as const,
    runDir,
    configName: 'test',
  };
  const engine = new EngineProcess();
  const never = new AbortController().signal;
  const run = supervise(options, never, { atOnce: never, maxRestarts: 3, memoryEvents, startEngine: () => engine });
  const failure = await (async () => {
    for await (const { event } of run) {
      if (event !== 'run') continue;
      fs.writeFileSync(memoryEvents, 'oom_kill 1\n');
      process.kill(engine.pid!, 'SIGKILL');
    }
    return assert.fail('did not fail');
  })().catch((error: unknown) => error);
  assert(failure instanceof DtrainError && failure.exitCode === 9, String(failure));
  assert(!lives(engine.pid!));
  recordRow({
    row: 9,
    fault: 'killed by the kernel for want of memory',
    injected: 'SIGKILL to the engine, and oom_kill of a made-up memory.events rises',
    observed: failure.message.split('\n')[0]!.replace(memoryEvents, 'memory.events'),
    code: 9,
    seconds: null,
    lost: 'steps since the last checkpoint',
    pass: true,
  });
});

test('row 10: a loss that is not finite: exit code 8, not restarted, nothing bad saved', ALARM, async () => {
  const { run, ended, runDir } = await faulty('nan:rank=1,step=5,phase=reduce');
  assert.equal(ended.code, 8, run.stderr);
  assert.match(
    run.stderr,
    /^step [56]: the loss is NaN: training has diverged\. .* Last good checkpoint: step [24]\.$/m,
  );
  assert.doesNotMatch(run.stderr, /Restart/);
  assert((await isUsable(runDir)) <= 4);
  const { images } = JSON.parse(fs.readFileSync(path.join(runDir, 'diverged.json'), 'utf8'));
  assert.equal(images.length, 32);
  recordRow({
    row: 10,
    fault: 'NaN in the gradient',
    injected: 'the row of rank 1 is NaN in step 5',
    observed: lastLine(run.stderr).replaceAll(runDir, 'RUN'),
    code: 8,
    seconds: null,
    lost: 'the step that diverged',
    pass: true,
  });
});

test('row 11: replicas that differ: nothing is saved, restarted, and the end has the same bits', ALARM, async () => {
  const { run, ended, runDir } = await faulty('flip:rank=1,step=3,phase=report,life=1');
  assert.equal(ended.code, 0, run.stderr);
  assert.match(
    run.stderr,
    /^step 4: the weights of rank 1 differ from those of rank 0, .*\nRestart 1 of 3 in 1 s, from step 2\.$/m,
  );
  assert(hasSameBits(runDir));
  recordRow({
    row: 11,
    fault: 'replicas differ',
    injected: 'one bit of the weights of rank 1 after step 3',
    observed:
      'found at the next checkpoint; rank 1 named; restarted from step 2; the end has the bits of the undisturbed run',
    code: 0,
    seconds: null,
    lost: 'two steps, done again',
    pass: true,
  });
});

test('row 38: a crash at the same step again and again is given up after three restarts', ALARM, async () => {
  const { run, ended, runDir } = await faulty('abort:rank=0,step=5,phase=compute');
  assert.equal(ended.code, 13, run.stderr);
  assert.equal(run.stderr.match(/^Restart \d of 3/gm)?.length, 3);
  assert.equal(lastLine(run.stderr), 'Gave up after 3 restarts without a new checkpoint.');
  assert([2, 4].includes(await isUsable(runDir)), 'the save of step 4 is beside training: the crash may come first');
  recordRow({
    row: 38,
    fault: 'a crash at the same step again and again',
    injected: 'abort at step 5 of every life',
    observed: 'three restarts after 1, 2 and 4 s; then: Gave up after 3 restarts without a new checkpoint.',
    code: 13,
    seconds: ended.seconds,
    lost: 'steps after the last checkpoint',
    pass: true,
  });
});

test('row 40: an end with 0 too early is a failure; a crash after the end is not', ALARM, async () => {
  const entry = fileURLToPath(new URL('../support/fake-engine.js', import.meta.url));
  const never = new AbortController().signal;
  const outcome = async (configName: string) => {
    const warned: string[] = [];
    const options = {
      config: loadConfig({}),
      devices: null,
      runDir: null,
      configName,
      warn: (line: string) => warned.push(line),
    };
    try {
      const supervision = { atOnce: never, maxRestarts: 0, startEngine: () => new EngineProcess(entry) };
      for await (const _ of supervise(options, never, supervision));
      return { code: 0, text: warned[0]! };
    } catch (error) {
      return { code: (error as DtrainError).exitCode, text: (error as DtrainError).message.split('\n')[0]! };
    }
  };
  const early = await outcome('exit:0');
  const late = await outcome('crash-after');
  assert.equal(early.code, 13);
  assert.match(early.text, /ended with exit code 0 before the run was finished\.$/);
  assert.deepEqual(late, { code: 0, text: 'The engine did not end well after the run was finished (SIGSEGV).' });
  for (const [fault, { code, text }] of [
    ['the engine exits 0 too early', early],
    ['the engine crashes in teardown', late],
  ] as const) {
    recordRow({
      row: 40,
      fault,
      injected: 'an engine that is made up',
      observed: text.replace(/\d{3,}/, 'N'),
      code,
      seconds: null,
      lost: 'nothing',
      pass: true,
    });
  }
});

function lastLine(text: string): string {
  return text.trimEnd().split('\n').at(-1)!;
}
