/** Going on with a run: the same bits and the same lines as if nothing had happened, and a refusal wherever that could not be. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { DtrainError } from '../src/core/errors.js';
import type { TrainEvent } from '../src/core/events.js';
import { openCheckpoint } from '../src/train/checkpoint.js';
import { failureOf } from './support/compare-runs.js';
import { lastCheckpointFile, runTraining, temporaryFolder, tinyImages } from './support/train-run.js';

/** Four epochs of ten steps, long enough to stop in; EMA, an optimizer of two slots and a schedule, so that all state counts. */
const WORDS = [
  'model.name=resnet56',
  `data={name: image-folder, path: '${tinyImages()}'}`,
  'train={epochs: 4, maxSteps: null, globalBatch: 12, logicalShards: 2, threadsPerWorker: 1, seed: 3, ema: 0.9}',
  'optimizer={name: adamw}',
  'schedule={name: cosine, learningRate: 0.001, warmupEpochs: 1}',
  'checkpoint={everyEpochs: 1, everySteps: 3, keep: 100}',
];
const STATE_FILES = ['weights.safetensors', 'optimizer.safetensors'];
const FROM_NEWEST = { from: null };

/** What of an event does not depend on time. */
function lasting(event: TrainEvent): TrainEvent | { event: 'run' } {
  if (event.event === 'run') return { event: 'run' };
  if (event.event === 'step') return { ...event, imagesPerSecond: 0, seconds: {} as typeof event.seconds };
  if (event.event === 'checkpoint') return { ...event, path: '' };
  if (event.event === 'end') return { ...event, imagesPerSecond: 0, wallSeconds: 0 };
  return event;
}

function metricsOf(runDir: string): ReturnType<typeof lasting>[] {
  const lines = fs.readFileSync(path.join(runDir, 'metrics.jsonl'), 'utf8').trim().split('\n');
  return lines.map((line) => lasting(JSON.parse(line) as TrainEvent));
}

test('stopped anywhere and resumed, also by another number of workers, a run has the same bits and the same metrics', async () => {
  const whole = await runTraining(2, WORDS);
  const runDir = path.join(temporaryFolder(), 'run');
  const stops = [(step: number) => step >= 3, (step: number) => step >= 15];
  const stoppedAt: number[] = [];
  for (const [i, isTime] of stops.entries()) {
    const controller = new AbortController();
    const onProgress = ({ step }: { step: number }) => isTime(step) && controller.abort();
    const more = i === 0 ? {} : { resume: FROM_NEWEST };
    const stopped = await failureOf(
      runTraining(2 - i, WORDS, { runDir, signal: controller.signal, onProgress, ...more }),
    );
    assert.equal(stopped.exitCode, 75, stopped.message);
    stoppedAt.push(openCheckpoint(runDir).state.step);
  }
  const { said } = await runTraining(2, WORDS, { runDir, resume: { from: runDir } });
  assert(stoppedAt[0]! < stoppedAt[1]!, String(stoppedAt));
  assert.equal(said[0], `resume: going on from ${runDir}/checkpoints/step-${stoppedAt[1]}`);

  for (const file of STATE_FILES) {
    assert(lastCheckpointFile(runDir, file).equals(lastCheckpointFile(whole.runDir, file)), file);
  }
  const [resumed, expected] = [metricsOf(runDir), metricsOf(whole.runDir)];
  const isSave = ({ event }: { readonly event: string }) => event === 'checkpoint';
  assert.deepEqual(
    resumed.filter((event) => !isSave(event)),
    expected.filter((event) => !isSave(event)),
  );
  const saves = resumed.filter(isSave).map((event) => (event as { step: number }).step);
  assert.equal(new Set(saves).size, saves.length, 'no checkpoint is told twice');
  assert.equal(saves.at(-1), 40);
  assert.equal(openCheckpoint(runDir).manifest.generation, 3);
});

test('an evaluation that a stop came before is made when the run goes on', async () => {
  const words = ['train.maxSteps=null', 'train.globalBatch=24', 'train.epochs=1', WORDS[1]!];
  const runDir = path.join(temporaryFolder(), 'run');
  const controller = new AbortController();
  const onProgress = ({ step, totalSteps }: { step: number; totalSteps: number }) =>
    step === totalSteps && controller.abort();
  const stopped = await runTraining(1, words, { runDir, signal: controller.signal, onProgress }).catch(
    (error: DtrainError) => error,
  );
  if (!(stopped instanceof DtrainError)) return; // the last step was over before the signal came
  assert.equal(stopped.exitCode, 75);
  assert(openCheckpoint(runDir).state.progress.evaluationDue);
  const { events } = await runTraining(1, words, { runDir, resume: FROM_NEWEST });
  assert.deepEqual(
    events.map(({ event }) => event),
    ['run', 'evaluation', 'end'],
  );
  const again = await runTraining(1, words, { runDir, resume: FROM_NEWEST });
  assert.deepEqual(again.events.at(-1), events.at(-1));
  assert.equal(
    fs.readlinkSync(path.join(runDir, 'checkpoints', 'best')),
    fs.readlinkSync(path.join(runDir, 'checkpoints', 'last')),
  );
});

