/**
 * A process that trains until it is killed, or to the end: a small run that goes on where it can. Arguments: the run folder, the number of
 * workers. Prints the step it is in, a line each, and `end`.
 */
import { loadConfig } from '../../src/config/load.js';
import { train } from '../../src/run/train.js';

/** All state counts: averages, an optimizer of two slots, a schedule, an evaluation in the middle. */
export const KILLED_RUN: readonly string[] = [
  'data={name: synthetic, augment: {crop: 4, flip: true, cutout: 8}}',
  'model.name=speednet',
  'train={epochs: 3, maxSteps: 24, globalBatch: 16, logicalShards: 2, threadsPerWorker: 1, seed: 3, ema: 0.9, precision: float32}',
  'optimizer={name: adamw}',
  'schedule={name: cosine, learningRate: 0.001, warmupEpochs: 1}',
  'checkpoint={everySteps: 4, keep: 2}',
  'allReduce.timeoutSeconds=600',
];

const [runDir, workers] = process.argv.slice(2);
const config = loadConfig({ overrides: KILLED_RUN });
const devices = { kind: 'cpu', count: Number(workers) } as const;
const options = { config, devices, configName: 'test', runDir: runDir!, resume: { from: null } };
const onProgress = ({ step }: { step: number }) => process.stdout.write(`${step}\n`);
for await (const event of train({ ...options, onProgress })) {
  if (event.event === 'end') process.stdout.write('end\n');
}
process.exit(0);
