/**
 * The shape of the source, held by a machine: layers point down, nothing goes in circles, each dependency has one door, and what must stay
 * in few places does.
 */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import {
  filesWith,
  findCycles,
  findWrongDirections,
  folderOf,
  importGraph,
  importsOf,
  packagesOf,
  readSources,
  staticImportsOf,
  withoutComments,
} from './support/source-graph.js';

const root = fileURLToPath(new URL('../../', import.meta.url));
const sources = readSources(path.join(root, 'src'));
const graph = importGraph(sources);

/** From the lowest; a file imports from its own folder or from layers below. `.` is the package's entry. */
const LAYERS = [
  ['core'],
  ['config'],
  ['tensorflow'],
  ['bundle'],
  ['graph'],
  ['model', 'optim', 'data', 'collective'],
  ['train'],
  ['export', 'report'],
  ['cluster'],
  ['run'],
  ['cli', '.'],
] as const;

/** The file, or the folder with a stroke at its end, that may import a dependency. */
const DOORS: Readonly<Record<string, string>> = {
  '@napi-rs/lzma': 'data/xz.ts',
  '@tensorflow/tfjs': 'graph/',
  '@tensorflow/tfjs-node-gpu': 'graph/',
  hyparquet: 'data/parquet.ts',
  koffi: 'tensorflow/c-api.ts',
  'modern-tar': 'data/archive.ts',
  msgpackr: 'train/state-file.ts',
  piscina: 'run/rank-pool.ts',
  sharp: 'data/decode-images.ts',
  yaml: 'config/yaml-tree.ts',
  yargs: 'cli/command-line.ts',
  zod: 'config/schema.ts',
};

/** Built into dist/node_modules (scripts/build.mjs): a devDependency, and what its kernels themselves import. */
const BUILT_IN = { name: '@tensorflow/tfjs-node-gpu', imports: ['google-protobuf'] };

/** Files outside cli that are the entry of a process of their own. */
const PROCESS_ENTRIES = ['run/bench-data-process.ts', 'run/bench-step-process.ts', 'run/engine-main.ts'];
/** Acts out an injected fault: a thread that exits, a rank that stalls. */
const FAULTS = ['run/rank-worker.ts'];

test('there is something to look at', () => {
  assert.ok(sources.size > 50, `${sources.size} files`);
  for (const folders of LAYERS) {
    for (const folder of folders) {
      if (folder !== '.')
        assert.ok(
          [...sources.keys()].some((file) => folderOf(file) === folder),
          `no files in ${folder}`,
        );
    }
  }
});

test('every folder has its layer, every import its file', () => {
  const known: readonly string[] = LAYERS.flat();
  for (const [file, imports] of graph) {
    assert.ok(known.includes(folderOf(file)), `${file} is in no layer`);
    for (const imported of imports)
      assert.ok(sources.has(imported), `${file} imports ${imported}, which does not exist`);
  }
});

test('imports go down', () => {
  assert.deepEqual(findWrongDirections(graph, LAYERS), []);
});

test('data and collective need only core', () => {
  for (const [file, imports] of graph) {
    if (!['data', 'collective'].includes(folderOf(file))) continue;
    for (const imported of imports)
      assert.ok(['core', folderOf(file)].includes(folderOf(imported)), `${file} imports ${imported}`);
  }
});

test('no import cycles, those by types alone included; a command may load late what knows the commands', () => {
  assert.deepEqual(findCycles(importGraph(sources, staticImportsOf)), []);
});

test('every dependency has one door', () => {
  const manifest = JSON.parse(fs.readFileSync(path.join(root, 'package.json'), 'utf8')) as Record<
    'dependencies' | 'devDependencies',
    Record<string, string>
  >;
  const dependencies = Object.keys(manifest.dependencies).filter((name) => !BUILT_IN.imports.includes(name));
  assert.ok(BUILT_IN.name in manifest.devDependencies);
  const expected = [...dependencies, BUILT_IN.name].sort();
  assert.deepEqual(Object.keys(DOORS).sort(), expected, 'doors and package.json');
  const used = new Set<string>();
  for (const [file, text] of sources) {
    for (const name of packagesOf(text)) {
      const door = DOORS[name];
      assert.ok(door !== undefined, `${file} imports ${name}, which is no dependency`);
      assert.ok(
        door.endsWith('/') ? file.startsWith(door) : file === door,
        `${file} imports ${name}, whose door is ${door}`,
      );
      used.add(name);
    }
  }
  assert.deepEqual([...used].sort(), expected, 'every dependency is used');
});

