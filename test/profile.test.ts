/** The profile of a run: a Chrome trace that a viewer can draw, with the phases of each rank where they really were. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { PHASES } from '../src/core/events.js';
import { Profile } from '../src/run/profile.js';
import { runTraining, temporaryFolder } from './support/train-run.js';

interface Span {
  readonly name: string;
  readonly ph: string;
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

test('a run of two ranks: each step and phase once a rank, phases inside their step, in order', async () => {
  const { runDir, events, said } = await runTraining(2, ['train.maxSteps=4', 'evaluation.everyEpochs=0'], {
    profileSteps: 3,
  });
  const file = path.join(runDir, 'profile.json');
  const found = read(file);
  assert(said.includes(`profile: ${file} (for ui.perfetto.dev)`), said.join('\n'));
  for (const rank of [0, 1]) {
    const spans = found.filter(({ ph, tid }) => ph === 'X' && tid === rank);
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
  const names = found.filter(({ ph }) => ph === 'M').map(({ args }) => args.name);
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
