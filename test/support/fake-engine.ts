/**
 * A process that plays the engine for tests of the supervisor: the configuration's name says what each life does, `abort,done`.
 * It speaks the real protocol and has no native code.
 */
import fs from 'node:fs';
import path from 'node:path';
import { DtrainError, ExitCode, serializeError } from '../../src/core/errors.js';
import type { EngineBenchOptions, EngineOptions, FromEngine, ToEngine } from '../../src/run/engine-protocol.js';
import { END_EVENT, RUN_EVENT, STEP_BENCH } from './events.js';

const send = (message: FromEngine) => new Promise((resolve) => process.send!(message, resolve));
const forEver = () => new Promise(() => setInterval(() => undefined, 1000));
const signal = (name: NodeJS.Signals) => process.kill(process.pid, name);

for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, () => undefined);
process.once('disconnect', () => process.exit());
process.on('message', (message: ToEngine) => {
  if (message.kind === 'run') void live(message.options);
  else if (message.kind === 'bench') void bench(message.options);
  else if (isObedient) void fail('DTRAIN_STOPPED', 75, 'stopped on request after step 5; the checkpoint is there.');
});
let isObedient = true;

async function live(options: EngineOptions): Promise<void> {
  const behaviour = options.configName.split(',')[options.life! - 1]!;
  isObedient = !['start', 'deaf'].includes(behaviour);
  if (behaviour === 'unloadable') process.exit(1);
  await send({ kind: 'ready' });
  await send({ kind: 'say', line: JSON.stringify({ runDir: options.runDir, resume: options.resume ?? null }) });
  if (behaviour === 'start') return;
  await send({ kind: 'folder', runDir: options.runDir ?? 'made-up' });
  await send({ kind: 'event', event: { ...RUN_EVENT, runDir: options.runDir ?? 'made-up' } });
  await send({
    kind: 'beat',
    ranks: [
      { rank: 0, step: 6, phase: 'reduce', ageSeconds: 0.5 },
      { rank: 1, step: 5, phase: 'compute', ageSeconds: 1.25 },
    ],
  });
  await act(behaviour, options);
}

/** Its start is that of the command, so that a test sees it arrive. */
async function bench(options: EngineBenchOptions): Promise<void> {
  const [what, more] = options.configName.split(':');
  await send({ kind: 'ready' });
  await send({ kind: 'say', line: 'devices: made up' });
  if (what === 'signal') signal(more as NodeJS.Signals);
  if (what === 'fail') await fail('DTRAIN_TEST', Number(more) as ExitCode, 'no library.');
  if (what === 'deaf') await forEver();
  await send({ kind: 'benched', result: { ...STEP_BENCH, startSeconds: options.startedAt! } });
}

async function act(behaviour: string, { runDir, life }: EngineOptions): Promise<void> {
  const [what, more] = behaviour.split(':');
  if (what === 'signal') signal(more as NodeJS.Signals);
  if (what === 'exit') process.exit(Number(more));
  if (what === 'fail') await fail('DTRAIN_TEST', Number(more) as ExitCode, `life ${life} failed.`);
  if (what === 'missing')
    await fail('DTRAIN_HOST_MISSING', ExitCode.hostLost, 'cluster: host 0 (a:1) did not come within 600 s.');
  if (what === 'fatal') {
    process.stdout.write('a line of a model\n');
    process.stderr.write('2026-01-01 00:00:00.000001: F tensorflow/core/fake.cc:7] Check failed: 1 == 2\n');
    signal('SIGABRT');
  }
  if (what === 'heap') {
    process.stderr.write('FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory\n');
    signal('SIGABRT');
  }
  if (what === 'save') {
    fs.mkdirSync(path.join(runDir!, 'checkpoints', `step-${more}`), { recursive: true });
    signal('SIGKILL');
  }
  if (what === 'silent') signal('SIGSTOP');
  if (what === 'wait') await forEver();
  if (what === 'deaf') await forEver();
  if (what === 'oom') {
    fs.writeFileSync(more!, 'low 0\noom 1\noom_kill 3\n');
    signal('SIGKILL');
  }
  await send({ kind: 'event', event: END_EVENT });
  await send({ kind: 'done' });
  if (what === 'crash-after') signal('SIGSEGV');
  if (what === 'linger') await forEver();
  process.exit(0);
}

async function fail(code: string, exitCode: ExitCode, message: string): Promise<void> {
  await send({ kind: 'failed', error: serializeError(new DtrainError(code, exitCode, message), {}) });
  process.exit(1);
}
