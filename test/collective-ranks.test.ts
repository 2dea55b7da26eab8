/**
 * Real threads meet: sums are exact over many rounds, no wake-up is lost, poison wakes all, the deadline names who is missing, and a request
 * to stop is seen by all ranks after the same all-reduce. Threads run `support/rank-thread.ts`; they meet by Atomics, never by sleep.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { type ArenaSpec, createArena } from '../src/collective/gradient-arena.js';
import { isPoisoned, poisonGroup, readProgress, requestStop } from '../src/collective/progress.js';
import { RankGroup } from '../src/collective/rank-group.js';
import { nowSeconds } from '../src/core/clock.js';
import type { RankReport, RankScript } from './support/rank-thread.js';

/** Runs one thread for each script, rank r the r-th; `null` is a rank that never comes. */
function startRanks(
  spec: ArenaSpec,
  scripts: readonly (RankScript | null)[],
  timeoutSeconds = 60,
): Promise<RankReport>[] {
  return scripts.flatMap((script, rank) => {
    if (script === null) return [];
    const thread = new Worker(new URL('./support/rank-thread.js', import.meta.url), {
      workerData: { spec, rank, timeoutSeconds, script },
    });
    return new Promise<RankReport>((resolve, reject) => thread.once('message', resolve).once('error', reject));
  });
}

for (const world of [2, 3, 4]) {
  test(`${world} threads, thousands of rounds on small rows: every sum exact`, async () => {
    const rounds = world === 2 ? 20_000 : 4000;
    const spec = createArena({ world, shards: world * 2, rowLength: 37 });
    const script: RankScript = { act: 'sum', rounds };
    const reports = await Promise.all(startRanks(spec, Array(world).fill(script)));
    for (const report of reports)
      assert.deepEqual({ ...report, lastArrivals: 0 }, { wrong: 0, rounds, lastArrivals: 0 });
    assert.equal(
      reports.reduce((sum, report) => sum + report.lastArrivals, 0),
      rounds,
      'one rank comes last each round',
    );
  });
}

test('ranks that come at random times: no wake-up is lost, every sum exact', async () => {
  const rounds = 1500;
  const spec = createArena({ world: 3, shards: 3, rowLength: 5 });
  const script: RankScript = { act: 'sum', rounds, delay: true };
  for (const report of await Promise.all(startRanks(spec, [script, script, script]))) {
    assert.equal(report.wrong, 0);
    assert.equal(report.rounds, rounds);
  }
});

test('what is not finite in one chunk is seen by all ranks in that round alone', async () => {
  const rounds = 3000;
  const spec = createArena({ world: 3, shards: 3, rowLength: 100 });
  const script: RankScript = { act: 'finite', rounds };
  for (const { wrong } of await Promise.all(startRanks(spec, [script, script, script]))) assert.equal(wrong, 0);
});

test('a group goes on where the last one of its rank ended', () => {
  const spec = createArena({ world: 1, shards: 1, rowLength: 1 });
  for (let segment = 0; segment < 3; segment++) {
    const group = new RankGroup(spec, 0, 60);
    group.row(0)[0] = segment;
    group.allReduceMean();
    group.barrier();
    assert.equal(group.result[0], segment);
  }
});

test('poison wakes all who wait, and all who come later; the message names the culprit', async () => {
  const spec = createArena({ world: 4, shards: 4, rowLength: 8 });
  const wait: RankScript = { act: 'wait', step: 118 };
  const reports = await Promise.all(
    startRanks(spec, [
      wait,
      wait,
      { act: 'fail', step: 118, afterWaiting: 2 },
      { act: 'wait', step: 118, onceFailed: true },
    ]),
  );
  for (const rank of [0, 1, 3]) {
    assert.deepEqual(reports[rank]!.error, {
      code: 'DTRAIN_RANK_FAILED',
      exitCode: 10,
      message: `all-reduce, step 118: rank 2 failed; rank ${rank} stops.`,
      rank: 2,
      step: 118,
      phase: 'reduce',
    });
    assert.ok(reports[rank]!.waitedSeconds! < 5, 'at once, not at the deadline of 60 s');
  }
  assert.equal(isPoisoned(spec), true);
});

test('the main thread can poison the group for a thread that died', async () => {
  const spec = createArena({ world: 3, shards: 3, rowLength: 8 });
  const wait: RankScript = { act: 'wait', step: 7 };
  const reports = startRanks(spec, [wait, wait, null]);
  await until(() => readProgress(spec).filter(({ phase }) => phase === 'reduce').length === 2);
  assert.equal(isPoisoned(spec), false);
  poisonGroup(spec, 2);
  for (const [rank, report] of (await Promise.all(reports)).entries()) {
    assert.equal(report.error?.message, `all-reduce, step 7: rank 2 failed; rank ${rank} stops.`);
  }
});

