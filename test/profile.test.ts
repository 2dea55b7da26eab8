/** The profile of a run: a Chrome trace that a viewer can draw, with the phases of each rank where they really were. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { PHASES } from '../src/core/events.js';
import { Profile } from '../src/run/profile.js';
import { readSpace } from '../src/tensorflow/profiler.js';
import { field, message } from '../src/tensorflow/protobuf.js';
import { runTraining, temporaryFolder } from './support/train-run.js';

interface Span {
  readonly name: string;
  readonly ph: string;
  readonly pid: number;
  readonly tid: number;
  readonly ts: number;
  readonly dur: number;
  readonly args: { readonly step?: number; readonly name?: string; readonly loss?: number };
}

function read(file: string): Span[] {
  const trace = JSON.parse(fs.readFileSync(file, 'utf8')) as { displayTimeUnit: string; traceEvents: Span[] };
  assert.deepEqual(Object.keys(trace), ['displayTimeUnit', 'traceEvents']);
  return trace.traceEvents;
}

/** The difference between the two clocks' beginnings, generously. */
const CLOCK_MICROSECONDS = 2000;

const ran = await runTraining(2, ['train.maxSteps=4', 'evaluation.everyEpochs=0'], { profileSteps: 3 });
const file = path.join(ran.runDir, 'profile.json');
const found = read(file);

test('what TensorFlow did meanwhile: its convolutions, inside the compute phases', () => {
  const inTensorFlow = found.filter(({ ph, pid }) => ph === 'X' && pid > 1);
  const convolutions = inTensorFlow.filter(({ name }) => /Conv2D/.test(name));
  assert(convolutions.length >= 3 * 2 * 19 * 2, `${convolutions.length} convolutions of three steps of two ranks`);
  const computes = found.filter(({ name, pid }) => pid === 1 && name === 'compute');
  const isInside = ({ ts, dur }: Span) =>
    computes.some(
      (phase) => ts >= phase.ts - CLOCK_MICROSECONDS && ts + dur <= phase.ts + phase.dur + CLOCK_MICROSECONDS,
    );
  // The rank that is first may be in the step after while the other ends the last one of the profile.
  const lastSteps = found.filter(({ name, pid }) => pid === 1 && name === 'step 3');
  const firstEnd = Math.min(...lastSteps.map(({ ts, dur }) => ts + dur));
  assert.deepEqual(
    convolutions.filter((span) => span.ts < firstEnd && !isInside(span)).map(({ name, ts }) => `${name} at ${ts}`),
    [],
  );
  assert(found.some(({ ph, args }) => ph === 'M' && args.name === 'TensorFlow /host:CPU'));
});

test('an XSpace: names, times, lines without a span left out', () => {
  const names = (id: number, name: string) => field(4, message(field(1, id), field(2, message(field(2, name)))));
  const event = (id: number, offset: number, duration: number) =>
    field(4, message(field(1, id), field(2, offset), field(3, duration)));
  const line = message(field(1, 7), field(2, 'tf_Compute/1'), field(3, 2e9), event(1, 5e11, 25e10), event(9, 0, 0));
  const plane = message(field(2, '/host:CPU'), field(3, line), field(3, field(1, 8)), names(1, 'a/b:Conv2D'));
  const lines = readSpace(message(field(1, plane)), 100);
  assert.deepEqual(lines, [
    {
      plane: '/host:CPU',
      name: 'tf_Compute/1',
      spans: [
        { name: 'a/b:Conv2D', startSeconds: 102.5, seconds: 0.25 },
        { name: 'unknown', startSeconds: 102, seconds: 0 },
      ],
    },
  ]);
  const profile = new Profile(temporaryFolder(), ['/device:CPU:0'], 0, 3);
  profile.add({
    ...segment(0, 3),
    ranks: [{ starts: new Float64Array(15).fill(102.2), seconds: new Float64Array(15).fill(0.4) }],
  });
  profile.addOperations(lines);
  profile.write();
  const own = read(profile.file).filter(({ pid, ph }) => pid > 1 && ph === 'X');
  assert.deepEqual(
    own.map(({ name, ts, dur, args }) => [name, ts, dur, args]),
    [['Conv2D', 300_000, 250_000, { node: 'a/b' }]],
    'what began before the steps is left out',
  );
});

test('a run of two ranks: each step and phase once a rank, phases inside their step, in order', () => {
  const { events, said } = ran;
  assert(said.includes(`profile: ${file} (for ui.perfetto.dev)`), said.join('\n'));
  for (const rank of [0, 1]) {
    const spans = found.filter(({ ph, pid, tid }) => ph === 'X' && pid === 1 && tid === rank);
    for (const step of [1, 2, 3]) {
      const [whole, ...phases] = spans.filter(({ args }) => args.step === step);
      assert.equal(whole!.name, `step ${step}`);
      assert.deepEqual(
        phases.map(({ name }) => name),
        PHASES,
      );
      let at = whole!.ts;
      for (const { ts, dur } of phases) {
        assert(ts >= at && dur >= 0);
        at = ts + dur;
      }
      assert(Math.abs(at - (whole!.ts + whole!.dur)) < 0.01, 'the step ends with its last phase');
    }
    assert.equal(spans.length, 3 * 6, 'no step after the third');
  }
  // The reduce of a step ends in no rank before it has begun in the other: they meet there.
  const reduces = found.filter(({ name, args }) => name === 'reduce' && args.step === 2);
  assert(Math.min(...reduces.map(({ ts, dur }) => ts + dur)) >= Math.max(...reduces.map(({ ts }) => ts)));
  const names = found.filter(({ ph, pid }) => ph === 'M' && pid === 1).map(({ args }) => args.name);
  assert.deepEqual(names, ['dtrain', 'rank 0 /device:CPU:0', 'rank 1 /device:CPU:1']);
  const losses = found.filter(({ ph }) => ph === 'C').map(({ args }) => args.loss!);
  const event = events.find((candidate) => candidate.event === 'step');
  assert(event?.event === 'step' && losses.length === 3 && losses.every((loss) => loss > 0 && loss < 10));
});

const segment = (step: number, numSteps: number) => ({
  step,
  ranks: [
    {
      starts: Float64Array.from({ length: 5 * numSteps }, (_, i) => 1000 + step + i / 10),
      seconds: new Float64Array(5 * numSteps).fill(0.1),
    },
  ],
  losses: new Float64Array(numSteps).fill(2),
});

test('steps of several segments, exact times; a run that ends early; nothing of a run without a step', () => {
  const folder = temporaryFolder();
  const none = new Profile(folder, ['/device:CPU:0'], 0, 3);
  assert.equal(none.write(), false);
  assert(!fs.existsSync(none.file));
  const profile = new Profile(folder, ['/device:CPU:0'], 0, 3);
  assert.equal(profile.add(segment(0, 2)), false);
  assert.equal(profile.add(segment(2, 2)), true);
  assert.equal(profile.write(), true);
  assert.equal(profile.write(), false, 'once');
  assert.equal(profile.add(segment(4, 2)), false);
  const spans = read(profile.file).filter(({ ph }) => ph === 'X');
  assert.deepEqual(
    spans.slice(0, 3).map(({ name, ts, dur }) => [name, ts, dur]),
    [
      ['step 1', 0, 500_000],
      ['feed', 0, 100_000],
      ['compute', 100_000, 100_000],
    ],
  );
  assert.deepEqual([...new Set(spans.map(({ args }) => args.step))], [1, 2, 3]);
});
