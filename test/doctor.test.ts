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
  dataCheck,
  devicesCheck,
  type LibraryFacts,
  libraryCheck,
  memoryCheck,
  nodeCheck,
  platformCheck,
  runsCheck,
} from '../src/cli/doctor-checks.js';
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
  unloadable: [],
  trouble: null,
  newCards: [],
};
const library = { path: '/c/tensorflow/libtensorflow_cc.so.2', variant: 'cpu', source: '/c' } as const;
const facts: LibraryFacts = { library, changed: [], probe, hasDriver: false };

test('node and platform', () => {
  assert.equal(text(nodeCheck('20.19.0')), 'ok 20.19.0');
  assert.equal(text(nodeCheck('24.1.0')), 'ok 24.1.0');
  assert.equal(text(nodeCheck('20.18.3')), 'fail 20.18.3 | Expected 20.19 or later: install a current Node.');
  assert.equal(text(nodeCheck('18.20.0')), 'fail 18.20.0 | Expected 20.19 or later: install a current Node.');
  assert.equal(text(platformCheck('linux', 'x64')), 'ok linux x64');
  assert.equal(
    text(platformCheck('darwin', 'arm64')),
    'fail darwin arm64 | Expected linux x64: run dtrain in a Linux container.',
  );
});

test('library', () => {
  const works = 'TensorFlow 2.21.0 (cpu), /c/tensorflow/libtensorflow_cc.so.2';
  assert.equal(text(libraryCheck(facts)), `ok ${works}`);
  assert.equal(
    text(libraryCheck({ ...facts, hasDriver: true })),
    `warn ${works}, but there is an NVIDIA driver | To train on GPUs: dtrain setup --gpu`,
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
  const unloadable = { ...probe, unloadable: [{ name: 'libcudnn.so.9', why: 'no libcuda.so.1' }] };
  const onGpu: LibraryFacts = { ...facts, library: { ...library, variant: 'gpu' }, probe: unloadable };
  assert.equal(
    text(libraryCheck({ ...onGpu, hasDriver: true })),
    'warn TensorFlow 2.21.0 (gpu), /c/tensorflow/libtensorflow_cc.so.2; does not load: libcudnn.so.9 (no libcuda.so.1) | Update the NVIDIA driver, or run dtrain setup --gpu.',
  );
  assert.equal(libraryCheck(onGpu).status, 'ok', 'without a driver nothing of CUDA is expected to load');
});

test('devices', () => {
  assert.equal(text(devicesCheck(probe, false)), 'ok no GPU; trains on the CPU');
  assert.equal(
    text(devicesCheck(probe, true)),
    'warn an NVIDIA driver, but TensorFlow finds no GPU | Check nvidia-smi and CUDA_VISIBLE_DEVICES; or train on the CPU.',
  );
  assert.equal(text(devicesCheck({ ...probe, devices: [cpu, gpu] }, true)), 'ok 1 GPU: /device:GPU:0 (22.0 GB)');
  const trouble = { what: 'The NVIDIA driver is too old.', cure: 'Update it.' };
  assert.equal(
    text(devicesCheck({ ...probe, trouble }, true)),
    'warn an NVIDIA driver, but TensorFlow finds no GPU. The NVIDIA driver is too old. | Update it.',
  );
  assert.equal(
    text(devicesCheck({ ...probe, devices: [cpu, gpu], newCards: ['GPU 0 is new.'] }, true)),
    'warn 1 GPU: /device:GPU:0 (22.0 GB) | GPU 0 is new.',
  );
  const faulty = [{ name: '/device:GPU:0', why: 'expected 7 10 15 22, got 0 0 0 0' }];
  assert.equal(
    text(devicesCheck({ ...probe, devices: [cpu, gpu], faulty }, true)),
    'fail a product of two matrices fails on /device:GPU:0: expected 7 10 15 22, got 0 0 0 0 | Check the driver (nvidia-smi), or hide the device with CUDA_VISIBLE_DEVICES.',
  );
});

test('cores, memory, data, folders', () => {
  assert.equal(text(coresCheck(2, 2)), 'ok 2');
  assert.equal(text(coresCheck(2, 64)), 'ok 2 of 64');
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

test('the lines that people read', () => {
  assert.equal(checkText(coresCheck(2, 2)), 'ok    cores     2');
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
    checks.map(({ check }) => check),
    ['node', 'platform', 'library', 'devices', 'cores', 'memory', 'data', 'cache', 'runs'],
  );
  for (const check of checks) assert.deepEqual(Object.keys(check), ['check', 'status', 'found', 'cure']);
  assert.deepEqual(
    checks.filter(({ status }) => status === 'fail'),
    [],
  );
  assert.equal(exitCode, 0);
});

test('without the library it says how to get it and ends with 4', async () => {
  const env = { PATH: root, DTRAIN_HOME: path.join(root, 'home') };
  const { exitCode, lines } = await runDoctor(env, false);
  assert.equal(exitCode, 4);
  assert.match(
    lines[2]!,
    /^fail {2}library {3}not found\n {16}TensorFlow: expected the C library .* Install it: dtrain setup\n/,
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
    lines[2]!,
    /^fail {2}library {3}TensorFlow \(cpu\), .*libtensorflow_cc\.so\.2: .*cannot be used as TensorFlow's C library/,
  );
});
