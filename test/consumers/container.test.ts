/**
 * The image without an engine: the steps of the Dockerfile, one after the other, in roots made of Debian's packages; and the root that comes of
 * them as a container: read-only, without network or privilege, under tini. Needs root, `unshare`, `debootstrap` and the registries.
 * DTRAIN_CONTAINER_TARGET=gpu builds that target instead (3.4 GB of downloads, 20 GB of disk); it is then tried on the CPU.
 */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { after, test } from 'node:test';
import { parse } from 'yaml';
import { CLUSTER_FOLDER, podOf } from '../support/cluster-pods.js';
import { Container, type ContainerOptions } from '../support/container.js';
import { parseDockerfile, settingsOf } from '../support/dockerfile.js';
import { bytesBelow, copyContext, ImageBuild } from '../support/image-build.js';
import { networkHosts } from '../support/network-namespaces.js';
import { lastCheckpointFile, SMALL_RUN, temporaryFolder } from '../support/train-run.js';
import { root as repository } from './python.js';

const TARGET = process.env['DTRAIN_CONTAINER_TARGET'] ?? 'cpu';
const MOST_BYTES = TARGET === 'cpu' ? 1.3e9 : 8e9;
/** In files that lie about in a checkout. */
const SECRET = 'canary-5f1c02b7';
const SMALL = [
  '--config',
  'quickstart',
  '--cpus',
  '1',
  'data.name=synthetic',
  'evaluation.everyEpochs=0',
  '--run-dir',
  'runs/a',
];

const can = (command: string, ...words: string[]) => spawnSync(command, words, { stdio: 'ignore' }).status === 0;
const lacks =
  process.getuid?.() !== 0
    ? 'root'
    : !can('unshare', '--mount', '--pid', '--fork', 'true')
      ? 'unshare with a mount and a pid namespace'
      : !can('debootstrap', '--version')
        ? 'debootstrap'
        : undefined;
const needs = { timeout: 1_800_000, skip: lacks === undefined ? false : `needs ${lacks}` };

const network = lacks === undefined ? networkHosts(['dtrain-0.dtrain', 'dtrain-1.dtrain']) : undefined;
const podNeeds = { ...needs, skip: needs.skip || (network ? false : 'needs ip netns') };

const settings = settingsOf(parseDockerfile(fs.readFileSync(path.join(repository, 'Dockerfile'), 'utf8')), TARGET);
const scratch = lacks === undefined ? temporaryFolder() : '';
let root: string;
const containers: Container[] = [];
after(() => {
  for (const container of containers) container.end();
});

/** Starts a container; its runs are in `runs`. */
function start(words: readonly string[], runs: string, more: Partial<ContainerOptions> = {}): Container {
  fs.chownSync(runs, 10_001, 10_001);
  const container = new Container({ root, settings, runs, ...more }, words);
  containers.push(container);
  return container;
}

test('the steps of the Dockerfile make the image, and it is small', needs, () => {
  const [checkout, context] = [path.join(scratch, 'checkout'), path.join(scratch, 'context')];
  const words = ['ls-files', '--cached', '--others', '--exclude-standard'];
  const files = execFileSync('git', words, { cwd: repository, encoding: 'utf8' }).trim().split('\n');
  const secrets = ['.env', '.npmrc', 'runs/a/config.yaml', 'data/list.txt', 'scripts/token'];
  for (const file of [...files, ...secrets]) fs.mkdirSync(path.dirname(path.join(checkout, file)), { recursive: true });
  for (const file of files) fs.copyFileSync(path.join(repository, file), path.join(checkout, file));
  for (const file of secrets) fs.writeFileSync(path.join(checkout, file), `token=${SECRET}\n`);
  copyContext(checkout, context);
  const stages = parseDockerfile(fs.readFileSync(path.join(repository, 'Dockerfile'), 'utf8'));
  const build = new ImageBuild(stages, context, path.join(scratch, 'roots'), (line) => console.log(`# ${line}`));
  root = build.root(TARGET);

  const parts = ['opt/tensorflow', 'usr/local/bin/node', 'app/node_modules', 'app/dist'].map((part) => {
    const file = path.join(root, part);
    return [`/${part}`, fs.statSync(file).isFile() ? fs.statSync(file).size : bytesBelow(file)] as const;
  });
  const all = bytesBelow(root);
  const rest = all - parts.reduce((sum, [, bytes]) => sum + bytes, 0);
  for (const [part, bytes] of [...parts, ['Debian and the rest', rest], ['all', all]] as const)
    console.log(`# ${(bytes / 1e6).toFixed(0).padStart(6)} MB  ${part}`);
  assert(all < MOST_BYTES, `${all} bytes`);
});

test('nothing in it that only a build needs, and no secret of the checkout', needs, () => {
  for (const name of ['python3', 'pip', 'npm', 'npx', 'gcc', 'curl', 'wget', 'git'])
    for (const folder of ['usr/bin', 'usr/local/bin']) assert(!fs.existsSync(path.join(root, folder, name)), name);
  for (const folder of ['tmp', 'root', 'var/lib/apt/lists', 'var/cache/apt/archives']) {
    const files = fs.readdirSync(path.join(root, folder), { recursive: true, encoding: 'utf8' });
    const left = files.filter((file) => !/^(partial|lock|\.bashrc|\.profile)$/.test(file));
    assert.deepEqual(left, [], folder);
  }
  for (const stage of ['build', TARGET]) {
    const folders = ['app', 'root', 'tmp', 'etc', 'workspace'].map((name) => path.join(scratch, 'roots', stage, name));
    const words = [
      '--recursive',
      '--files-with-matches',
      '--fixed-strings',
      SECRET,
      ...folders.filter((one) => fs.existsSync(one)),
    ];
    const { status, stdout } = spawnSync('grep', words, { encoding: 'utf8' });
    assert.deepEqual([status, stdout], [1, ''], stage);
  }
  for (const file of fs.readdirSync(path.join(root, 'app'), { recursive: true, encoding: 'utf8' })) {
    const { uid, mode } = fs.lstatSync(path.join(root, 'app', file));
    assert.equal(uid, 0, file);
    if ((mode & 0o170000) === 0o100000) assert.equal(mode & 0o022, 0, `${file} can be written by others`);
  }
});

