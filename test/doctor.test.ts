/** `dtrain doctor`: the line of every case, and the whole command on this machine. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { checkText, doctor, summaryText } from '../src/cli/doctor.js';
import {
  type Check,
  cacheCheck,
  coresCheck,
  cudaChecks,
  dataCheck,
  devicesCheck,
  glibcCheck,
  type LibraryFacts,
  libraryCheck,
  memoryCheck,
  nodeCheck,
  npmCheck,
  platformCheck,
  runsCheck,
  sharedCheck,
  type TrialFacts,
  trialCheck,
} from '../src/cli/doctor-checks.js';
import { coresQuota, driverVersion, glibcVersion, sharedFacts } from '../src/cli/doctor-facts.js';
import type { ProbeReport } from '../src/cli/doctor-probe.js';

const root = fs.mkdtempSync(path.join(os.tmpdir(), 'dtrain-doctor-'));
after(() => fs.rmSync(root, { recursive: true }));

/** `status found | cure` */
function text({ status, found, cure }: Check): string {
  return cure === null ? `${status} ${found}` : `${status} ${found} | ${cure}`;
}

const cpu = { name: '/device:CPU:0', kind: 'cpu', memoryBytes: 2 ** 28 } as const;
const gpu = { name: '/device:GPU:0', kind: 'gpu', memoryBytes: 22e9 } as const;
const probe: ProbeReport = {
  version: '2.21.0',
  devices: [cpu],
  faulty: [],
  cuda: [],
  flopsPerSecond: 1e11,
  trouble: null,
  newCards: [],
};
const library = { path: '/c/tensorflow/libtensorflow_cc.so.2', variant: 'cpu', source: '/c' } as const;
const sha256 = '0123456789abcdef0123456789abcdef';
const facts: LibraryFacts = { library, sha256, isInstalled: true, changed: [], bundle: null, probe, hasDriver: false };

test('node, npm, platform, glibc', () => {
  assert.equal(text(nodeCheck('20.19.0')), 'ok 20.19.0');
  assert.equal(text(nodeCheck('24.1.0')), 'ok 24.1.0');
  assert.equal(text(nodeCheck('20.18.3')), 'fail 20.18.3 | Expected 20.19 or later: install a current Node.');
  assert.equal(text(nodeCheck('18.20.0')), 'fail 18.20.0 | Expected 20.19 or later: install a current Node.');
  assert.equal(text(npmCheck('11.2.0')), 'ok 11.2.0');
  assert.equal(
    text(npmCheck(null)),
    'warn not found | dtrain runs without it; to install or update packages, install npm.',
  );
  const container = 'run dtrain in a container such as node:22-bookworm-slim.';
  assert.deepEqual(['2.27', '2.36', '3.0'].map(glibcCheck).map(text), ['ok 2.27', 'ok 2.36', 'ok 3.0']);
  assert.equal(text(glibcCheck('2.26')), `fail 2.26 | Expected 2.27 or later, which TensorFlow needs: ${container}`);
  assert.equal(
    text(glibcCheck(null)),
    `fail another C library (musl?) | Expected 2.27 or later, which TensorFlow needs: ${container}`,
  );
  assert.equal(text(platformCheck('linux', 'x64')), 'ok linux x64');
  assert.equal(
    text(platformCheck('darwin', 'arm64')),
    'fail darwin arm64 | Expected linux x64: run dtrain in a Linux container.',
  );
});

