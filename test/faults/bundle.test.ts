/** Bundles under kill -9 and on full disks, with real processes and file systems; the library is made up, the program is this one. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { before, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { installFolder, MANIFEST_NAME, readInstallation } from '../../src/tensorflow/install-manifest.js';
import { SeededRandom } from '../support/seeded-random.js';
import { temporaryFolder } from '../support/train-run.js';
import { recordProof } from './record.js';

const MAIN = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));
const OWN_MOUNTS = ['unshare', '--mount', '--map-root-user', '--user'];
const canMount =
  spawnSync(OWN_MOUNTS[0]!, [...OWN_MOUNTS.slice(1), 'mount', '-t', 'tmpfs', 'tmpfs', '/mnt']).status === 0;
const MOUNTS = { skip: canMount ? false : 'this machine does not let a user mount' };
const KILLS = 25;
const SIZES = { 'tensorflow/libtensorflow_cc.so.2': 24e6, 'tensorflow/libtensorflow_framework.so.2': 6e6 };

/** The cache folder with the made-up library. */
let home: string;
let bundle: string;

before(() => {
  home = path.join(temporaryFolder(), 'home');
  const folder = installFolder(home, 'cpu');
  const random = new SeededRandom(5);
  const files = Object.entries(SIZES).map(([name, bytes]) => {
    const content = Buffer.from(Uint8Array.from({ length: bytes }, () => random.below(256)));
    fs.mkdirSync(path.join(folder, 'tensorflow'), { recursive: true });
    fs.writeFileSync(path.join(folder, name), content);
    return { path: name, bytes, sha256: createHash('sha256').update(content).digest('hex') };
  });
  fs.writeFileSync(path.join(folder, MANIFEST_NAME), JSON.stringify({ tensorflow: '2.21.0', variant: 'cpu', files }));
  bundle = path.join(temporaryFolder(), 'bundle');
  const { status, stderr } = setup(['--cpu', '--bundle', bundle, '--part-size', '2M'], home);
  assert.equal(status, 0, stderr);
});

function setup(words: readonly string[], cache: string, script?: string) {
  const command = [process.execPath, MAIN, 'setup', ...words];
  const [file, ...rest] =
    script === undefined ? command : [...OWN_MOUNTS, 'sh', '-c', `${script}\n"$@"`, 'sh', ...command];
  const env = { ...process.env, DTRAIN_HOME: cache };
  const { status, stdout, stderr } = spawnSync(file!, rest, { env, encoding: 'utf8' });
  return { status, stdout, stderr };
}

/** Ends it by SIGKILL after so many milliseconds, if it has not ended before. */
async function killedSetup(words: readonly string[], cache: string, milliseconds: number): Promise<void> {
  const child = spawn(process.execPath, [MAIN, 'setup', ...words], {
    env: { ...process.env, DTRAIN_HOME: cache },
    stdio: 'ignore',
  });
  const ended = new Promise((resolve) => child.once('close', resolve));
  await Promise.race([delay(milliseconds), ended]);
  child.kill('SIGKILL');
  await ended;
}

test('kill -9 while parts are taken: never half a library, and the next call goes on', async () => {
  const cache = path.join(temporaryFolder(), 'cache');
  const folder = installFolder(cache, 'cpu');
  const random = new SeededRandom(11);
  let seenStaged = 0;
  let rounds = 0;
  for (let kill = 0; kill < KILLS; kill++) {
    await killedSetup(['--from-bundle', bundle], cache, 200 + random.below(1600));
    fs.rmSync(`${folder}.lock`, { force: true }); // it would be taken over after ten seconds
    if (fs.existsSync(folder)) {
      assertWhole(folder);
      rounds += 1;
      fs.rmSync(cache, { recursive: true });
    } else if (fs.existsSync(path.dirname(folder))) {
      seenStaged += fs.readdirSync(path.dirname(folder)).filter((name) => name.startsWith('.bundle-')).length;
    }
  }
  const { status, stderr } = setup(['--from-bundle', bundle], cache);
  assert.equal(status, 0, stderr);
  assertWhole(folder);
  assert.deepEqual(fs.readdirSync(path.dirname(folder)), ['2.21.0-cpu']);
  assert(seenStaged > 0, 'no kill came while parts were taken');
  recordProof({
    name: 'kill -9 while a bundle is installed',
    goal: 'the library is whole or not there; the next call goes on',
    observed: `${KILLS} kills: ${seenStaged} left parts taken, ${rounds} came after the end; each library was whole`,
    pass: true,
  });
});

function assertWhole(folder: string): void {
  const manifest = readInstallation(folder);
  assert(manifest !== null, 'a folder is there, but not whole');
  for (const { path: name, sha256 } of manifest.files) {
    const found = createHash('sha256')
      .update(fs.readFileSync(path.join(folder, name)))
      .digest('hex');
    assert.equal(found, sha256, name);
  }
}

test('kill -9 while a bundle is written: no manifest, and the same folder takes the next one', async () => {
  const folder = path.join(temporaryFolder(), 'out');
  const words = ['--cpu', '--bundle', folder, '--part-size', '2M'];
  for (const milliseconds of [300, 600, 900]) {
    await killedSetup(words, home, milliseconds);
    fs.rmSync(path.join(folder, '.dtrain-bundle.lock'), { force: true });
    assert(!fs.existsSync(path.join(folder, 'bundle.json')), 'it was finished too soon for this test');
  }
  const { status, stderr } = setup(words, home);
  assert.equal(status, 0, stderr);
  assert.deepEqual(fs.readdirSync(folder), fs.readdirSync(bundle), 'the same bundle as the undisturbed one');
});

test('a disk that becomes full under the bundle: exit code 4, and the folder is empty again', MOUNTS, () => {
  const folder = temporaryFolder();
  const mount = `mount -t tmpfs -o size=15m tmpfs ${folder}`;
  const { status, stdout, stderr } = setup(
    ['--cpu', '--bundle', folder, '--part-size', '2M'],
    home,
    `${mount}; trap 'ls -A ${folder}' EXIT`,
  );
  assert.equal(status, 4);
  assert.equal(
    stderr.trimEnd().split('\n').at(-1),
    `--bundle ${folder}: the disk became full. Free space, or choose a folder on a larger disk.`,
  );
  assert.equal(stdout, '');
});

test('a disk that is too small for the library, and one that becomes full while parts are taken', MOUNTS, () => {
  const cache = temporaryFolder();
  const small = setup(['--from-bundle', bundle], cache, `mount -t tmpfs -o size=20m tmpfs ${cache}`);
  assert.equal(small.status, 4);
  assert.match(
    small.stderr,
    /: expected 0\.0 GB of free space, got 0\.0 GB\. Free space, or set DTRAIN_HOME to a folder/,
  );
  // Enough at first, but a file grows beside it: a quarter of the parts can still be taken.
  const fill = `(until [ -e ${cache}/tensorflow/.bundle-*/taken.json ]; do :; done; head -c 60m /dev/zero > ${cache}/filler) 2> /dev/null &`;
  const filled = setup(['--from-bundle', bundle], cache, `mount -t tmpfs -o size=34m tmpfs ${cache}\n${fill}`);
  assert.equal(filled.status, 4);
  assert.match(
    filled.stderr,
    /tensorflow: the disk became full\. Free space, or set DTRAIN_HOME to a folder on a larger disk/,
  );
});
