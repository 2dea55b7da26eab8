/**
 * A machine without a network, without Node, with an empty home: the real CPU bundle is written, carried over in two deliveries, installed by
 * its script in a network namespace of its own, and trains. Run by npm run test:consumers.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { before, test } from 'node:test';
import { dtrain } from '../support/run-dtrain.js';
import { temporaryFolder } from '../support/train-run.js';

const WITHOUT_NETWORK = ['unshare', '--net', '--map-root-user', '--user'];
const canUnshare = spawnSync(WITHOUT_NETWORK[0]!, [...WITHOUT_NETWORK.slice(1), 'true']).status === 0;
const OPTIONS = { skip: canUnshare ? false : 'this machine does not let a user have a network namespace' };

/** All programs that the other machine has. */
const TOOLS = [
  'cat',
  'cmp',
  'cp',
  'dirname',
  'env',
  'gzip',
  'ls',
  'mkdir',
  'mv',
  'readlink',
  'rm',
  'rmdir',
  'sed',
  'sh',
];
const MORE_TOOLS = ['sha256sum', 'sync', 'tar', 'tr', 'uname'];

let bundle: string;
let machine: string;

before(() => {
  bundle = path.join(temporaryFolder(), 'bundle');
  const words = ['setup', '--cpu', '--bundle', bundle, '--part-size', '60M', '--with-node'];
  const made = dtrain(words);
  assert.equal(made.code, 0, made.stderr);
  machine = temporaryFolder();
  for (const folder of ['bin', 'home', 'work', 'stick']) fs.mkdirSync(path.join(machine, folder));
  for (const tool of [...TOOLS, ...MORE_TOOLS])
    fs.symlinkSync(
      fs.existsSync(`/usr/bin/${tool}`) ? `/usr/bin/${tool}` : `/bin/${tool}`,
      path.join(machine, 'bin', tool),
    );
});

/** A command as the other machine runs it. */
function there(...words: readonly string[]) {
  const env = { PATH: path.join(machine, 'bin'), HOME: path.join(machine, 'home') };
  const inside = ['env', '-i', ...Object.entries(env).map(([name, value]) => `${name}=${value}`), ...words];
  const [unshare, ...rest] = [...WITHOUT_NETWORK, ...inside];
  const { status, stdout, stderr } = spawnSync(unshare!, rest, { cwd: path.join(machine, 'work'), encoding: 'utf8' });
  return { status, stdout, stderr };
}

function deliver(wanted: (name: string) => boolean): void {
  for (const name of fs.readdirSync(bundle).filter(wanted))
    fs.cpSync(path.join(bundle, name), path.join(machine, 'stick', name));
}

test('no part is larger than asked', OPTIONS, () => {
  const parts = fs.readdirSync(bundle).filter((name) => name.startsWith('dtrain-'));
  assert(parts.length >= 4, parts.join(' '));
  for (const part of parts) assert(fs.statSync(path.join(bundle, part)).size <= 60e6, part);
});

test('the first delivery: the program, and one part of the library', OPTIONS, () => {
  const isLate = (name: string) => /-library-/.test(name) && !name.endsWith('-001');
  deliver((name) => !isLate(name));
  const { status, stderr } = there('sh', path.join(machine, 'stick/install.sh'));
  const late = fs.readdirSync(bundle).filter(isLate);
  assert.equal(status, 4, stderr);
  assert.match(
    stderr,
    new RegExp(`1 of ${late.length + 1} parts were taken, and need not stay\\.\n {2}missing: ${late[0]}`),
  );
  const doctor = there('dtrain/bin/dtrain', 'doctor');
  assert.equal(doctor.status, 4);
  assert.match(
    doctor.stdout,
    new RegExp(`2\\.21\\.0-cpu: 1 of ${late.length + 1} parts of bundle [0-9a-f]{8} were taken`),
  );
});

test('the second delivery, without the part of the first: installed, known to doctor, and it trains', OPTIONS, () => {
  for (const name of fs.readdirSync(path.join(machine, 'stick')))
    if (name.includes('-library-')) fs.rmSync(path.join(machine, 'stick', name));
  deliver((name) => /-library-/.test(name) && !name.endsWith('-001'));
  const { status, stdout, stderr } = there('sh', path.join(machine, 'stick/install.sh'));
  assert.equal(status, 0, stderr);
  assert.equal(stdout, 'Installed. Begin with: dtrain/bin/dtrain --config quickstart\n');
  const doctor = there('dtrain/bin/dtrain', 'doctor');
  assert.match(doctor.stdout, /^ok {4}library {3}TensorFlow 2\.21\.0 \(cpu, from bundle [0-9a-f]{8}\), /m);
  fs.rmSync(path.join(machine, 'stick'), { recursive: true });
  const words = ['data.name=synthetic', 'train.maxSteps=2', 'evaluation.everyEpochs=0', '--cpus', '2', '--json'];
  const run = there('dtrain/bin/dtrain', '--config', 'quickstart', ...words);
  const events = run.stdout.trim().split('\n');
  const last = JSON.parse(events.at(-1)!) as { event: string; steps: number };
  assert.deepEqual([run.status, last.event, last.steps], [0, 'end', 2], run.stderr);
});

test('images are decoded and archives unpacked there too: every package with native code came along', OPTIONS, () => {
  const program = `
    const load = async (name) => Object.keys(await import(name)).length > 0;
    const names = ['sharp', '@napi-rs/lzma', 'koffi', 'msgpackr', 'modern-tar', 'hyparquet', 'piscina', 'yaml', 'zod'];
    for (const name of names) if (!(await load(name))) throw new Error(name);
    const sharp = (await import('sharp')).default;
    const png = await sharp({ create: { width: 2, height: 2, channels: 3, background: 'red' } }).png().toBuffer();
    console.log((await sharp(png).raw().toBuffer()).length);`;
  const file = path.join(machine, 'work/dtrain/app/dist/try.mjs');
  fs.writeFileSync(file, program);
  const { status, stdout, stderr } = there('dtrain/bin/node', file);
  assert.deepEqual([status, stdout], [0, '12\n'], stderr);
});
