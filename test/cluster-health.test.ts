/** The watch over other hosts and the comparison at the start, with hosts that a test makes up. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type AskHost, HealthWatch, silentHosts } from '../src/cluster/health.js';
import { isFailure, lastWords, lastWordsIn } from '../src/cluster/last-words.js';
import { compareHosts, failureOf, type HostFacts, hostFailed } from '../src/cluster/rendezvous.js';
import { hostMissing, stillWaiting } from '../src/cluster/waiting.js';
import { DtrainError } from '../src/core/errors.js';
import { errorOf } from './support/test-runtime.js';

const ADDRESSES = ['a:1', 'b:1', 'c:1'];
const FAST = { everySeconds: 0.005, meetingSeconds: 0.005, answerSeconds: 0.5, tries: 3, retrySeconds: 0.005 };

/** Host 1 answers these codes in turn, the last one for ever; host 2 is well. */
function answers(...codes: readonly number[]): { ask: AskHost; asked: number[] } {
  const asked: number[] = [];
  const ask: AskHost = async (rank) => {
    asked.push(rank);
    const turn = asked.filter((host) => host === 1).length - 1;
    return { code: rank === 1 ? codes[Math.min(turn, codes.length - 1)]! : 0, message: '' };
  };
  return { ask, asked };
}

async function alarmOf(ask: AskHost): Promise<DtrainError> {
  const alive = setInterval(() => undefined, 1000); // the watch alone keeps no process alive
  using watch = new HealthWatch(ask, ADDRESSES, 0, FAST);
  return await watch.alarm.then(
    () => assert.fail('an alarm only rejects'),
    (error: unknown) => {
      clearInterval(alive);
      assert(error instanceof DtrainError);
      return error;
    },
  );
}

const CURE =
  'Look at the output of that host, then start all hosts again; with --resume they go on from the last checkpoint.';
for (const [name, code, reason, tries] of [
  ['silent', 4, 'no answer in 1.5 s', 3],
  ['dead', 14, 'nobody answers there', 3],
  ['restarted', 9, 'another process answers there', 1],
] as const) {
  test(`a ${name} host is lost`, async () => {
    const { ask, asked } = answers(0, 0, code);
    const error = await alarmOf(ask);
    assert.deepEqual([error.code, error.exitCode], ['DTRAIN_HOST_LOST', 12]);
    assert.equal(error.message, `cluster: lost host 1 (b:1): ${reason}. ${CURE}`);
    assert.equal(asked.filter((host) => host === 1).length, 2 + tries);
    assert.ok(!asked.includes(0), 'this host does not ask itself');
  });
}

test('a host that is slow to answer now and then is not lost', async () => {
  const { ask, asked } = answers(4, 4, 0, 14, 14, 0, 4, 0, 0, 0, 0, 0, 9);
  const error = await alarmOf(ask); // the end of the script, not the stumbles before it
  assert.match(error.message, /another process/);
  assert.equal(asked.filter((host) => host === 1).length, 13);
});

test('a host that never answered is late until all have come, then lost', async () => {
  const { ask, asked } = answers(14);
  using watch = new HealthWatch(ask, ADDRESSES, 0, FAST);
  const first = await Promise.race([watch.alarm, new Promise((resolve) => setTimeout(resolve, 60, 'quiet'))]);
  assert.equal(first, 'quiet');
  assert(asked.filter((host) => host === 1).length > 1);
  watch.allCame();
  const alive = setInterval(() => undefined, 1000);
  await assert.rejects(watch.alarm, /lost host 1 \(b:1\): nobody answers there/);
  clearInterval(alive);
});

test('a watch that is disposed raises no alarm', async () => {
  const { ask, asked } = answers(14);
  const watch = new HealthWatch(ask, ADDRESSES, 0, FAST);
  watch[Symbol.dispose]();
  const first = await Promise.race([watch.alarm, new Promise((resolve) => setTimeout(resolve, 60, 'quiet'))]);
  assert.equal(first, 'quiet');
  assert.deepEqual(asked, []);
});

test('who is silent, for messages', async () => {
  const ask =
    (dead: readonly number[]): AskHost =>
    async (rank) => ({ code: dead.includes(rank) ? 14 : 0, message: '' });
  assert.equal(await silentHosts(ask([]), ADDRESSES, 1), undefined);
  assert.equal(await silentHosts(ask([1]), ADDRESSES, 1), undefined, 'this host');
  assert.equal(await silentHosts(ask([0, 2]), ADDRESSES, 1), 'host 0 (a:1), host 2 (c:1)');
});

test('who waits says for whom, how long it has, and how long it will', () => {
  const wait = { seconds: 20.04, mostSeconds: 600 };
  assert.equal(stillWaiting('host 1 (b:1)', wait), 'cluster: still waiting for host 1 (b:1), 20 s of at most 600 s');
  assert.equal(
    stillWaiting(undefined, wait),
    'cluster: still waiting, 20 s of at most 600 s: all hosts are up, but not all are ready; one may be reading its data',
  );
});

