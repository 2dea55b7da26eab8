/** The events of a run, read back by the tensorboard package: every figure equals that of metrics.jsonl. Run by npm run test:consumers. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { printConfig } from '../../src/config/print-config.js';
import type { RunConfig } from '../../src/config/schema.js';
import { runTraining } from '../support/train-run.js';
import { runPython } from './python.js';

interface Found {
  readonly version: string;
  readonly nodes: number;
  readonly scalars: Readonly<Record<string, readonly [step: number, value: number][]>>;
  readonly images: Readonly<Record<string, readonly { step: number; size: [number, number]; first: number[] }[]>>;
  readonly texts: Readonly<Record<string, readonly string[]>>;
  readonly histograms: Readonly<Record<string, readonly [step: number, num: number, inBuckets: number][]>>;
}

test('TensorBoard reads scalars, images, text and histogram of a run', async () => {
  const { events, runDir } = await runTraining(2, ['train={epochs: 2, maxSteps: null, globalBatch: 128}']);
  const found = runPython('DTRAIN_TENSORFLOW_PYTHON', 'read_events.py', [runDir]) as unknown as Found;
  console.log(`tensorboard ${found.version}: ${Object.keys(found.scalars).length} scalars`);

  const rounded = (pairs: readonly (readonly [number, number])[]) =>
    pairs.map(([step, value]) => [step, Math.fround(value)]);
  const steps = events.filter((event) => event.event === 'step');
  const evaluations = events.filter((event) => event.event === 'evaluation');
  assert(steps.length >= 2 && evaluations.length === 2);
  const expected: Record<string, [number, number][]> = {
    'loss/train': steps.map(({ step, loss }) => [step, loss]),
    'accuracy/train': steps.map(({ step, trainAccuracy }) => [step, trainAccuracy]),
    learningRate: steps.map(({ step, learningRate }) => [step, learningRate]),
    imagesPerSecond: steps.map(({ step, imagesPerSecond }) => [step, imagesPerSecond]),
    epoch: steps.map(({ step, epoch }) => [step, epoch]),
    'seconds/compute': steps.map(({ step, seconds }) => [step, seconds.compute]),
    'loss/test': evaluations.map(({ step, testLoss }) => [step, testLoss]),
    'accuracy/test': evaluations.map(({ step, testAccuracy }) => [step, testAccuracy]),
  };
  for (const [tag, pairs] of Object.entries(expected)) assert.deepEqual(found.scalars[tag], rounded(pairs), tag);
  assert.equal(found.scalars['accuracy/top5']!.length, 2);

  assert(found.nodes > 100, `a graph of ${found.nodes} nodes`);

  const [run] = events;
  assert(run?.event === 'run');
  assert.deepEqual(found.texts['configuration'], [`\`\`\`yaml\n${printConfig(run.config as RunConfig)}\`\`\``]);
  assert.deepEqual(Object.keys(found.images).sort(), [
    ...Array.from({ length: 8 }, (_, i) => `augmented/${i}`),
    'confusion',
  ]);
  assert.deepEqual(found.images['augmented/0']![0]!.size, [32, 32]);
  assert.deepEqual(
    found.images['confusion']!.map(({ size }) => size),
    [
      [160, 160],
      [160, 160],
    ],
  );
  const layers = Object.keys(found.scalars).filter((tag) => tag.startsWith('gradientNorm/'));
  assert.equal(layers.length, 59);
  for (const layer of ['conv1.weight', 'layer1.0.bn1.weight', 'fc.bias']) {
    const pairs = found.scalars[`gradientNorm/${layer}`]!;
    assert.deepEqual(
      pairs.map(([step]) => step),
      evaluations.map(({ step }) => step),
    );
    assert(pairs.every(([, norm]) => norm > 0));
  }
  // Of each layer, the norms that the step events since the last evaluation saw.
  const numSeen = evaluations.map(
    ({ step }, i) => steps.filter((one) => one.step <= step && one.step > (evaluations[i - 1]?.step ?? 0)).length,
  );
  assert(numSeen.every((num) => num > 0));
  for (const layer of layers.map((tag) => tag.replace('gradientNorm/', '')))
    assert.deepEqual(
      found.histograms[`gradientNorms/${layer}`],
      evaluations.map(({ step }, i) => [step, numSeen[i], numSeen[i]]),
      layer,
    );
  const norms = found.histograms['gradientNorms']!;
  assert.deepEqual(
    norms,
    evaluations.map(({ step }) => [step, 59, 59]),
  );
});