test('library', () => {
  const works = 'TensorFlow 2.21.0 (cpu), /c/tensorflow/libtensorflow_cc.so.2, sha256 0123456789ab…';
  assert.equal(text(libraryCheck(facts)), `ok ${works}, as dtrain setup installed it`);
  assert.equal(
    text(libraryCheck({ ...facts, isInstalled: false, library: { ...library, source: 'DTRAIN_TENSORFLOW_LIB' } })),
    `ok ${works}, found by DTRAIN_TENSORFLOW_LIB`,
  );
  assert.equal(
    text(libraryCheck({ ...facts, hasDriver: true })),
    `warn ${works}, as dtrain setup installed it; but there is an NVIDIA driver | To train on GPUs: dtrain setup --gpu`,
  );
  assert.equal(
    text(libraryCheck({ ...facts, library: 'TensorFlow: none. Install it: dtrain setup' })),
    'fail not found | TensorFlow: none. Install it: dtrain setup',
  );
  assert.equal(
    text(libraryCheck({ ...facts, changed: ['tensorflow/libtensorflow_cc.so.2'], probe: 'not tried' })),
    'fail TensorFlow (cpu), /c/tensorflow/libtensorflow_cc.so.2: tensorflow/libtensorflow_cc.so.2 changed since it was installed | Delete /c and run dtrain setup.',
  );
  assert.equal(
    text(libraryCheck({ ...facts, probe: 'ended by SIGILL' })),
    'fail TensorFlow (cpu), /c/tensorflow/libtensorflow_cc.so.2: ended by SIGILL | Run dtrain setup, or set DTRAIN_TENSORFLOW_LIB to another.',
  );
  const bundled: LibraryFacts = { ...facts, bundle: '3f2a91c0' };
  assert.equal(
    text(libraryCheck(bundled)),
    'ok TensorFlow 2.21.0 (cpu, from bundle 3f2a91c0), /c/tensorflow/libtensorflow_cc.so.2, sha256 0123456789ab…, as dtrain setup installed it',
  );
  assert.equal(
    text(libraryCheck({ ...bundled, changed: ['tensorflow/libtensorflow_cc.so.2'], probe: 'not tried' })),
    'fail TensorFlow (cpu, from bundle 3f2a91c0), /c/tensorflow/libtensorflow_cc.so.2: tensorflow/libtensorflow_cc.so.2 changed since it was installed | Delete /c and run dtrain setup --from-bundle DIR with the parts of bundle 3f2a91c0.',
  );
});

test('CUDA: a line a library, the one that does not load with its reason', () => {
  const cuda = [
    { name: 'libcudart.so.12', why: null },
    { name: 'libcudnn.so.9', why: 'libcuda.so.1: cannot open shared object file' },
  ];
  const refused = 'libcudnn.so.9 does not load: libcuda.so.1: cannot open shared object file';
  assert.deepEqual(cudaChecks({ ...probe, cuda }, true).map(text), [
    'ok libcudart.so.12 loads',
    `warn ${refused} | Update the NVIDIA driver, or run dtrain setup --gpu.`,
  ]);
  assert.deepEqual(cudaChecks({ ...probe, cuda }, false).map(text), [
    'ok libcudart.so.12 loads',
    `ok ${refused}; not needed without a GPU`,
  ]);
  assert.deepEqual(cudaChecks(probe, true), []);
});

test('devices', () => {
  assert.equal(text(devicesCheck(probe, null)), 'ok no GPU and no NVIDIA driver; trains on the CPU');
  const look = 'Check nvidia-smi and CUDA_VISIBLE_DEVICES; or train on the CPU.';
  assert.equal(
    text(devicesCheck(probe, '550.54.15')),
    `warn no GPU that TensorFlow finds; NVIDIA driver 550.54.15 | ${look}`,
  );
  const onGpu = { ...probe, devices: [cpu, gpu] };
  assert.equal(text(devicesCheck(onGpu, '550.54.15')), 'ok 1 GPU: /device:GPU:0 (22.0 GB); NVIDIA driver 550.54.15');
  assert.equal(
    text(devicesCheck(onGpu, '470.82.01')),
    'warn 1 GPU: /device:GPU:0 (22.0 GB); NVIDIA driver 470.82.01 | Expected driver 525 or later: update it, or train on the CPU.',
  );
  const trouble = { what: 'The NVIDIA driver is too old.', cure: 'Update it.' };
  assert.equal(
    text(devicesCheck({ ...probe, trouble }, '550.54.15')),
    'warn no GPU that TensorFlow finds; NVIDIA driver 550.54.15. The NVIDIA driver is too old. | Update it.',
  );
  assert.equal(
    text(devicesCheck({ ...onGpu, newCards: ['GPU 0 is new.'] }, '550.54.15')),
    'warn 1 GPU: /device:GPU:0 (22.0 GB); NVIDIA driver 550.54.15 | GPU 0 is new.',
  );
  const faulty = [{ name: '/device:GPU:0', why: 'expected 7 10 15 22, got 0 0 0 0' }];
  assert.equal(
    text(devicesCheck({ ...onGpu, faulty }, '550.54.15')),
    'fail a product of two matrices fails on /device:GPU:0: expected 7 10 15 22, got 0 0 0 0 | Check the driver (nvidia-smi), or hide the device with CUDA_VISIBLE_DEVICES.',
  );
  const file = path.join(root, 'driver');
  fs.writeFileSync(
    file,
    'NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\nGCC version:\n',
  );
  assert.equal(driverVersion(file), '535.104.05');
  fs.writeFileSync(file, 'NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build\n');
  assert.equal(driverVersion(file), '570.86.15');
  assert.equal(driverVersion(path.join(root, 'none')), null);
});

