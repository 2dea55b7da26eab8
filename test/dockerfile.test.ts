/** The Dockerfile: what a container gets, that every step is a script that is there, and that nothing secret can go in. Built by test:consumers. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { copyOf, isInContext, lineage, parseDockerfile, settingsOf } from './support/dockerfile.js';

const root = fileURLToPath(new URL('../../', import.meta.url));
const text = (file: string) => fs.readFileSync(path.join(root, file), 'utf8');
const stages = parseDockerfile(text('Dockerfile'));
const scripts = fs.readdirSync(path.join(root, 'docker'));
const tracked = execFileSync('git', ['ls-files'], { cwd: root, encoding: 'utf8' }).trim().split('\n');
const context = tracked.filter((file) => isInContext(file, text('.dockerignore')));

test('a container runs as nobody special, under tini, with a health check, and says what it is', () => {
  const { version, license } = JSON.parse(text('package.json')) as { version: string; license: string };
  for (const target of ['cpu', 'gpu']) {
    const { env, labels, ...settings } = settingsOf(stages, target);
    assert.deepEqual(settings, {
      user: '10001:10001',
      workdir: '/workspace',
      volumes: ['/workspace/runs', '/workspace/data', '/cache'],
      stopSignal: 'SIGTERM',
      healthCheck: ['/app/docker/health-check.sh', '60'],
      entrypoint: ['tini', '--', 'node', '/app/dist/src/cli/main.js'],
      command: ['train', '--config', 'quickstart'],
    });
    assert.equal(env['DTRAIN_TENSORFLOW_LIB'], '/opt/tensorflow/tensorflow');
    const told = ['version', 'licenses'].map((name) => labels[`org.opencontainers.image.${name}`]);
    assert.deepEqual(told, [version, license]);
    assert.deepEqual(env['NVIDIA_VISIBLE_DEVICES'], target === 'gpu' ? 'all' : undefined);
  }
  assert.equal(stages.at(-1)!.name, 'cpu', 'what docker build makes without --target');
});

test('every step that runs is a script of docker/, and every one is used', () => {
  const steps = stages.flatMap(({ instructions }) => instructions.filter(({ name }) => name === 'RUN'));
  const used = new Set(['health-check.sh']);
  for (const { text: line } of steps) {
    for (const command of line.split(' && ')) {
      const [, script] = /^(?:\/tmp\/)?docker\/([a-z-]+\.sh)( [\w./-]+)*$/.exec(command) ?? [];
      assert(script !== undefined || command === 'rm -r /tmp/docker', command);
      if (script) used.add(script);
    }
  }
  assert.deepEqual([...used].sort(), scripts.sort());
  for (const script of scripts) {
    const file = path.join(root, 'docker', script);
    assert.equal(fs.statSync(file).mode & 0o111, 0o111, script);
    assert.equal(spawnSync('sh', ['-n', file]).status, 0, script);
  }
});

test('what is copied is there, and the images share all but the library', () => {
  for (const { instructions } of stages) {
    for (const { from, sources } of instructions.filter(({ name }) => name === 'COPY').map((one) => copyOf(one.text))) {
      if (from !== undefined)
        assert(
          stages.some(({ name }) => name === from),
          from,
        );
      else for (const source of sources) assert(source === '.' || context.includes(source), source);
    }
  }
  const names = (target: string) => lineage(stages, target).map(({ name }) => name);
  assert.deepEqual(
    [names('cpu'), names('gpu')],
    [
      ['base', 'cpu'],
      ['base', 'gpu'],
    ],
  );
});

test('only what the build reads goes to the engine', () => {
  const isIn = (file: string) => isInContext(file, text('.dockerignore'));
  for (const file of ['.env', '.npmrc', '.git/config', 'runs/a/config.yaml', 'data/x.bin', 'node_modules/a/index.js'])
    assert(!isIn(file), file);
  const folders = [...new Set(context.map((file) => (file.includes('/') ? file.split('/')[0] : file)))];
  assert.deepEqual(folders.sort(), [
    'LICENSE',
    'configs',
    'docker',
    'package-lock.json',
    'package.json',
    'scripts',
    'src',
    'tsconfig.json',
  ]);
});

test('what our Dockerfile does not use is not understood, rather than left out', () => {
  for (const line of ['ADD a b', 'FROM x', 'EXPOSE 80', 'SHELL ["a"]', 'RUN a']) {
    assert.throws(() => parseDockerfile(line), /^Error: Dockerfile: not understood: /, line);
  }
  assert.throws(() => copyOf('--chown=1:1 a b'), /not understood/);
  assert.throws(() => isInContext('a', '**/b'), /not understood/);
});

/** Runs health-check.sh with a heartbeat that is `age` seconds old; undefined: none. */
function health(age: number | undefined, ...words: string[]) {
  const file = path.join(fs.mkdtempSync(path.join(process.env['TMPDIR'] ?? '/tmp', 'dtrain-health-')), 'beat');
  try {
    if (age !== undefined) {
      const then = Date.now() / 1000 - age;
      fs.writeFileSync(file, '1\n');
      fs.utimesSync(file, then, then);
    }
    const env = { PATH: process.env['PATH'], DTRAIN_HEARTBEAT: file };
    const { status, stdout } = spawnSync(path.join(root, 'docker/health-check.sh'), words, { env, encoding: 'utf8' });
    return [status, stdout.replace(file, 'FILE')];
  } finally {
    fs.rmSync(path.dirname(file), { recursive: true, force: true });
  }
}

test('health-check.sh: fresh, old, none', () => {
  assert.deepEqual(health(5), [0, '']);
  assert.deepEqual(health(100, '120'), [0, '']);
  const [status, told] = health(100);
  assert.equal(status, 1);
  assert.match(String(told), /^the last heartbeat is 10[0-2] s old, expected at most 60 s\n$/);
  assert.deepEqual(health(undefined), [1, 'no heartbeat: FILE is not there\n']);
});
