/** The npm package as who installs it meets it: an empty folder, plain `npm install`, the command, the types. Run by npm run test:consumers. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { before, test } from 'node:test';
import { temporaryFolder } from '../support/train-run.js';
import { root } from './python.js';

/** Its defaults differ: 11.16 and later hold install scripts back, this one runs them. */
const OLDER_NPM = 'npm@10.9.9';
const TOOLS = ['typescript@7.0.2', '@types/node@20.19.43', 'publint@0.3.25', '@arethetypeswrong/cli@0.18.5'];

/** Loaded into npm and into every Node that it starts: writes down each host that is asked. */
const HOSTS_HOOK = `
const { appendFileSync } = require('node:fs');
const dns = require('node:dns');
const lookup = dns.lookup;
dns.lookup = (host, ...rest) => { appendFileSync(process.env.HOSTS_FILE, host + '\\n'); return lookup(host, ...rest); };
`;

const PROGRAM = `
import { type DeviceRequest, DtrainError, loadConfig, type RunConfig, train, type TrainEvent } from 'dtrain';
const config: RunConfig = loadConfig({ file: 'quickstart', overrides: ['train.maxSteps=2', 'data.name=synthetic', 'evaluation.everyEpochs=0'] });
const devices: DeviceRequest = { kind: 'cpu', count: 1 };
const events: TrainEvent['event'][] = [];
for await (const event of train(config, { devices, name: 'mine' })) {
  events.push(event.event);
  if (event.event === 'step' && !(event.loss > 0)) throw new Error(String(event.loss));
}
try {
  loadConfig({ overrides: ['train.epoch=1'] });
} catch (error) {
  if (!(error instanceof DtrainError)) throw error;
  events.push(error.code as never);
}
// @ts-expect-error no such key
config.model.nam;
console.log(JSON.stringify(events));
`;

let tarball: string;
let folder: string;

/** As typed in a shell that has nothing to do with this repository: without the settings that npm hands to its scripts. */
function typed(words: readonly string[], cwd: string, more: Readonly<Record<string, string>> = {}) {
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^npm_/i.test(name)));
  const [command, ...rest] = words;
  const { status, stdout, stderr } = spawnSync(command!, rest, { cwd, env: { ...env, ...more }, encoding: 'utf8' });
  assert.equal(status, 0, `${words.join(' ')}\n${stdout}${stderr}`);
  return { stdout, stderr };
}

/** Installs the tarball into an empty folder with `npm`; the hosts that were asked. */
function install(npm: readonly string[]): { folder: string; hosts: string[]; text: string } {
  const empty = temporaryFolder();
  const own = temporaryFolder();
  const [hook, hostsFile] = [path.join(own, 'hosts.cjs'), path.join(own, 'hosts.txt')];
  fs.writeFileSync(hook, HOSTS_HOOK);
  fs.writeFileSync(hostsFile, '');
  const env = { NODE_OPTIONS: `--require ${hook}`, HOSTS_FILE: hostsFile };
  const { stdout, stderr } = typed([...npm, 'install', tarball], empty, env);
  const hosts = fs.readFileSync(hostsFile, 'utf8').trim().split('\n');
  return { folder: empty, hosts: [...new Set(hosts)].filter(Boolean), text: stdout + stderr };
}

before(() => {
  const target = temporaryFolder();
  typed(['npm', 'pack', '--ignore-scripts', '--pack-destination', target], root);
  tarball = path.join(target, fs.readdirSync(target)[0]!);
});

for (const npm of [['npm'], ['npx', '--yes', OLDER_NPM]]) {
  test(`${npm.at(-1)} install in an empty folder: no script fails, no host but the registry is asked`, () => {
    const registry = new URL(typed(['npm', 'config', 'get', 'registry'], temporaryFolder()).stdout.trim()).hostname;
    const found = install(npm);
    assert.match(found.text, /added \d+ packages/);
    assert.deepEqual(found.hosts, [registry]);
    folder = found.folder;
  });
}

test('the command runs: models, and a short training', () => {
  const { stdout } = typed(['npx', 'dtrain', 'models', 'resnet20', '--json'], folder);
  assert.equal((JSON.parse(stdout) as { parameters: number }).parameters, 269_722);
  const words = ['--config', 'quickstart', '--cpus', '2', '--json', 'data.name=synthetic', 'train.maxSteps=4'];
  const run = typed(['npx', 'dtrain', ...words], folder);
  const events = run.stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { event: string; steps?: number });
  assert.deepEqual([events.at(0)?.event, events.at(-1)?.event, events.at(-1)?.steps], ['run', 'end', 4]);
});

test('a program in TypeScript, strictly checked, trains; publint and attw find nothing', () => {
  typed(['npm', 'install', '--save-dev', ...TOOLS], folder);
  fs.writeFileSync(path.join(folder, 'program.mts'), PROGRAM);
  // tfjs 4.22's own declarations do not pass without skipLibCheck, which `tsc --init` sets too.
  const options = ['--module', 'nodenext', '--target', 'es2022', '--types', 'node', '--skipLibCheck'];
  typed(['npx', 'tsc', '--strict', '--exactOptionalPropertyTypes', ...options, 'program.mts'], folder);
  const { stdout } = typed(['node', 'program.mjs'], folder);
  assert.deepEqual(JSON.parse(stdout), ['run', 'step', 'checkpoint', 'end', 'DTRAIN_CONFIG_INVALID']);
  assert.match(typed(['npx', 'publint', '--strict', tarball], folder).stdout, /All good!/);
  // The package is ESM only, as its README says: that profile leaves out who requires it.
  typed(['npx', 'attw', tarball, '--profile', 'esm-only'], folder);
});