test('the trial: on CPUs half of the expected is enough, GPUs must do more than the cores', () => {
  const rate = (imagesPerSecond: number) => ({ imagesPerSecond, flopsPerImage: 2.5e8 });
  const trial: TrialFacts = { kind: 'cpu', workers: 2, outcome: rate(470), coreFlopsPerSecond: 1e11, cores: 2 };
  assert.equal(text(trialCheck(trial)), 'ok 10 steps of resnet20 on 2 CPU workers: 470 images/s, about 480 expected');
  assert.equal(trialCheck({ ...trial, outcome: rate(240) }).status, 'ok');
  assert.equal(
    text(trialCheck({ ...trial, outcome: rate(239) })),
    'warn 10 steps of resnet20 on 2 CPU workers: 239 images/s, about 480 expected | Other programs, or a limit of the container, take the time of the cores: look with top, or train with fewer workers (--cpus N).',
  );
  assert.equal(
    text(trialCheck({ ...trial, kind: 'gpu', workers: 1, cores: 16, outcome: rate(12_345) })),
    "ok 10 steps of resnet20 on 1 GPU: 12,300 images/s, more than the CPU's 3,840 expected",
  );
  assert.equal(
    text(trialCheck({ ...trial, kind: 'gpu', workers: 1, cores: 16, outcome: rate(3000) })),
    "warn 10 steps of resnet20 on 1 GPU: 3,000 images/s, more than the CPU's 3,840 expected | Look with nvidia-smi whether other programs use the GPU, or its power or clock is limited.",
  );
  assert.equal(
    text(trialCheck({ ...trial, outcome: { message: 'It was not done after 120 s.' } })),
    'fail 10 steps of resnet20 on 2 CPU workers failed | It was not done after 120 s.',
  );
});

test('cores, memory, data, folders', () => {
  const asked = 'as many workers, 1 thread each, where nothing else is asked for';
  assert.equal(text(coresCheck({ available: 2, total: 2, quota: null })), `ok 2: ${asked}`);
  assert.equal(text(coresCheck({ available: 2, total: 64, quota: 2 })), `ok 2 of 64: ${asked}`);
  assert.equal(
    text(coresCheck({ available: 8, total: 8, quota: 2.5 })),
    'warn 8, but the container may use 2.5 | Train with --cpus 2, or raise the limit.',
  );
  assert.equal(
    text(sharedCheck({ bytes: 2 ** 32, devShmBytes: 64e6 })),
    'ok threads can share 4.3 GB (/dev/shm, which it does not need: 0.1 GB)',
  );
  assert.equal(
    text(sharedCheck({ bytes: 2 ** 28, devShmBytes: null })),
    'fail threads can share 0.3 GB | Raise the limit on address space: ulimit -v unlimited.',
  );
  assert.equal(text(memoryCheck(20e9, 25.3e9)), 'ok 20.0 GB free of 25.3 GB');
  assert.equal(
    text(memoryCheck(1e9, 2e9)),
    'warn 1.0 GB free of 2.0 GB | Large models may not fit: lower train.globalBatch, or end other programs.',
  );
  assert.equal(text(dataCheck({ source: { path: '/d/cifar.tar' } })), 'ok CIFAR-10 in /d/cifar.tar');
  assert.equal(
    text(dataCheck({ source: null })),
    'warn CIFAR-10 is not on disk | The first run downloads it (170 MB); or set DTRAIN_DATA to where it is.',
  );
  assert.equal(text(dataCheck({ source: 'DTRAIN_DATA: wrong.' })), 'fail not usable | DTRAIN_DATA: wrong.');
  assert.equal(text(cacheCheck({ folder: '/c', freeBytes: 3e9 })), 'ok /c, 3.0 GB free');
  assert.equal(
    text(cacheCheck({ folder: '/c', freeBytes: 1e9 })),
    'warn /c, 1.0 GB free | Free space, or name a folder on a larger disk with DTRAIN_HOME.',
  );
  assert.equal(
    text(runsCheck({ folder: '/r', freeBytes: null })),
    'fail /r cannot be written | Make it writable, or name another with --run-dir.',
  );
});

