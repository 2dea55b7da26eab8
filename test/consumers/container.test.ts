/**
 * The steps of the Dockerfile without an engine: its scripts build the package, fetch the library and make a root, and in that root, read-only and
 * as its user, dtrain trains. Needs root, `unshare` and the package registries. Tells what the parts of the image take.
 */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const REPOSITORY = fileURLToPath(new URL('../../../', import.meta.url));
/** What the base image has of what the steps and dtrain call. */
const PROGRAMS = [process.execPath, '/bin/sh', '/usr/bin/stat', '/usr/bin/date', '/usr/bin/env'];
const MOST_MIBIBYTES = 1300;

const can = process.getuid?.() === 0 && spawnSync('unshare', ['--mount', 'true']).status === 0;

test('the steps of the image make a root in which dtrain trains, read-only and as its user', {
  timeout: 900_000,
  skip: can ? false : 'needs root and unshare',
}, () => {
  const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'dtrain-container-'));
  try {
    const [app, root] = [path.join(scratch, 'app'), path.join(scratch, 'root')];
    copySources(app);
    const step = (script: string, ...words: string[]) =>
      execFileSync(path.join(app, 'docker', script), words, { cwd: app, stdio: ['ignore', 'ignore', 'inherit'] });
    step('build.sh');
    step('library.sh', 'cpu', path.join(root, 'opt/tensorflow'));
    step('package.sh', app, path.join(root, 'app'));
    makeBase(root);
    step('user.sh', root);

    const sizes = ['opt/tensorflow', 'app/node_modules', 'app'].map(
      (part) => [part, mebibytes(path.join(root, part))] as const,
    );
    const nodeSize = mebibytes(process.execPath);
    process.stdout.write(`# MiB: ${sizes.map(([part, size]) => `${part} ${size}`).join(', ')}, node ${nodeSize}\n`);
    // The base image without node has about 80 MiB.
    assert(mebibytes(root) + 80 < MOST_MIBIBYTES, `${mebibytes(root)} MiB`);

    const train =
      'node /app/dist/src/cli/main.js --config quickstart data.name=synthetic train.maxSteps=2 --cpus 1 --run-dir runs/a';
    const beating = '/app/docker/health-check.sh 60';
    const { status, stdout, stderr } = inRoot(
      root,
      `${beating} && exit 9; touch /app/x 2>/dev/null && exit 8; (${train} && echo trained) & while ! ${beating} >/dev/null; do sleep 0.1; done; echo beats; wait; ${beating}; ls runs/a`,
    );
    assert.equal(status, 0, stdout + stderr);
    for (const told of ['no heartbeat: /tmp/dtrain-heartbeat is not there', 'beats', 'trained', 'checkpoints']) {
      assert(stdout.includes(told), `${told}\n${stdout}${stderr}`);
    }
  } finally {
    fs.rmSync(scratch, { recursive: true, force: true });
  }
});

/** What `COPY . .` sees: the files of the repository without those that .dockerignore names. */
function copySources(to: string): void {
  const ignored = fs.readFileSync(path.join(REPOSITORY, '.dockerignore'), 'utf8').split('\n').filter(Boolean);
  const files = execFileSync('git', ['ls-files'], { cwd: REPOSITORY, encoding: 'utf8' }).trim().split('\n');
  for (const file of files) {
    if (ignored.some((name) => file === name || file.startsWith(`${name}/`))) continue;
    fs.mkdirSync(path.join(to, path.dirname(file)), { recursive: true });
    fs.copyFileSync(path.join(REPOSITORY, file), path.join(to, file));
  }
}

/** The programs with the libraries that they and the native packages load. */
function makeBase(root: string): void {
  for (const folder of ['usr/bin', 'bin', 'etc', 'tmp', 'proc', 'dev', 'lib64'])
    fs.mkdirSync(path.join(root, folder), { recursive: true });
  const more = ['/bin/ls', '/usr/bin/sleep', '/usr/bin/touch'];
  for (const program of [...PROGRAMS, ...more]) {
    fs.copyFileSync(
      fs.realpathSync(program),
      path.join(root, program.endsWith('/sh') ? 'bin/sh' : `usr/bin/${path.basename(program)}`),
    );
  }
  const natives = execFileSync(
    'find',
    [path.join(root, 'app'), path.join(root, 'opt'), '-name', '*.node', '-o', '-name', '*.so*'],
    { encoding: 'utf8' },
  );
  const loaders = [...PROGRAMS, ...more, ...natives.trim().split('\n')];
  const libraries = new Set(
    loaders.flatMap((file) =>
      [...(spawnSync('ldd', [file], { encoding: 'utf8' }).stdout ?? '').matchAll(/(\/\S+)/g)].map(
        ([, found]) => found!,
      ),
    ),
  );
  for (const library of libraries) {
    if (library.startsWith(root) || library.endsWith(':') || !fs.existsSync(library)) continue;
    fs.mkdirSync(path.join(root, path.dirname(library)), { recursive: true });
    fs.copyFileSync(fs.realpathSync(library), path.join(root, library));
  }
}

/** Runs a line of the shell in `root` as the image would: its user, its environment, and a root that cannot be written. */
function inRoot(root: string, line: string) {
  const memory = (folder: string) => `mount -t tmpfs -o uid=10001,gid=10001 none ${root}/${folder}`;
  const mounts = [
    `mount --bind ${root} ${root}`,
    `mount -o remount,bind,ro ${root}`,
    ...['tmp', 'cache', 'workspace/runs'].map(memory),
    `mount --rbind /dev ${root}/dev`,
    `mount -t proc none ${root}/proc`,
  ];
  const env =
    'PATH=/usr/bin:/bin DTRAIN_TENSORFLOW_LIB=/opt/tensorflow/tensorflow DTRAIN_HOME=/cache DTRAIN_HEARTBEAT=/tmp/dtrain-heartbeat';
  const inside = `cd /workspace && ${line}`;
  const words = [
    '--mount',
    '--pid',
    '--fork',
    '/bin/sh',
    '-ec',
    `${mounts.join('; ')}; exec chroot --userspec=10001:10001 ${root} /usr/bin/env -i ${env} /bin/sh -c '${inside}'`,
  ];
  return spawnSync('unshare', words, { encoding: 'utf8', timeout: 300_000 });
}

function mebibytes(file: string): number {
  return Math.round(Number(execFileSync('du', ['-s', '--block-size=1M', file], { encoding: 'utf8' }).split('\t')[0]));
}