test('a finished run says so; with more steps it goes on', async () => {
  const { runDir, events } = await runTraining(1, ['train.maxSteps=2']);
  const before = fs.readFileSync(path.join(runDir, 'metrics.jsonl'), 'utf8');
  const again = await runTraining(1, ['train.maxSteps=2'], { runDir, resume: FROM_NEWEST });
  assert.equal(again.said.at(-1), `resume: ${runDir} is finished; nothing is left to do`);
  assert.deepEqual(again.events, [events[0], events.at(-1)]);
  assert.equal(fs.readFileSync(path.join(runDir, 'metrics.jsonl'), 'utf8'), before);

  await runTraining(1, ['train.maxSteps=3', 'evaluation.everyEpochs=2'], { runDir, resume: FROM_NEWEST });
  assert.deepEqual(
    metricsOf(runDir).map((event) => ('step' in event ? `${event.event} ${event.step}` : event.event)),
    ['run', 'step 2', 'checkpoint 2', 'step 3', 'checkpoint 3', 'end'],
  );
});

test('a crash after the last checkpoint: the end is told when the run is resumed', async () => {
  const { runDir, events } = await runTraining(1, ['train.maxSteps=2']);
  const metrics = path.join(runDir, 'metrics.jsonl');
  const lines = fs.readFileSync(metrics, 'utf8').trim().split('\n');
  fs.writeFileSync(metrics, `${lines.slice(0, -1).join('\n')}\n`);
  fs.rmSync(path.join(runDir, 'report.html'));
  await runTraining(1, ['train.maxSteps=2'], { runDir, resume: FROM_NEWEST });
  assert.deepEqual(metricsOf(runDir), events.map(lasting));
  assert(fs.existsSync(path.join(runDir, 'report.html')));
});

test('where there is no checkpoint yet, --resume begins anew and says so', async () => {
  const runDir = path.join(temporaryFolder(), 'new');
  const { said, events } = await runTraining(1, ['train.maxSteps=1'], { runDir, resume: FROM_NEWEST });
  assert.equal(said[0], 'resume: no checkpoint yet: starting from the beginning');
  assert.equal(events.at(-1)?.event, 'end');
  assert(!fs.existsSync(path.join(runDir, 'lock')), 'the lock is gone');
});

test('another configuration is refused with a table of all differences; the run stays as it was', async () => {
  const { runDir } = await runTraining(1, ['train.maxSteps=1']);
  const before = fs.readFileSync(path.join(runDir, 'metrics.jsonl'), 'utf8');
  const folder = path.join(runDir, 'checkpoints', 'step-1');
  const words = ['train.maxSteps=9', 'optimizer.momentum=0.8', 'data.augment.flip=false', 'train.threadsPerWorker=7'];
  const { exitCode, code, message } = await failureOf(runTraining(1, words, { runDir, resume: FROM_NEWEST }));
  assert.deepEqual({ exitCode, code }, { exitCode: 6, code: 'DTRAIN_RESUME_DIFFERS' });
  const threads = String(openCheckpoint(runDir).state.progress.threadsPerWorker);
  assert.equal(
    message,
    `${folder}: cannot be resumed with another configuration:
  key                     then  now
  data.augment.flip       true  false
  train.threadsPerWorker  ${threads.padEnd(4)}  7
  optimizer.momentum      0.9   0.8
Use the values of then, or begin a new run without --resume.`,
  );
  assert.equal(fs.readFileSync(path.join(runDir, 'metrics.jsonl'), 'utf8'), before);
  const more = await failureOf(runTraining(3, ['train.maxSteps=2'], { runDir, resume: FROM_NEWEST }));
  assert.equal(more.exitCode, 6);
  const expected = 'expected a number of workers that divides its 1 logical shard (1), got 3.';
  assert.equal(more.message, `${folder}: ${expected} Resume step 1 with one of these.`);
});