test('limits of a container, as both versions of cgroups tell them', () => {
  const cgroup = fs.mkdtempSync(path.join(root, 'cgroup-'));
  assert.equal(coresQuota(cgroup), null);
  fs.writeFileSync(path.join(cgroup, 'cpu.max'), 'max 100000\n');
  assert.equal(coresQuota(cgroup), null);
  fs.writeFileSync(path.join(cgroup, 'cpu.max'), '150000 100000\n');
  assert.equal(coresQuota(cgroup), 1.5);
  const older = fs.mkdtempSync(path.join(root, 'cgroup-'));
  fs.mkdirSync(path.join(older, 'cpu'));
  fs.writeFileSync(path.join(older, 'cpu/cpu.cfs_period_us'), '100000\n');
  for (const [quota, cores] of [
    ['-1', null],
    ['400000', 4],
  ] as const) {
    fs.writeFileSync(path.join(older, 'cpu/cpu.cfs_quota_us'), `${quota}\n`);
    assert.equal(coresQuota(older), cores);
  }
});

test('this machine has glibc, and its threads share memory', () => {
  assert.match(glibcVersion()!, /^2\.\d+$/);
  assert(sharedFacts().bytes >= 2 ** 30);
});

test('the lines that people read', () => {
  assert.equal(checkText(nodeCheck('22.1.0')), 'ok    node      22.1.0');
  assert.equal(
    checkText({ check: 'data', status: 'warn', found: 'none', cure: 'Do this.\nAnd this.' }),
    'warn  data      none\n                Do this.\n                And this.',
  );
  assert.equal(summaryText(0, 0), 'All is well.');
  assert.equal(summaryText(0, 1), 'dtrain can train here; 1 warning.');
  assert.equal(summaryText(2, 1), 'dtrain cannot train here yet: 2 problems.');
});

/** Runs the command; its lines and its exit code. */
async function runDoctor(env: NodeJS.ProcessEnv, isJson: boolean): Promise<{ exitCode: number; lines: string[] }> {
  const lines: string[] = [];
  const out = (line: string) => lines.push(line);
  const exitCode = await doctor({ console: { isJson, out, json: (value) => out(JSON.stringify(value)) }, env });
  return { exitCode, lines };
}

test('on this machine the library works and dtrain can train', async () => {
  const { exitCode, lines } = await runDoctor({ ...process.env, DTRAIN_DATA: '' }, true);
  const checks = lines.map((line) => JSON.parse(line) as Check);
  assert.deepEqual(
    checks.map(({ check }) => check).filter((check) => check !== 'cuda'),
    [
      ...['node', 'npm', 'platform', 'glibc', 'library', 'devices', 'cores', 'memory', 'shared'],
      ...['data', 'cache', 'runs', 'trial'],
    ],
  );
  for (const check of checks) assert.deepEqual(Object.keys(check), ['check', 'status', 'found', 'cure']);
  assert.deepEqual(
    checks.filter(({ status }) => status === 'fail'),
    [],
  );
  assert.equal(exitCode, 0);
  assert.match(
    checks.at(-1)!.found,
    /^10 steps of resnet20 on \d+ (GPU|CPU worker)s?: [\d,.]+ images\/s, .* expected$/,
  );
});

test('without the library it says how to get it and ends with 4', async () => {
  const env = { PATH: root, DTRAIN_HOME: path.join(root, 'home') };
  const { exitCode, lines } = await runDoctor(env, false);
  assert.equal(exitCode, 4);
  assert.match(
    lines[4]!,
    /^fail {2}library {3}not found\n {16}TensorFlow: expected the C library .* Install it: dtrain setup, or without a network: dtrain setup --from-bundle DIR\n/,
  );
  assert.equal(lines.at(-1), 'dtrain cannot train here yet: 1 problem.');
});

test('a library that is no library is reported, not loaded into this process', async () => {
  const file = path.join(root, 'libtensorflow_cc.so.2');
  fs.writeFileSync(file, 'not an ELF file');
  const env = { ...process.env, DTRAIN_HOME: path.join(root, 'home'), DTRAIN_TENSORFLOW_LIB: file };
  const { exitCode, lines } = await runDoctor(env, false);
  assert.equal(exitCode, 4);
  assert.match(
    lines[4]!,
    /^fail {2}library {3}TensorFlow \(cpu\), .*libtensorflow_cc\.so\.2: .*cannot be used as TensorFlow's C library/,
  );
});