test('a wait that is over: who did not come, and the cure', () => {
  const cure =
    'Look at the output there, and whether the port can be reached from here; then start all hosts again. ' +
    'Where a host needs longer to start, set cluster.waitSeconds.';
  const cause = new Error('timed out');
  const error = hostMissing('host 1 (b:1), host 2 (c:1)', 600, cause);
  assert.deepEqual([error.code, error.exitCode, error.cause], ['DTRAIN_HOST_MISSING', 12, cause]);
  assert.equal(error.message, `cluster: host 1 (b:1), host 2 (c:1) did not come within 600 s. ${cure}`);
  assert.equal(
    hostMissing(undefined, 5, cause).message,
    `cluster: all hosts are up, but not all were ready within 5 s. ${cure}`,
  );
});

test('a host that ends says why, and the others read it', () => {
  const spec = { addresses: ADDRESSES, rank: 1 };
  const hang = new DtrainError('DTRAIN_HANG', 11, 'rank 0, step 5, compute: no progress for 60 s. Do this.\nAnd more.');
  const reason = lastWords(spec, hang);
  assert.equal(reason, 'host 1 (b:1): rank 0, step 5, compute: no progress for 60 s. Do this.');
  const passedOn = `TFE_Execute CollectiveReduceV2 on /device:CPU:0: UNAVAILABLE: Collective ops is aborted by: Collective ops is aborted by: ${reason}\nmore`;
  assert.equal(lastWordsIn(passedOn), reason);
  assert.equal(lastWordsIn('Collective ops is aborted by: failed to connect to all addresses'), undefined);
  assert.equal(lastWords(spec, new Error('x'.repeat(2000))).length, 300);
  assert.equal(isFailure(reason), false, 'its supervisor starts it again');
  const full = lastWords(spec, new DtrainError('DTRAIN_DISK_FULL', 7, 'RUN: full.'));
  assert.deepEqual([full, isFailure(full)], ['host 1 (b:1) ended with exit code 7: RUN: full.', true]);
});

test('a host that cannot take part tells why, where that will not pass by itself', () => {
  const failure = failureOf(new DtrainError('DTRAIN_DATA_MISSING', 5, 'data.path: no.\nSearched: there.'));
  assert.deepEqual(failure, { exitCode: 5, message: 'data.path: no.\nSearched: there.' });
  assert.deepEqual(failureOf(new Error('a mistake')), { exitCode: 1, message: 'a mistake' });
  for (const exitCode of [10, 11, 12, 13, 75] as const)
    assert.equal(failureOf(new DtrainError('X', exitCode, 'x')), undefined, `${exitCode}`);
  const error = hostFailed(1, 'b:1', failure!);
  assert.deepEqual([error.code, error.exitCode], ['DTRAIN_HOST_FAILED', 12]);
  assert.equal(
    error.message,
    'cluster: host 1 (b:1) cannot take part and ended with exit code 5:\n  data.path: no.\n  Searched: there.\nMend that there, then start all hosts again.',
  );
});

test('who ends because it lost another host names that one', () => {
  const text = `step 7: lost host 2 (c:1): no answer in 15 s. ${CURE} Last good checkpoint: step 3.`;
  const lost = new DtrainError('DTRAIN_HOST_LOST', 12, text);
  assert.equal(lastWords({ addresses: ADDRESSES, rank: 1 }, lost), 'host 2 (c:1): no answer in 15 s.');
});

const FACTS: HostFacts = {
  version: '1.0.0',
  data: '0123456789abcdef',
  workers: 2,
  shards: 4,
  threadsPerWorker: 1,
  devices: 'cpu',
  config: { 'train.seed': '0', 'schedule.milestones': '[82,123]' },
};

test('hosts that are alike pass', () => {
  compareHosts([FACTS, structuredClone(FACTS), FACTS], ADDRESSES);
});

test('differences are named, all at once, against host 0', () => {
  const other: HostFacts = {
    version: '1.1.0',
    data: 'fedcba9876543210',
    workers: 4,
    shards: 8,
    threadsPerWorker: null,
    devices: 'gpu',
    config: { ...FACTS.config, 'train.seed': '7' },
  };
  const error = errorOf(() => compareHosts([FACTS, FACTS, other], ADDRESSES));
  assert.deepEqual([error.code, error.exitCode], ['DTRAIN_HOSTS_DIFFER', 4]);
  assert.equal(
    error.message,
    [
      'cluster: expected the same on all hosts as on host 0, got:',
      '  host 2 (c:1): version 1.1.0, not 1.0.0',
      '  host 2 (c:1): devices gpu, not cpu',
      '  host 2 (c:1): workers 4, not 2',
      '  host 2 (c:1): logical shards 8, not 4',
      '  host 2 (c:1): threads a worker null, not 1',
      '  host 2 (c:1): data fedcba987654, not 0123456789ab',
      '  host 2 (c:1): train.seed 7, not 0',
      'Give all hosts the same dtrain, the same configuration and the same data; on unlike machines set the workers, train.logicalShards and train.threadsPerWorker. Then start all of them again.',
    ].join('\n'),
  );
});

test('a key that only one host knows is a difference, and many are cut short', () => {
  const config = Object.fromEntries(Array.from({ length: 11 }, (_, i) => [`new.key${i}`, '1']));
  const { message } = errorOf(() =>
    compareHosts([FACTS, { ...FACTS, config: { ...FACTS.config, ...config } }], ADDRESSES),
  );
  assert.match(message, /host 1 \(b:1\): new\.key0 1, not unknown\n/);
  assert.match(message, /\n {2}and 3 more\n/);
  assert.ok(message.split('\n').length <= 24);
});
