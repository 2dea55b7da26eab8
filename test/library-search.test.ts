/** The order in which TensorFlow's library is looked for, and the message when it is nowhere. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, beforeEach, test } from 'node:test';
import { installFolder, type LibraryVariant, MANIFEST_NAME } from '../src/tensorflow/install-manifest.js';
import { findLibrary } from '../src/tensorflow/library-search.js';

const root = fs.mkdtempSync(path.join(os.tmpdir(), 'dtrain-search-'));
after(() => fs.rmSync(root, { recursive: true }));

let box: string;
let env: NodeJS.ProcessEnv;
beforeEach(() => {
  box = fs.mkdtempSync(path.join(root, 'case-'));
  env = { DTRAIN_HOME: path.join(box, 'home'), PATH: path.join(box, 'bin') };
});

function writeFile(file: string, text = 'library', mode = 0o644): string {
  fs.mkdirSync(path.dirname(file), { recursive: true });
  fs.writeFileSync(file, text, { mode });
  return file;
}

function installed(variant: LibraryVariant): string {
  const folder = installFolder(env['DTRAIN_HOME']!, variant);
  const files = [{ path: 'tensorflow/libtensorflow_cc.so.2', bytes: 7, sha256: '' }];
  writeFile(path.join(folder, MANIFEST_NAME), JSON.stringify({ tensorflow: '2.21.0', variant, files }));
  return writeFile(path.join(folder, 'tensorflow', 'libtensorflow_cc.so.2'));
}

/** TensorFlow in site-packages, as pip installs it. */
function sitePackages(prefix: string, distribution = 'tensorflow_cpu-2.21.0'): string {
  const folder = path.join(prefix, 'lib', 'python3.12', 'site-packages');
  writeFile(path.join(folder, `${distribution}.dist-info`, 'METADATA'));
  return writeFile(path.join(folder, 'tensorflow', 'libtensorflow_cc.so.2'));
}

test('DTRAIN_TENSORFLOW_LIB wins: the file, or the folder that holds it', () => {
  installed('cpu');
  const file = writeFile(path.join(box, 'own', 'libtensorflow_cc.so.2'));
  const expected = { path: file, variant: 'cpu', source: 'DTRAIN_TENSORFLOW_LIB' };
  assert.deepEqual(findLibrary({ ...env, DTRAIN_TENSORFLOW_LIB: file }, false), expected);
  assert.deepEqual(findLibrary({ ...env, DTRAIN_TENSORFLOW_LIB: path.dirname(file) }, false), expected);
});

test('a wrong DTRAIN_TENSORFLOW_LIB is an error even where another library is installed', () => {
  installed('cpu');
  assert.throws(() => findLibrary({ ...env, DTRAIN_TENSORFLOW_LIB: '/nowhere' }, false), {
    code: 'DTRAIN_LIBRARY_MISSING',
    exitCode: 4,
    message:
      'DTRAIN_TENSORFLOW_LIB: expected libtensorflow_cc.so.2 of version 2.21.0 or a folder that holds it, got /nowhere, which does not exist. Correct the variable, or unset it and run dtrain setup.',
  });
  assert.throws(() => findLibrary({ ...env, DTRAIN_TENSORFLOW_LIB: box }, false), /which holds none\./);
});

test('the cache folder: the GPU build first only where there is a driver', () => {
  const [cpu, gpu] = [installed('cpu'), installed('gpu')];
  assert.deepEqual(findLibrary(env, false), {
    path: cpu,
    variant: 'cpu',
    source: installFolder(env['DTRAIN_HOME']!, 'cpu'),
  });
  assert.deepEqual(findLibrary(env, true), {
    path: gpu,
    variant: 'gpu',
    source: installFolder(env['DTRAIN_HOME']!, 'gpu'),
  });
  fs.truncateSync(gpu, 1);
  assert.equal(findLibrary(env, true).path, cpu, 'an incomplete installation is passed over');
});

test('the cache comes before the active Python environment, VIRTUAL_ENV before CONDA_PREFIX', () => {
  const conda = sitePackages(path.join(box, 'conda'), 'tensorflow-2.21.0');
  const withConda = { ...env, CONDA_PREFIX: path.join(box, 'conda') };
  const folder = path.dirname(path.dirname(conda));
  assert.deepEqual(findLibrary(withConda, false), { path: conda, variant: 'cpu', source: `CONDA_PREFIX: ${folder}` });
  const virtual = sitePackages(path.join(box, 'venv'));
  const withBoth = { ...withConda, VIRTUAL_ENV: path.join(box, 'venv') };
  assert.equal(findLibrary(withBoth, false).path, virtual);
  const cpu = installed('cpu');
  assert.equal(findLibrary(withBoth, false).path, cpu);
});

test("NVIDIA's libraries beside it make it a GPU build", () => {
  const file = sitePackages(path.join(box, 'venv'), 'tensorflow-2.21.0');
  fs.mkdirSync(path.join(path.dirname(file), '..', 'nvidia'));
  assert.equal(findLibrary({ ...env, VIRTUAL_ENV: path.join(box, 'venv') }, true).variant, 'gpu');
});

test('python3 is the last resort', () => {
  const file = sitePackages(path.join(box, 'python'));
  writeFile(path.join(box, 'bin', 'python3'), `#!/bin/bash\necho ${path.dirname(file)}\n`, 0o755);
  assert.deepEqual(findLibrary(env, false), {
    path: file,
    variant: 'cpu',
    source: `python3: ${path.dirname(path.dirname(file))}`,
  });
});

test('a bundle whose parts are coming: how many were taken', () => {
  const staging = path.join(env['DTRAIN_HOME']!, 'tensorflow', '.bundle-2.21.0-cpu-3f2a91c0');
  const taken = { bundle: '3f2a91c0'.padEnd(64, '0'), parts: 12, taken: [1, 2, 5] };
  writeFile(path.join(staging, 'taken.json'), JSON.stringify(taken));
  assert.throws(
    () => findLibrary(env, false),
    /2\.21\.0-cpu: 3 of 12 parts of bundle 3f2a91c0 were taken\n.*2\.21\.0-gpu: not installed\n/,
  );
});

test('nothing found: the places searched, why each will not do, and the command that cures', () => {
  sitePackages(path.join(box, 'venv'), 'tensorflow-2.17.0');
  const truncated = installed('cpu');
  fs.truncateSync(truncated, 1);
  const searched = { ...env, VIRTUAL_ENV: path.join(box, 'venv'), CONDA_PREFIX: path.join(box, 'conda') };
  assert.throws(() => findLibrary(searched, false), {
    code: 'DTRAIN_LIBRARY_MISSING',
    exitCode: 4,
    message: [
      'TensorFlow: expected the C library libtensorflow_cc.so.2 of version 2.21.0, found none. Install it: dtrain setup, or without a network: dtrain setup --from-bundle DIR',
      'Searched:',
      '  DTRAIN_TENSORFLOW_LIB: not set',
      `  ${box}/home/tensorflow/2.21.0-cpu: incomplete`,
      `  ${box}/home/tensorflow/2.21.0-gpu: not installed`,
      `  VIRTUAL_ENV: ${box}/venv/lib/python3.12/site-packages: TensorFlow 2.17.0, expected 2.21.0`,
      `  CONDA_PREFIX=${box}/conda: no lib/python3.*/site-packages`,
      '  python3: does not run',
    ].join('\n'),
  });
});
