/** The same bits on any number of workers, and of a run that changes it on the way; short or long. */
import assert from 'node:assert/strict';
import path from 'node:path';
import { recordProof, recordRow } from '../faults/record.js';
import { lastCheckpointFile, runTraining, temporaryFolder } from './train-run.js';

const STEPS = 50;
const STATE_FILES = ['weights.safetensors', 'optimizer.safetensors'] as const;

/** ResNet-20, 50 steps of 16 images, as many shards as the largest number of workers. */
export async function checkWorkers(worlds: readonly number[], chain: readonly number[]): Promise<void> {
  const shards = Math.max(...worlds);
  const words = [`train={globalBatch: 16, logicalShards: ${shards}, threadsPerWorker: 1, maxSteps: ${STEPS}}`];
  const stateOf = (runDir: string) => Buffer.concat(STATE_FILES.map((file) => lastCheckpointFile(runDir, file)));
  let expected: Buffer | undefined;
  for (const world of worlds) {
    const { runDir } = await runTraining(world, words);
    expected ??= stateOf(runDir);
    assert(stateOf(runDir).equals(expected), `${world} workers have other bits than ${worlds[0]}`);
  }
  const runDir = path.join(temporaryFolder(), 'run');
  for (const [i, world] of chain.entries()) {
    const maxSteps = Math.round((STEPS * (i + 1)) / chain.length);
    await runTraining(world, [...words, `train.maxSteps=${maxSteps}`], {
      runDir,
      ...(i > 0 && { resume: { from: null } }),
    });
  }
  assert(stateOf(runDir).equals(expected!), `the chain ${chain.join(' → ')} has other bits`);
  const observed = `${worlds.join(', ')} workers: 0 bits of difference in weights, momenta and statistics; resumed as ${chain.join(' → ')}: 0 bits`;
  recordProof({
    name: 'The same bits on any number of workers',
    goal: `ResNet-20, ${STEPS} steps, ${shards} logical shards: 0 bits`,
    observed,
    pass: true,
  });
  recordRow({
    row: 21,
    fault: 'resumed on another number of workers',
    injected: `a run resumed as ${chain.join(' → ')} workers, ${shards} logical shards`,
    observed,
    code: 0,
    seconds: null,
    lost: 'nothing',
    pass: true,
  });
}
