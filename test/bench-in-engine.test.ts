/** `bench step` in an engine that is made up: figures of the whole command, and what an end without figures means. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { loadConfig } from '../src/config/load.js';
import { nowSeconds, processStartedAt } from '../src/core/clock.js';
import { benchInEngine } from '../src/run/bench-in-engine.js';
import { EngineProcess } from '../src/run/engine-process.js';
import { STEP_BENCH } from './support/events.js';

const ENTRY = fileURLToPath(new URL('./support/fake-engine.js', import.meta.url));

/** `configName`: what the engine does. */
async function bench(configName: string) {
  const engine = new EngineProcess(ENTRY);
  const said: string[] = [];
  const options = { config: loadConfig({}), configName, devices: null, steps: 20, warmup: 5 };
  try {
    return { result: await benchInEngine({ ...options, say: (line) => said.push(line) }, engine), said };
  } finally {
    assert.throws(() => process.kill(engine.pid!, 0), 'no engine is left behind');
  }
}

test('the memory of both processes, counted from the start of this one; its lines are passed on', async () => {
  const { result, said } = await bench('done');
  const { startSeconds, peakRssBytes, ...rest } = result;
  assert.deepEqual({ ...rest, startSeconds: 1.4, peakRssBytes: STEP_BENCH.peakRssBytes }, STEP_BENCH);
  const own = peakRssBytes - STEP_BENCH.peakRssBytes;
  assert(own > 2e7 && own <= process.resourceUsage().maxRSS * 1024, `${own} bytes of this process`);
  assert(Math.abs(startSeconds - processStartedAt()) < 0.03, 'the fake engine tells when it was said to have begun');
  assert.deepEqual(said, ['devices: made up']);
});

test('a process is older than Node says, by what it took to load it', () => {
  const age = nowSeconds() - processStartedAt();
  assert(age > process.uptime() - 0.03 && age < process.uptime() + 5, `${age} s, ${process.uptime()} s`);
});

test('what the engine fails of is thrown', async () => {
  await assert.rejects(bench('fail:4'), { code: 'DTRAIN_TEST', exitCode: 4, message: 'no library.' });
});

test('an engine that is killed is told of', async () => {
  await assert.rejects(bench('signal:SIGKILL'), {
    code: 'DTRAIN_ENGINE_KILLED',
    exitCode: 13,
    message:
      /^engine \(process \d+\): ended by SIGKILL, which dtrain did not send\.\nIt had not come to its first step\.$/,
  });
});