test('as its user, on a root that cannot be written and without a network, it trains two steps', needs, async () => {
  const runs = temporaryFolder();
  const sleeper = start([], runs, { settings: { ...settings, entrypoint: ['tini', '--', 'sleep', '600'] } });
  await sleeper.begun();
  assert.deepEqual(sleeper.run(['id', '-u']), { status: 0, output: '10001\n' });
  const told = sleeper.run([
    'sh',
    '-c',
    'touch /app/x /opt/x /etc/x; grep -E "NoNewPrivs|CapEff|CapBnd" /proc/1/status',
  ]);
  assert.equal(told.output.match(/Read-only file system/g)?.length, 3, told.output);
  assert.match(told.output, /CapEff:\t0+\nCapBnd:\t0+\nNoNewPrivs:\t1\n/);
  const none = sleeper.run(settings.healthCheck);
  assert.deepEqual(none, { status: 1, output: 'no heartbeat: /tmp/dtrain-heartbeat is not there\n' });
  sleeper.signal('SIGTERM');
  assert.equal((await sleeper.ended).exitCode, 143);

  const { exitCode, output } = await start(['train', ...SMALL, 'train.maxSteps=2'], runs).ended;
  assert.equal(exitCode, 0, output);
  const last = path.join(runs, 'a/checkpoints/step-2');
  assert.equal(fs.statSync(path.join(last, 'weights.safetensors')).uid, 10_001);
  const doctor = await start(['doctor'], runs).ended;
  assert.equal(doctor.exitCode, 0, doctor.output);
});

test('its health check, and SIGTERM by tini: a checkpoint and 75; then it goes on', needs, async () => {
  const runs = temporaryFolder();
  const words = ['train', ...SMALL, 'checkpoint.everySteps=2'];
  const training = start([...words, 'train.maxSteps=5000', '--json'], runs);
  await training.tells('"event":"checkpoint"');
  assert.match(training.commandLine, /^tini -- node \/app\/dist\/src\/cli\/main\.js train /);
  assert.deepEqual(training.run(settings.healthCheck), { status: 0, output: '' });

  // A machine that stands still: no process of the container moves, and time goes on.
  training.run(['sh', '-c', 'kill -STOP -1']);
  training.run(['touch', '-d', '100 seconds ago', '/tmp/dtrain-heartbeat']);
  const stale = training.run(settings.healthCheck);
  assert.equal(stale.status, 1);
  assert.match(stale.output, /^the last heartbeat is 10\d s old, expected at most 60 s\n$/);
  training.run(['sh', '-c', 'kill -CONT -1']);

  training.signal(settings.stopSignal as NodeJS.Signals);
  const stopped = await training.ended;
  assert.equal(stopped.exitCode, 75, stopped.output);
  const step = Number(/stopped on request after step (\d+)/.exec(stopped.output)?.[1]);
  assert(fs.existsSync(path.join(runs, `a/checkpoints/step-${step}/weights.safetensors`)), stopped.output);

  const resumed = await start([...words, '--resume', `train.maxSteps=${step + 2}`], runs).ended;
  assert.equal(resumed.exitCode, 0, resumed.output);
  assert(fs.existsSync(path.join(runs, `a/checkpoints/step-${step + 2}`)), resumed.output);
});

/** What makes a job of configs/cluster small. */
const TINY = [
  '--cpus',
  '1',
  'model.name=resnet20',
  ...SMALL_RUN,
  'train.logicalShards=2',
  'train.threadsPerWorker=1',
  'train.maxSteps=3',
];

test('the pods of configs/cluster in two containers train as one, bit for bit', podNeeds, async () => {
  const pod = podOf('kubernetes-job.yaml');
  const runs = temporaryFolder();
  const pods = network!.map(({ namespace }, index) =>
    start([...pod.args, ...TINY], runs, { env: pod.envOf(index), network: namespace }),
  );
  await pods[1]!.tells('all 2 hosts are here');
  const health = pods[1]!.run(pod.healthCheck);
  for (const { exitCode, output } of await Promise.all(pods.map(({ ended }) => ended)))
    assert.equal(exitCode, 0, output);
  assert.deepEqual(health, { status: 0, output: '' });

  // The service of compose.yaml has the same command, but for the hosts.
  const { services } = parse(fs.readFileSync(path.join(CLUSTER_FOLDER, 'compose.yaml'), 'utf8')) as {
    services: { dtrain: { command: string[] } };
  };
  const alone = temporaryFolder();
  const { exitCode, output } = await start([...services.dtrain.command, ...TINY], alone).ended;
  assert.equal(exitCode, 0, output);
  for (const file of ['weights.safetensors', 'optimizer.safetensors']) {
    const [several, one] = [runs, alone].map((folder) => lastCheckpointFile(path.join(folder, 'main'), file));
    assert(several!.equals(one!), file);
  }
});