test('the first to poison is the culprit', () => {
  const spec = createArena({ world: 3, shards: 3, rowLength: 8 });
  new RankGroup(spec, 1, 60).poison();
  poisonGroup(spec, 2);
  assert.throws(() => new RankGroup(spec, 0, 60).barrier(), { message: 'barrier: rank 1 failed; rank 0 stops.' });
});

test('the deadline names the missing rank and what it was doing', async () => {
  const spec = createArena({ world: 4, shards: 4, rowLength: 8 });
  new RankGroup(spec, 3, 60).enter(118, 'compute');
  const wait: RankScript = { act: 'wait', step: 118, together: 3 };
  const start = nowSeconds();
  const reports = await Promise.all(startRanks(spec, [wait, wait, wait, null], 0.5));
  assert.ok(nowSeconds() - start < 5 * 0.5 + 2, 'five deadlines, and the start of the threads');
  const hangs = reports.filter(({ error }) => error?.code === 'DTRAIN_HANG');
  assert.ok(hangs.length === 1, `one rank reports the hang, the others stop: ${JSON.stringify(reports)}`);
  assert.deepEqual(hangs[0]!.error, {
    code: 'DTRAIN_HANG',
    exitCode: 11,
    message: 'all-reduce, step 118: rank 3 did not arrive within 0.5 s (last seen in compute); ranks 0, 1, 2 waited.',
    rank: 3,
    step: 118,
    phase: 'compute',
  });
  const consequences = reports.filter(({ error }) => error?.code === 'DTRAIN_RANK_FAILED');
  assert.equal(consequences.length, 2);
  assert.throws(() => new RankGroup(spec, 3, 60).barrier(), {
    code: 'DTRAIN_RANK_FAILED',
    message: 'barrier, step 118: rank 3 came too late, the others had given up.',
  });
});

test('the deadline names several missing ranks, their phases and steps', () => {
  const spec = createArena({ world: 3, shards: 3, rowLength: 8 });
  new RankGroup(spec, 1, 60).enter(4, 'report');
  const group = new RankGroup(spec, 0, 0.2);
  group.enter(5, 'reduce');
  assert.throws(() => group.allReduceMean(), {
    code: 'DTRAIN_HANG',
    message:
      'all-reduce, step 5: ranks 1, 2 did not arrive within 0.2 s (last seen in report of step 4, start of step 0); rank 0 waited.',
  });
});

test('before the first step the message names no step', () => {
  const group = new RankGroup(createArena({ world: 2, shards: 2, rowLength: 0 }), 1, 0.1);
  assert.throws(() => group.barrier(), {
    message: 'barrier: rank 0 did not arrive within 0.1 s (last seen in start); rank 1 waited.',
  });
});

test('a request to stop is seen by all ranks after the same all-reduce', async () => {
  for (let repetition = 0; repetition < 8; repetition++) {
    const spec = createArena({ world: 3, shards: 3, rowLength: 64 });
    const script: RankScript = { act: 'untilStop', rounds: 1_000_000 };
    const reports = startRanks(spec, [script, script, script]);
    await until(() => readProgress(spec).every(({ step }) => step > 20 + repetition));
    requestStop(spec);
    const rounds = (await Promise.all(reports)).map((report) => report.rounds);
    assert.ok(rounds[0]! > 20 && rounds[0]! < 1_000_000);
    assert.deepEqual(rounds, [rounds[0], rounds[0], rounds[0]]);
  }
});

test('a request is not seen before the next meeting', () => {
  const spec = createArena({ world: 1, shards: 1, rowLength: 1 });
  const group = new RankGroup(spec, 0, 60);
  requestStop(spec);
  assert.equal(group.stopRequested, false);
  group.allReduceMean();
  assert.equal(group.stopRequested, true);
});

test('progress: step, phase and age of every rank', async () => {
  const spec = createArena({ world: 2, shards: 2, rowLength: 1 });
  new RankGroup(spec, 1, 60).enter(12, 'feed');
  await delay(120);
  const [first, second] = readProgress(spec);
  assert.deepEqual({ ...first, ageSeconds: 0 }, { rank: 0, step: 0, phase: 'start', ageSeconds: 0 });
  assert.deepEqual({ ...second, ageSeconds: 0 }, { rank: 1, step: 12, phase: 'feed', ageSeconds: 0 });
  assert.ok(second!.ageSeconds >= 0.1 && second!.ageSeconds < 5);
  assert.ok(first!.ageSeconds > second!.ageSeconds);
});

/** Turns the event loop until the condition holds; the threads go on meanwhile. */
async function until(condition: () => boolean): Promise<void> {
  for (const limit = nowSeconds() + 30; !condition(); ) {
    assert.ok(nowSeconds() < limit, 'the threads did not get there within 30 s');
    await delay(1);
  }
}
