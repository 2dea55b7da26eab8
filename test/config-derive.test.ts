import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  derive,
  deriveBatch,
  deriveSteps,
  epochOfStep,
  fittingWorkers,
  lastStepOfEpoch,
} from '../src/config/derive.js';
import { loadConfig } from '../src/config/load.js';
import { DtrainError } from '../src/core/errors.js';

const configOf = (...overrides: string[]) => loadConfig({ overrides });

function refusal(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    assert.ok(error instanceof DtrainError);
    assert.deepEqual([error.code, error.exitCode], ['DTRAIN_BATCH_NOT_DIVISIBLE', 3]);
    return error.message;
  }
  return assert.fail('nothing was thrown');
}

test('numbers of a run: CIFAR-10, batch 128, four workers on eight cores', () => {
  assert.deepEqual(derive(configOf(), { workers: 4, cores: 8, trainImages: 50_000 }), {
    world: 4,
    shards: 4,
    shardsPerRank: 1,
    shardBatch: 32,
    localBatch: 32,
    threadsPerWorker: 2,
    stepsPerEpoch: 391,
    totalSteps: 64_063, // 164 x 50,000 / 128 = 64,062.5
  });
});

test('threads follow the shards and not the workers', () => {
  const config = configOf('train.logicalShards=8');
  for (const workers of [1, 2, 4, 8]) {
    const { threadsPerWorker, shardsPerRank, shardBatch } = deriveBatch(config, { workers, cores: 20 });
    assert.deepEqual([threadsPerWorker, shardsPerRank, shardBatch], [2, 8 / workers, 16]);
  }
  assert.equal(
    deriveBatch(config, { workers: 2, cores: 4 }).threadsPerWorker,
    1,
    'never 0, which is all cores to TensorFlow',
  );
  assert.equal(deriveBatch(configOf('train.threadsPerWorker=3'), { workers: 2, cores: 2 }).threadsPerWorker, 3);
});

test('a run ends at train.epochs or train.maxSteps, whichever comes first', () => {
  assert.equal(deriveSteps(configOf('train.epochs=2'), 50_000).totalSteps, 782);
  assert.equal(deriveSteps(configOf('train.epochs=2', 'train.maxSteps=500'), 50_000).totalSteps, 500);
  assert.equal(deriveSteps(configOf('train.epochs=2', 'train.maxSteps=5000'), 50_000).totalSteps, 782);
});

test('an epoch ends at the first step that completes it', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 100_000 }),
      fc.integer({ min: 1, max: 1_048_576 }),
      fc.integer({ min: 1, max: 10_000_000 }),
      (epoch, batch, images) => {
        const step = lastStepOfEpoch(epoch, batch, images);
        assert.ok(BigInt(step) * BigInt(batch) >= BigInt(epoch) * BigInt(images));
        assert.ok(BigInt(step - 1) * BigInt(batch) < BigInt(epoch) * BigInt(images));
      },
    ),
  );
  assert.equal(epochOfStep(391, 128, 50_000), 1.00096);
});

test('what divides is accepted, what does not is refused, and the workers that fit are found', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 64 }),
      fc.integer({ min: 1, max: 512 }),
      fc.option(fc.integer({ min: 1, max: 32 })),
      (workers, batch, shards) => {
        const config = configOf(`train.globalBatch=${batch}`, `train.logicalShards=${shards}`);
        const divides = (shards ?? workers) % workers === 0 && batch % (shards ?? workers) === 0;
        const run = () => deriveBatch(config, { workers, cores: 2 });
        if (divides) {
          const plan = run();
          assert.equal(plan.world * plan.localBatch, batch);
          assert.equal(plan.shards * plan.shardBatch, batch);
          assert.equal(plan.shardsPerRank * plan.world, plan.shards);
          assert.equal(fittingWorkers(config, workers), workers);
        } else {
          refusal(run);
        }
        const fitting = fittingWorkers(config, workers);
        assert.ok(fitting >= 1 && fitting <= workers && (shards ?? batch) % fitting === 0);
      },
    ),
  );
});

for (const { overrides, workers, device, message } of [
  {
    overrides: ['train.globalBatch=250'],
    workers: 4,
    device: 'gpu',
    message: 'override train.globalBatch=250: expected a multiple of 4 ranks, got 250. Use 248 or 252, or --gpus 5.',
  },
  {
    overrides: [],
    workers: 3,
    device: 'cpu',
    message: 'train.globalBatch: expected a multiple of 3 ranks, got 128. Use 126 or 129, or --cpus 2.',
  },
  {
    overrides: ['train.globalBatch=3'],
    workers: 4,
    device: undefined,
    message: 'override train.globalBatch=3: expected a multiple of 4 ranks, got 3. Use 4, or 3 workers.',
  },
  {
    overrides: ['train.globalBatch=1'],
    workers: 2,
    device: undefined,
    message: 'override train.globalBatch=1: expected a multiple of 2 ranks, got 1. Use 2, or 1 worker.',
  },
  {
    overrides: ['train.logicalShards=8', 'train.globalBatch=130'],
    workers: 3,
    device: 'cpu',
    message:
      'override train.logicalShards=8: expected a multiple of 3 ranks, got 8. Use 6 or 9, or --cpus 2.\n' +
      'override train.globalBatch=130: expected a multiple of 8 logical shards (train.logicalShards), got 130. Use 128 or 136.',
  },
] as const) {
  test(`does not divide: ${message}`, () => {
    const machine = { workers, cores: 2, ...(device === undefined ? {} : { device }) };
    assert.equal(
      refusal(() => deriveBatch(configOf(...overrides), machine)),
      message,
    );
  });
}

test('allReduce.kind=tensorflow: whole subtrees a worker, on any number of hosts; what fits is found', () => {
  const tensorflow = 'allReduce.kind=tensorflow';
  const plan = (workers: number, ...overrides: string[]) =>
    deriveBatch(configOf(tensorflow, 'train.globalBatch=96', ...overrides), { workers, cores: 4 });
  assert.equal(plan(3).shardsPerRank, 1);
  assert.equal(plan(3, 'train.logicalShards=12').shardsPerRank, 4);
  assert.equal(plan(1, 'train.logicalShards=3').shardsPerRank, 3, 'one worker has the whole tree');
  assert.equal(plan(2, 'train.logicalShards=6', 'allReduce.exact=false').shardsPerRank, 3);
  assert.equal(
    refusal(() => plan(2, 'train.accumulate=3')),
    'train.logicalShards: expected 1, 2, 4, 8, ... a worker, so that sums are those of allReduce.kind=shared-memory, got 3. Use 4 or 8, or allReduce.exact=false.',
  );
  const several = deriveBatch(configOf(tensorflow, 'train.globalBatch=96'), { workers: 6, cores: 4, hosts: 2 });
  assert.equal(several.shardsPerRank, 1, 'three workers on each of two hosts, where shared memory would refuse');
  const fitting = (...overrides: string[]) => fittingWorkers(configOf(tensorflow, ...overrides), 4);
  assert.equal(fitting('train.globalBatch=12', 'train.logicalShards=12'), 3);
  assert.equal(fitting('train.globalBatch=12', 'train.logicalShards=12', 'allReduce.exact=false'), 4);
  assert.equal(fitting('train.globalBatch=128'), 4);
});
