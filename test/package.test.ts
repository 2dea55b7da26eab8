/** The npm package as it would be published: what its manifest names is in it, what it needs at run time too, and nothing of the tests. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import { isBuiltin } from 'node:module';
import path from 'node:path';
import { before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { importsOf, withoutComments } from './support/source-graph.js';

const root = fileURLToPath(new URL('../../', import.meta.url));
const manifest = JSON.parse(fs.readFileSync(path.join(root, 'package.json'), 'utf8')) as {
  bin: { dtrain: string };
  exports: { '.': { types: string; default: string } };
  type: string;
  engines: { node: string };
  dependencies: Record<string, string>;
  scripts: Record<string, string>;
};
let files: Map<string, number>;

before(() => {
  const out = execFileSync('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], { cwd: root, stdio: 'pipe' });
  const [packed] = JSON.parse(out.toString()) as { files: { path: string; mode: number }[] }[];
  files = new Map(packed!.files.map(({ path: file, mode }) => [file, mode]));
});

const has = (file: string) => files.has(path.posix.normalize(file));

test('entry, types and command are there, the command executable and with its first line', () => {
  const { types, default: entry } = manifest.exports['.'];
  assert.deepEqual(Object.keys(manifest.exports['.']), ['types', 'default'], 'types come first');
  for (const file of [types, entry, manifest.bin.dtrain, 'package.json', 'LICENSE', 'CHANGELOG.md'])
    assert(has(file), file);
  assert.equal(files.get(manifest.bin.dtrain)! & 0o111, 0o111);
  assert.match(fs.readFileSync(path.join(root, manifest.bin.dtrain), 'utf8'), /^#!\/usr\/bin\/env node\n/);
  assert.deepEqual([manifest.type, manifest.engines.node], ['module', '>=20.19']);
});

test('files that the code reads are there: configurations, kernel, requirements, the page', () => {
  const configs = fs
    .readdirSync(path.join(root, 'configs'), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.relative(root, path.join(entry.parentPath, entry.name)));
  const page = ['page.css', 'page.js'].map((name) => `dist/src/report/page/${name}`);
  const requirements = ['cpu.txt', 'gpu.txt'].map((name) => `dist/src/tensorflow/requirements/${name}`);
  const bundle = ['install.sh', 'launch.sh'].map((name) => `dist/src/bundle/${name}`);
  for (const file of [...configs, ...page, ...requirements, ...bundle, 'dist/src/collective/all-reduce.wasm'])
    assert(has(file), file);
});

test('every import of the code leads to a file of the package or to a dependency', () => {
  let checked = 0;
  for (const file of files.keys()) {
    if (!file.startsWith('dist/src/') || !file.endsWith('.js') || file.includes('/page/')) continue;
    const text = withoutComments(fs.readFileSync(path.join(root, file), 'utf8'));
    for (const imported of importsOf(text)) {
      if (!imported.startsWith('.')) continue;
      assert(has(path.posix.join(path.posix.dirname(file), imported)), `${file} imports ${imported}`);
      checked += 1;
    }
  }
  assert(checked > 300, `${checked} imports`);
});

test('the kernels of tfjs-node-gpu are there, what they import too, and not its install script', () => {
  const folder = 'dist/node_modules/@tensorflow/tfjs-node-gpu';
  const kernels = [...files.keys()].filter((file) => file.startsWith(folder) && file.endsWith('.js'));
  assert(kernels.length > 150, `${kernels.length} kernels`);
  for (const kernel of kernels) {
    const text = fs.readFileSync(path.join(root, kernel), 'utf8');
    for (const [, imported] of text.matchAll(/\brequire\(['"]([^'"]+)['"]\)/g)) {
      const isThere = imported!.startsWith('.')
        ? has(`${path.posix.join(path.posix.dirname(kernel), imported!)}.js`)
        : imported! in manifest.dependencies || isBuiltin(imported!) || imported === '@tensorflow/tfjs-core';
      assert(isThere, `${kernel} requires ${imported}`);
    }
  }
  const own = JSON.parse(fs.readFileSync(path.join(root, folder, 'package.json'), 'utf8')) as Record<string, unknown>;
  assert.deepEqual(
    [own['name'], own['scripts'], own['license']],
    ['@tensorflow/tfjs-node-gpu', undefined, 'Apache-2.0'],
  );
  assert(!('@tensorflow/tfjs-node-gpu' in manifest.dependencies));
});

test('nothing of the tests and benches, no script that runs when it is installed', () => {
  assert.deepEqual(
    [...files.keys()].filter((file) => /^(dist\/)?(test|bench|scripts)\//.test(file)),
    [],
  );
  for (const name of ['preinstall', 'install', 'postinstall', 'prepare']) assert(!(name in manifest.scripts), name);
});
