/** Training processes that are killed by SIGKILL at random moments and resumed; shared by the short and the long test. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { recordProof } from '../faults/record.js';
import type { SeededRandom } from './seeded-random.js';
import { lastCheckpointFile, temporaryFolder } from './train-run.js';

const ENTRY = fileURLToPath(new URL('./killed-run.js', import.meta.url));
const STEPS = 24;
const STATE_FILES = ['weights.safetensors', 'optimizer.safetensors'];

/** When a process is killed: so long after it has begun this step; step 0 is its start. */
interface Moment {
  readonly step: number;
  readonly milliseconds: number;
}

/** Runs until `moment`, or to the end. Whether it was killed. */
async function runUntil(runDir: string, workers: number, moment: Moment | null): Promise<boolean> {
  const child = spawn(process.execPath, [ENTRY, runDir, String(workers)], { stdio: ['ignore', 'pipe', 'inherit'] });
  let text = '';
  let isKilling = false;
  const kill = async () => {
    isKilling = true;
    await delay(moment!.milliseconds);
    child.kill('SIGKILL');
  };
  if (moment?.step === 0) void kill();
  child.stdout.on('data', (chunk: Buffer) => {
    text += chunk.toString();
    const step = Number(text.trim().split('\n').at(-1));
    if (moment && !isKilling && step >= moment.step) void kill();
  });
  const [code, signal] = await new Promise<[number | null, string | null]>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (...how) => resolve(how));
  });
  assert(signal === 'SIGKILL' || code === 0, `the run ended with ${signal ?? code}`);
  return signal === 'SIGKILL';
}

/** What of metrics.jsonl does not depend on time; which checkpoints were told of depends on the kills. */
function lastingMetrics(runDir: string): unknown[] {
  const lines = fs.readFileSync(path.join(runDir, 'metrics.jsonl'), 'utf8').trim().split('\n');
  const events = lines.map((line) => JSON.parse(line) as Record<string, unknown>);
  return events
    .filter(({ event }) => event === 'step' || event === 'evaluation')
    .map(({ imagesPerSecond: _, seconds: __, ...lasting }) => lasting);
}

/**
 * Chains of runs, each resumed on one or two workers and killed again and again, against the undisturbed run: `wanted` kills at least,
 * though a run may end before its kill comes.
 * @throws where a bit differs, or too many runs ended.
 */
export async function checkKilledRuns(
  chains: number,
  wanted: number,
  random: SeededRandom,
  seed: number,
): Promise<void> {
  const killsPerChain = Math.ceil((wanted * 1.2) / chains);
  const whole = path.join(temporaryFolder(), 'run');
  await runUntil(whole, 2, null);
  const expected = STATE_FILES.map((file) => lastCheckpointFile(whole, file));
  let kills = 0;
  const moments: string[] = [];
  for (let chain = 0; chain < chains; chain++) {
    const runDir = path.join(temporaryFolder(), 'run');
    for (let left = killsPerChain; left > 0; left--) {
      const step = Math.floor(((killsPerChain - left + random.below(100) / 100) / killsPerChain) * STEPS);
      const moment = { step, milliseconds: random.below(step === 0 ? 1500 : 300) };
      if (await runUntil(runDir, 1 + random.below(2), moment)) {
        kills++;
        moments.push(`${moment.step}+${moment.milliseconds}`);
      }
    }
    await runUntil(runDir, 2, null);
    for (const [i, file] of STATE_FILES.entries()) {
      assert(
        lastCheckpointFile(runDir, file).equals(expected[i]!),
        `${file} differs; seed ${seed}, killed at ${moments.join(', ')}`,
      );
    }
    assert.deepEqual(lastingMetrics(runDir), lastingMetrics(whole));
    fs.rmSync(runDir, { recursive: true });
  }
  recordProof({
    name: 'Resume after kill -9 at random moments',
    goal: `${wanted} kills or more, 0 bits of difference in weights, optimizer, averages, statistics and metrics`,
    observed: `${kills} kills of a training process in ${chains} ${chains === 1 ? 'chain' : 'chains'} (seed ${seed}), resumed on 1 or 2 workers: 0 bits`,
    pass: kills >= wanted,
  });
  assert(kills >= wanted, `only ${kills} processes lived long enough to be killed, of ${wanted} wanted`);
}