test('other images are refused, whatever the configuration says of them', async () => {
  const { runDir } = await runTraining(1, ['train.maxSteps=1']);
  const folder = path.join(runDir, 'checkpoints', 'step-1');
  const manifest = path.join(folder, 'manifest.json');
  const { encodeManifest, decodeManifest } = await import('../src/train/manifest.js');
  const facts = decodeManifest(fs.readFileSync(manifest), manifest);
  const hashes = { ...facts.hashes, dataSet: 'f'.repeat(64) };
  fs.writeFileSync(manifest, encodeManifest({ ...facts, hashes }));
  const { exitCode, message } = await failureOf(runTraining(1, ['train.maxSteps=2'], { runDir, resume: FROM_NEWEST }));
  assert.equal(exitCode, 6);
  assert.match(message, /\n {2}data set {2}f{12}… {2}[0-9a-f]{12}…\n/);
});

test('the newest is damaged: found, the one before is used with a warning; named, it is an error', async () => {
  const { runDir } = await runTraining(1, ['train.maxSteps=4', 'checkpoint.everySteps=2']);
  const newest = path.join(runDir, 'checkpoints', 'step-4');
  const size = fs.statSync(path.join(newest, 'weights.safetensors')).size;
  fs.truncateSync(path.join(newest, 'weights.safetensors'), 1000);
  const words = ['train.maxSteps=5', 'checkpoint.everySteps=2'];
  const named = await failureOf(runTraining(1, words, { runDir, resume: { from: newest } }));
  assert.equal(named.exitCode, 6);

  const warned: string[] = [];
  const warn = (line: string) => warned.push(line);
  const { said } = await runTraining(1, words, { runDir, resume: FROM_NEWEST, warn });
  assert.deepEqual(warned, [
    `${newest}/weights.safetensors: the checkpoint is damaged: expected ${size} bytes, got 1000. The one before it is used.`,
  ]);
  assert.equal(said[0], `resume: going on from ${runDir}/checkpoints/step-2`);
  const names = fs.readdirSync(path.join(runDir, 'checkpoints'));
  assert.deepEqual(names.filter((name) => !name.startsWith('.')).sort(), ['last', 'step-2', 'step-4', 'step-5']);
  assert.equal(names.filter((name) => name.startsWith('.bad-step-4-')).length, 1);
});

test('from an earlier checkpoint that is named, later ones are set aside and the run ends with the same bits', async () => {
  const words = ['train.maxSteps=4', 'checkpoint.everySteps=2'];
  const { runDir } = await runTraining(1, words);
  const expected = lastCheckpointFile(runDir, 'weights.safetensors');
  const warned: string[] = [];
  const warn = (line: string) => warned.push(line);
  const resume = { from: path.join(runDir, 'checkpoints', 'step-2') };
  await runTraining(1, words, { runDir, resume, warn });
  assert.deepEqual(warned, [`${runDir}: going on from step 2; later checkpoints are set aside: step-4.`]);
  assert(lastCheckpointFile(runDir, 'weights.safetensors').equals(expected));
});

test('nothing at that place, and a checkpoint outside of a run, are refused', async () => {
  const nowhere = path.join(temporaryFolder(), 'nowhere');
  const missing = await failureOf(runTraining(1, [], { resume: { from: nowhere } }));
  const expected = 'Expected a run folder or one of its checkpoints.';
  assert.deepEqual([missing.exitCode, missing.message], [6, `${nowhere}: nothing there to resume. ${expected}`]);
  const { runDir } = await runTraining(1, ['train.maxSteps=1']);
  const copy = path.join(temporaryFolder(), 'copy');
  fs.cpSync(path.join(runDir, 'checkpoints', 'step-1'), copy, { recursive: true });
  const { exitCode, message } = await failureOf(runTraining(1, [], { resume: { from: copy } }));
  assert.equal(exitCode, 6);
  assert.match(
    message,
    /expected a checkpoint inside the folder of its run \(RUN\/checkpoints\/step-N\), got one elsewhere\./,
  );
});

test('a folder that another process is using is refused, naming the process', async () => {
  const runDir = path.join(temporaryFolder(), 'run');
  const refusals: DtrainError[] = [];
  const tryAgain = async () => {
    refusals.push(await failureOf(runTraining(1, [], { runDir })));
  };
  let second: Promise<void> | undefined;
  await runTraining(1, ['train.maxSteps=1'], { runDir, onEvent: () => (second ??= tryAgain()) });
  await second;
  assert.equal(refusals[0]?.exitCode, 7);
  const holder = new RegExp(`got one in use by process ${process.pid} on .+ since .+Z\\. Wait for it, stop it,`);
  assert.match(refusals[0].message, holder);
});
