/** One rank in a thread of its own, acting out a script; the thread behind collective-ranks.test.ts. */
import { parentPort, workerData } from 'node:worker_threads';
import type { ArenaSpec } from '../../src/collective/gradient-arena.js';
import { isPoisoned, readProgress } from '../../src/collective/progress.js';
import { RankGroup } from '../../src/collective/rank-group.js';
import { nowSeconds } from '../../src/core/clock.js';
import { DtrainError } from '../../src/core/errors.js';
import { drawWords, Purpose } from '../../src/core/philox.js';

export type RankScript =
  /** Writes rows, reduces, checks every element; with `delay` each rank spins a random while before it comes. */
  | { readonly act: 'sum'; readonly rounds: number; readonly delay?: boolean }
  /** Comes to one all-reduce that not all others reach: with `together` at the same time as so many, with `onceFailed` after the poison. */
  | { readonly act: 'wait'; readonly step: number; readonly together?: number; readonly onceFailed?: boolean }
  /** Poisons the group once `afterWaiting` others are in the all-reduce. */
  | { readonly act: 'fail'; readonly step: number; readonly afterWaiting: number }
  /** In every third round one rank's row has an infinite value: all ranks must see it, in that round alone. */
  | { readonly act: 'finite'; readonly rounds: number }
  /** Reduces until it sees the request to stop. */
  | { readonly act: 'untilStop'; readonly rounds: number };

export interface RankReport {
  readonly rounds: number;
  readonly wrong: number;
  readonly lastArrivals: number;
  readonly waitedSeconds?: number;
  readonly error?: { code: string; exitCode: number; message: string; rank?: number; step?: number; phase?: string };
}

interface RankThreadData {
  readonly spec: ArenaSpec;
  readonly rank: number;
  readonly timeoutSeconds: number;
  readonly script: RankScript;
}

const { spec, rank, timeoutSeconds, script } = workerData as RankThreadData;
const group = new RankGroup(spec, rank, timeoutSeconds);
parentPort!.postMessage(play(script));

function play(part: RankScript): RankReport {
  switch (part.act) {
    case 'sum':
      return sumAndCheck(part.rounds, part.delay === true);
    case 'wait':
      return waitInVain(part.step, part.together ?? 1, part.onceFailed === true);
    case 'fail':
      spinUntil(() => ranksInReduce() >= part.afterWaiting);
      group.enter(part.step, 'compute');
      group.poison();
      return { rounds: 0, wrong: 0, lastArrivals: 0 };
    case 'finite':
      return seeWhatIsNotFinite(part.rounds);
    case 'untilStop':
      return reduceUntilStop(part.rounds);
  }
  return part satisfies never;
}

/** Shard s holds s + round + i, small integers: the sum is exact, and so is its product with the float nearest to 1/shards. */
function sumAndCheck(rounds: number, delay: boolean): RankReport {
  const { shards } = spec;
  const perRank = shards / spec.world;
  const factor = Math.fround(1 / shards);
  let wrong = 0;
  let lastArrivals = 0;
  for (let round = 0; round < rounds; round++) {
    for (let shard = rank * perRank; shard < (rank + 1) * perRank; shard++) {
      const row = group.row(shard);
      for (let i = 0; i < row.length; i++) row[i] = shard + round + i;
    }
    if (delay) spin(drawWords(rank, Purpose.shuffle, 0, round)[0] % 60_000);
    group.allReduceMean();
    if (group.arrivedLast) lastArrivals++;
    const { result } = group;
    for (let i = 0; i < result.length; i++) {
      const sum = (shards * (shards - 1)) / 2 + shards * (round + i);
      if (result[i] !== Math.fround(sum * factor)) wrong++;
    }
  }
  return { rounds, wrong, lastArrivals };
}

function seeWhatIsNotFinite(rounds: number): RankReport {
  let wrong = 0;
  for (let round = 0; round < rounds; round++) {
    const isBad = round % 3 === 1;
    const row = group.row(rank);
    row.fill(1);
    if (isBad && round % spec.world === rank) row[round % row.length] = Number.POSITIVE_INFINITY;
    group.allReduceMean();
    if (group.resultIsFinite === isBad) wrong++;
  }
  return { rounds, wrong, lastArrivals: 0 };
}

function waitInVain(step: number, together: number, onceFailed: boolean): RankReport {
  if (onceFailed) spinUntil(() => isPoisoned(spec));
  group.enter(step, 'reduce');
  spinUntil(() => ranksInReduce() >= together);
  const start = nowSeconds();
  try {
    group.allReduceMean();
    return { rounds: 1, wrong: 0, lastArrivals: 0 };
  } catch (thrown) {
    if (!(thrown instanceof DtrainError)) throw thrown;
    const { code, exitCode, message } = thrown;
    const place = { rank: thrown.rank!, step: thrown.step!, phase: thrown.phase! };
    return {
      rounds: 0,
      wrong: 0,
      lastArrivals: 0,
      waitedSeconds: nowSeconds() - start,
      error: { code, exitCode, message, ...place },
    };
  }
}

function reduceUntilStop(limit: number): RankReport {
  for (let round = 1; round <= limit; round++) {
    group.enter(round, 'reduce');
    group.allReduceMean();
    if (group.stopRequested) return { rounds: round, wrong: 0, lastArrivals: 0 };
  }
  return { rounds: limit, wrong: 0, lastArrivals: 0 };
}

function ranksInReduce(): number {
  return readProgress(spec).filter(({ phase }) => phase === 'reduce').length;
}

function spinUntil(condition: () => boolean): void {
  const limit = nowSeconds() + 30;
  while (!condition()) if (nowSeconds() > limit) throw new Error('the other ranks did not get there within 30 s');
}

function spin(turns: number): void {
  const word = new Int32Array(1);
  for (let i = 0; i < turns; i++) word[0] = word[0]! + i;
}