test('dependencies are pinned', () => {
  const manifest = JSON.parse(fs.readFileSync(path.join(root, 'package.json'), 'utf8')) as Record<
    'dependencies' | 'devDependencies',
    Record<string, string>
  >;
  for (const [name, version] of Object.entries({ ...manifest.dependencies, ...manifest.devDependencies })) {
    assert.match(version, /^\d+\.\d+\.\d+$/, name);
  }
});

test('no two files share a name, none is called utils or index', () => {
  const names = [...sources.keys()].map((file) => path.basename(file));
  assert.deepEqual(
    names.filter((name, i) => names.indexOf(name) !== i),
    [],
  );
  assert.deepEqual(
    [...sources.keys()].filter((file) => /(^|\/)(utils?|helpers?|common)\.ts$|\/index\.ts$/.test(file)),
    [],
  );
});

test('what must stay in few places', () => {
  const onlyIn = (pattern: RegExp, isAllowed: (file: string) => boolean) =>
    assert.deepEqual(
      filesWith(sources, pattern).filter((file) => !isAllowed(file)),
      [],
      String(pattern),
    );
  const oneOf = (files: readonly string[]) => (file: string) => files.includes(file);
  const isEntry = (file: string) => folderOf(file) === 'cli' || PROCESS_ENTRIES.includes(file);

  onlyIn(/\bAtomics\.wait\(/, oneOf(['collective/barrier.ts', 'data/stream-ring.ts', ...FAULTS]));
  onlyIn(/\bMath\.random\b/, oneOf(['graph/random-source.ts'])); // where it is seeded or refused
  onlyIn(/\bperformance\.now\b|\bprocess\.hrtime\b/, oneOf(['core/clock.ts']));
  onlyIn(/\bprocess\.(stdout|stderr)\b|\bconsole\.(log|error|warn|info)\b/, isEntry);
  onlyIn(/\bprocess\.(exit\b|abort\b|exitCode\b)/, (file) => isEntry(file) || FAULTS.includes(file));
  const environment = [
    'core/home.ts',
    'tensorflow/library.ts',
    'tensorflow/install.ts',
    'data/locate.ts',
    'run/assemble.ts',
    'run/decoder-pool.ts',
  ];
  onlyIn(/\bprocess\.env\b/, (file) => isEntry(file) || environment.includes(file));
  onlyIn(/\bterminate\(\)/, () => false);
});

test('no default exports, no any, no suppressed type errors', () => {
  assert.deepEqual(filesWith(sources, /\bexport default\b/), []);
  assert.deepEqual(filesWith(sources, /[:<,(]\s*any\b(?!\w)|\bas any\b/), []);
  const texts = readSources(path.join(root, 'test'));
  assert.deepEqual(filesWith(texts, /\bas any\b/), []);
  for (const file of sources.keys()) {
    const text = fs.readFileSync(path.join(root, 'src', file), 'utf8');
    assert.ok(!/@ts-(ignore|nocheck|expect-error)/.test(text), `${file} suppresses type errors`);
    assert.match(text, /^(#!.*\n)?\/\*\*/, `${file} does not open with what it is`);
  }
});

test('these checks can fail', () => {
  const bad = new Map([
    ['data/a.ts', "import { b } from '../model/b.js';\nimport koffi from 'koffi';"],
    ['model/b.ts', "export * from '../data/a.js';\nconst c = await import('../core/c.js');"],
    ['core/c.ts', "import type {\n  D,\n} from '../model/b.js'; // import 'not-this'"],
  ]);
  const edges = importGraph(bad);
  assert.deepEqual(findWrongDirections(edges, LAYERS), [
    'data/a.ts imports model/b.ts',
    'model/b.ts imports data/a.ts',
    'core/c.ts imports model/b.ts',
  ]);
  assert.deepEqual(findCycles(edges), ['data/a.ts > model/b.ts > data/a.ts', 'model/b.ts > core/c.ts > model/b.ts']);
  assert.deepEqual(packagesOf("import x from '@scope/name/deep/file.js'; require('koffi')"), ['@scope/name', 'koffi']);
  assert.deepEqual(staticImportsOf(bad.get('model/b.ts')!), ['../data/a.js']);
  assert.deepEqual(importsOf(withoutComments("/* import 'a' */ // import 'b'\nimport 'c';")), ['c']);
  assert.deepEqual(filesWith(bad, /koffi/), ['data/a.ts']);
});
