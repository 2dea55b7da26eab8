/** Bundles of small made-up libraries and programs: written, carried part by part, installed, and everything that can be wrong with them. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { beforeEach, test } from 'node:test';
import { type BundleManifest, identified, partName } from '../src/bundle/bundle-manifest.js';
import { installBundle } from '../src/bundle/install-bundle.js';
import { isLoaded, LEFT_OUT } from '../src/bundle/loaded-files.js';
import { portableNode } from '../src/bundle/portable-node.js';
import { programFiles } from '../src/bundle/program-files.js';
import { tarArchive } from '../src/bundle/tar-archive.js';
import { writeBundle } from '../src/bundle/write-bundle.js';
import { DtrainError } from '../src/core/errors.js';
import { installFolder, MANIFEST_NAME, readInstallation } from '../src/tensorflow/install-manifest.js';
import { findLibrary } from '../src/tensorflow/library-search.js';
import { SeededRandom } from './support/seeded-random.js';
import { temporaryFolder } from './support/train-run.js';

let box: string;
let bundle: string;
let cache: string;
let said: string[];
beforeEach(() => {
  box = temporaryFolder();
  bundle = path.join(box, 'bundle');
  cache = path.join(box, 'cache');
  said = [];
});

const say = (line: string) => said.push(line);

function write(file: string, content: string | Uint8Array, mode = 0o644): string {
  fs.mkdirSync(path.dirname(file), { recursive: true });
  fs.writeFileSync(file, content, { mode });
  return file;
}

/** Half of it compresses. */
function bytesOf(seed: number, count: number): Buffer {
  const random = new SeededRandom(seed);
  return Buffer.from(Uint8Array.from({ length: count }, (_, i) => (i % 200 < 100 ? random.below(256) : 7)));
}

const LIBRARY: Readonly<Record<string, Buffer>> = {
  'tensorflow/LICENSE': Buffer.from('licence'),
  'tensorflow/empty.txt': Buffer.alloc(0),
  'tensorflow/libtensorflow_cc.so.2': bytesOf(1, 16000),
  'tensorflow/libtensorflow_framework.so.2': bytesOf(2, 2500),
};

/** An installation as `dtrain setup` leaves it. */
function installed(files = LIBRARY): string {
  const folder = installFolder(path.join(box, 'here'), 'cpu');
  const listed = Object.entries(files).map(([name, content]) => {
    write(path.join(folder, name), content, name.includes('.so') ? 0o755 : 0o644);
    return { path: name, bytes: content.length, sha256: createHash('sha256').update(content).digest('hex') };
  });
  write(path.join(folder, MANIFEST_NAME), JSON.stringify({ tensorflow: '2.21.0', variant: 'cpu', files: listed }));
  return folder;
}

/** A program that says what it was called with. */
function smallProgram(): string {
  const root = path.join(box, 'program');
  write(path.join(root, 'package.json'), JSON.stringify({ name: 'dtrain', version: '9.9.9', files: ['dist'] }));
  write(path.join(root, 'dist/src/cli/main.js'), `console.log('dtrain', ...process.argv.slice(2));`);
  write(path.join(root, 'dist/noise.bin'), bytesOf(3, 9000));
  return root;
}

function make(more: Partial<Parameters<typeof writeBundle>[0]> = {}): Promise<BundleManifest> {
  const library = more.library ?? installed();
  const program = smallProgram();
  return writeBundle({ folder: bundle, partBytes: 2000, library, variant: 'cpu', program, node: null, say, ...more });
}

function install(folder = bundle, asked: 'cpu' | 'gpu' | null = null) {
  return installBundle({ folder, cacheFolder: cache, asked, say });
}

function partFile(manifest: BundleManifest, number: number, folder = bundle): string {
  return path.join(folder, partName(manifest, 'library', number));
}

/** A folder into which the test copies the parts of the bundle. */
function arrivals(manifest: BundleManifest, numbers: readonly number[]): string {
  const folder = path.join(box, 'arrivals');
  write(path.join(folder, 'bundle.json'), fs.readFileSync(path.join(bundle, 'bundle.json')));
  for (const number of numbers) fs.cpSync(partFile(manifest, number), partFile(manifest, number, folder));
  return folder;
}

async function failure(promise: Promise<unknown>): Promise<{ code: string; exitCode: number; message: string }> {
  const thrown = await promise.then(
    () => assert.fail('expected an error'),
    (error: unknown) => error,
  );
  if (!(thrown instanceof DtrainError)) throw thrown;
  assert.equal(readInstallation(installFolder(cache, 'cpu')), null, 'nothing half installed');
  return { code: thrown.code, exitCode: thrown.exitCode, message: thrown.message };
}

function assertInstalled(files = LIBRARY): void {
  const folder = installFolder(cache, 'cpu');
  for (const [name, content] of Object.entries(files))
    assert.deepEqual(fs.readFileSync(path.join(folder, name)), content, name);
  assert.equal(fs.statSync(path.join(folder, 'tensorflow/libtensorflow_cc.so.2')).mode & 0o777, 0o755);
  assert.equal(fs.statSync(path.join(folder, 'tensorflow/LICENSE')).mode & 0o777, 0o644);
  assert.deepEqual(fs.readdirSync(path.dirname(folder)), ['2.21.0-cpu'], 'no lock, no hidden folder');
}

test('there and back: parts no larger than asked, the same files, found by the search, safe to repeat', async () => {
  const manifest = await make();
  const id = manifest.id.slice(0, 8);
  const { length } = manifest.library.parts;
  assert(length >= 4 && manifest.program.parts.length >= 3, 'several parts of each kind');
  const names = fs.readdirSync(bundle);
  assert.equal(names.length, length + manifest.program.parts.length + 3);
  for (const name of names.filter((name) => name.startsWith('dtrain-')))
    assert(fs.statSync(path.join(bundle, name)).size <= 2000, name);
  const { folder, installed: isNew } = await install();
  assert.equal(isNew, true);
  assertInstalled();
  assert.equal(readInstallation(folder)?.bundle, id);
  assert.equal(findLibrary({ DTRAIN_HOME: cache, PATH: '' }, false).source, folder);
  said = [];
  assert.deepEqual(await install(), { folder, installed: false });
  assert.deepEqual(said, [`bundle ${id} (TensorFlow 2.21.0, cpu): TensorFlow is already installed in ${folder}`]);
});

test('the same library and program make the same bytes', async () => {
  const first = await make();
  const other = path.join(box, 'again');
  assert.deepEqual(await make({ folder: other }), first);
  for (const name of fs.readdirSync(bundle))
    assert.deepEqual(fs.readFileSync(path.join(other, name)), fs.readFileSync(path.join(bundle, name)), name);
});

test('parts come one by one, in any order; one that was taken need not stay', async () => {
  const manifest = await make();
  const count = manifest.library.parts.length;
  const id = manifest.id.slice(0, 8);
  const folder = arrivals(manifest, [3]);
  assert.deepEqual(await failure(install(folder)), {
    code: 'DTRAIN_BUNDLE_INCOMPLETE',
    exitCode: 4,
    message: [
      `${folder}: bundle ${id} (TensorFlow 2.21.0, cpu): 1 of ${count} parts were taken, and need not stay.`,
      `  missing: dtrain-${id}-library-001 to 002, dtrain-${id}-library-004 to ${String(count).padStart(3, '0')}`,
      `Copy what is missing, too short or damaged into that folder, then run dtrain setup --from-bundle ${folder} again.`,
    ].join('\n'),
  });
  fs.rmSync(partFile(manifest, 3, folder));
  for (let number = count; number >= 1; number--) {
    if (number === 3) continue;
    arrivals(manifest, [number]);
    if (number > 1) {
      assert.equal((await failure(install(folder))).code, 'DTRAIN_BUNDLE_INCOMPLETE');
      fs.rmSync(partFile(manifest, number, folder));
    }
  }
  said = [];
  assert.equal((await install(folder)).installed, true);
  assert.equal(said[0], `bundle ${id} (TensorFlow 2.21.0, cpu): ${count - 1} of ${count} parts were taken before`);
  assertInstalled();
});

test('what is wrong with a part is told, and the good ones are taken', async () => {
  const manifest = await make();
  const other = await make({
    folder: path.join(box, 'other'),
    library: installed({ ...LIBRARY, 'tensorflow/LICENSE': Buffer.from('another') }),
  });
  const [id, otherId] = [manifest.id.slice(0, 8), other.id.slice(0, 8)];
  const count = manifest.library.parts.length;
  const folder = arrivals(
    manifest,
    Array.from({ length: count }, (_, i) => i + 1),
  );
  const first = partFile(manifest, 1, folder);
  const whole = fs.readFileSync(first);
  const flipped = Buffer.from(whole);
  flipped[700]! ^= 1;
  fs.writeFileSync(first, flipped);
  fs.truncateSync(partFile(manifest, 2, folder), 100);
  fs.appendFileSync(partFile(manifest, 3, folder), 'x');
  fs.rmSync(partFile(manifest, 4, folder));
  fs.cpSync(partFile(other, 4, path.join(box, 'other')), partFile(other, 4, folder));
  const [two, three] = [manifest.library.parts[1]!.bytes, manifest.library.parts[2]!.bytes];
  assert.deepEqual(await failure(install(folder)), {
    code: 'DTRAIN_BUNDLE_DAMAGED',
    exitCode: 4,
    message: [
      `${folder}: bundle ${id} (TensorFlow 2.21.0, cpu): ${count - 4} of ${count} parts were taken, and need not stay.`,
      `  missing: dtrain-${id}-library-004`,
      `  damaged: dtrain-${id}-library-001 (its SHA-256 is another)`,
      `  too short, perhaps still being copied: dtrain-${id}-library-002 (100 of ${two} bytes)`,
      `  damaged: dtrain-${id}-library-003 (expected ${three} bytes, got ${three + 1})`,
      `  of another bundle, and of no use here: dtrain-${otherId}-library-004`,
      `Copy what is missing, too short or damaged into that folder, then run dtrain setup --from-bundle ${folder} again.`,
    ].join('\n'),
  });
  for (const name of [1, 2, 3, 4]) fs.cpSync(partFile(manifest, name), partFile(manifest, name, folder));
  assert.equal((await install(folder)).installed, true);
  assertInstalled();
});

test('every single flipped bit of a part is noticed', async () => {
  const manifest = await make();
  const folder = arrivals(manifest, [1]);
  const file = partFile(manifest, 1, folder);
  const whole = fs.readFileSync(file);
  for (let at = 0; at < whole.length; at += 131) {
    const flipped = Buffer.from(whole);
    flipped[at]! ^= 1 << (at % 8);
    fs.writeFileSync(file, flipped);
    assert.equal((await failure(install(folder))).code, 'DTRAIN_BUNDLE_DAMAGED', `byte ${at}`);
  }
});

test('taken, then damaged on the disk: found at the end, and nothing of it is kept', async () => {
  const manifest = await make();
  const count = manifest.library.parts.length;
  const folder = arrivals(
    manifest,
    Array.from({ length: count - 1 }, (_, i) => i + 1),
  );
  await failure(install(folder));
  const staging = path.join(cache, 'tensorflow', `.bundle-2.21.0-cpu-${manifest.id.slice(0, 8)}`);
  fs.writeFileSync(path.join(staging, 'files/tensorflow/LICENSE'), 'Licence');
  const removed = path.join(staging, 'files/tensorflow/libtensorflow_framework.so.2');
  fs.rmSync(removed);
  const { code, message } = await failure(install());
  assert.equal(code, 'DTRAIN_BUNDLE_DAMAGED');
  assert.equal(
    message,
    'TensorFlow: tensorflow/LICENSE, tensorflow/libtensorflow_framework.so.2: unpacked from good parts, yet not what was packed; removed. Check the disk of the cache folder, then run the command again with all parts.',
  );
  assert.deepEqual(fs.readdirSync(path.join(cache, 'tensorflow')), []);
  await install();
  assertInstalled();
});

test('killed before a part was noted: that part is taken again; what came of another bundle is removed', async () => {
  const manifest = await make();
  const parent = path.join(cache, 'tensorflow');
  const staging = path.join(parent, `.bundle-2.21.0-cpu-${manifest.id.slice(0, 8)}`);
  write(path.join(staging, 'files/tensorflow/libtensorflow_cc.so.2'), bytesOf(9, 16000));
  write(path.join(parent, '.bundle-2.21.0-cpu-00000000/files/tensorflow/LICENSE'), 'x');
  await install();
  assertInstalled();
});

test('no manifest, a damaged one, one of another version, another library than asked for', async () => {
  const nowhere = path.join(box, 'nowhere');
  const cure = 'Copy that file too, or make a bundle where there is a network: dtrain setup --bundle DIR';
  assert.deepEqual(await failure(install(nowhere)), {
    code: 'DTRAIN_BUNDLE_MISSING',
    exitCode: 4,
    message: `${nowhere}: expected a folder with the bundle.json of a bundle, which does not exist. ${cure}`,
  });
  const manifest = await make();
  const file = path.join(bundle, 'bundle.json');
  const text = fs.readFileSync(file, 'utf8');
  fs.rmSync(file);
  const parts = manifest.library.parts.length + manifest.program.parts.length;
  assert.equal(
    (await failure(install())).message,
    `${bundle}: expected a folder with the bundle.json of a bundle, got only ${parts} parts. ${cure}`,
  );
  for (const damaged of [text.slice(0, -20), text.replace('"cpu"', '"gpu"'), '{}', '']) {
    fs.writeFileSync(file, damaged);
    assert.deepEqual(await failure(install()), {
      code: 'DTRAIN_BUNDLE_DAMAGED',
      exitCode: 4,
      message: `${file}: expected the manifest as it was written, got a damaged one. Copy it again.`,
    });
  }
  fs.writeFileSync(file, text.replace('"2.21.0"', '"2.99.0"'));
  assert.deepEqual(await failure(install()), {
    code: 'DTRAIN_BUNDLE_VERSION',
    exitCode: 4,
    message: `${file}: expected a bundle of format 1 with TensorFlow 2.21.0, got format 1 with TensorFlow 2.99.0, made by dtrain 9.9.9. Use the dtrain that is inside: sh ${bundle}/install.sh`,
  });
  fs.writeFileSync(file, text);
  assert.deepEqual(await failure(install(bundle, 'gpu')), {
    code: 'DTRAIN_BUNDLE_VARIANT',
    exitCode: 4,
    message: `${bundle}: expected a bundle with the gpu library, got one with the cpu library. Leave --gpu out, or take another bundle.`,
  });
  const { id: _, ...content } = manifest;
  const files = [{ ...content.library.files[0]!, path: 'tensorflow/../../escaped' }];
  fs.writeFileSync(file, JSON.stringify(identified({ ...content, library: { ...content.library, files } })));
  assert.equal((await failure(install())).code, 'DTRAIN_BUNDLE_DAMAGED', 'a path that leaves the folder');
});

test('too little space for what is still to come', async () => {
  const { id: _, ...content } = await make();
  const [file] = content.library.files;
  const library = { ...content.library, blockBytes: 1e15, files: [{ ...file!, bytes: 1e15 }] };
  write(path.join(bundle, 'bundle.json'), JSON.stringify(identified({ ...content, library })));
  const { code, message } = await failure(install());
  assert.equal(code, 'DTRAIN_SETUP_DISK_FULL');
  assert.match(
    message,
    /^TensorFlow: .*: expected 1000000\.0 GB of free space, got [\d.]+ GB\. Free space, or set DTRAIN_HOME/,
  );
});

test('the folder for a bundle: made, or empty; what a killed one left goes away', async () => {
  write(path.join(bundle, '.dtrain-bundle/library-1'), 'left over');
  await make();
  assert.deepEqual(
    fs.readdirSync(bundle).filter((name) => name.startsWith('.')),
    [],
  );
  const full = path.join(box, 'full');
  for (const name of ['a', 'b', 'c', 'd']) write(path.join(full, name), '');
  assert.deepEqual(await failure(make({ folder: full })), {
    code: 'DTRAIN_BUNDLE_OUT',
    exitCode: 7,
    message: `--bundle ${full}: expected a new or empty folder, got one with a, b, c, …. Choose another, or empty it.`,
  });
  assert.deepEqual(fs.readdirSync(full), ['a', 'b', 'c', 'd']);
  const file = write(path.join(box, 'file'), '');
  assert.deepEqual(await failure(make({ folder: path.join(file, 'x') })), {
    code: 'DTRAIN_BUNDLE_OUT',
    exitCode: 7,
    message: `--bundle ${file}/x: cannot be written (ENOTDIR). Make it writable, or choose another.`,
  });
});

test('a library that changed since it was installed does not get into a bundle', async () => {
  const library = installed();
  fs.writeFileSync(path.join(library, 'tensorflow/libtensorflow_framework.so.2'), bytesOf(8, 2500));
  assert.deepEqual(await failure(make({ library: fs.realpathSync(library) })), {
    code: 'DTRAIN_BUNDLE_LIBRARY',
    exitCode: 4,
    message: `${library}: tensorflow/libtensorflow_framework.so.2 changed since it was installed. Delete ${library} and run the command again.`,
  });
  assert.deepEqual(fs.readdirSync(bundle), []);
});

test('a Node that its distribution linked with libraries of its own is not carried', () => {
  const own = { node_shared: false, node_shared_zlib: false, napi_build_version: '9' };
  assert.deepEqual(portableNode('/n', 'v20.19.0', own), { file: '/n', version: '20.19.0' });
  assert.throws(() => portableNode('/usr/bin/node', 'v20.19.0', { node_shared: true, node_shared_openssl: true }), {
    code: 'DTRAIN_BUNDLE_NODE',
    exitCode: 4,
    message:
      '--with-node: /usr/bin/node is linked with libraries of this machine (libnode, openssl) and would not start on another. Run dtrain with a Node from nodejs.org, or leave --with-node out and install Node there.',
  });
});

test('of the CUDA wheels what TensorFlow, cuDNN and XLA open goes in, and what nobody opens stays out', () => {
  const opened = [
    ...['libtensorflow_cc.so.2', 'libtensorflow_framework.so.2', 'LICENSE'].map((name) => `tensorflow/${name}`),
    ...['cublas/lib/libcublas.so.12', 'cublas/lib/libcublasLt.so.12', 'cublas/License.txt'].map(
      (name) => `nvidia/${name}`,
    ),
    ...['bin/ptxas', 'nvvm/libdevice/libdevice.10.bc'].map((name) => `nvidia/cuda_nvcc/${name}`),
    ...['libnvrtc.so.12', 'libnvrtc-builtins.so.12.9'].map((name) => `nvidia/cuda_nvrtc/lib/${name}`),
    ...[
      '',
      '_graph',
      '_ops',
      '_cnn',
      '_heuristic',
      '_engines_precompiled',
      '_engines_runtime_compiled',
      '_engines_tensor_ir',
    ].map((name) => `nvidia/cudnn/lib/libcudnn${name}.so.9`),
    ...['cuda_runtime/lib/libcudart.so.12', 'cufft/lib/libcufft.so.11', 'cusolver/lib/libcusolver.so.11'].map(
      (name) => `nvidia/${name}`,
    ),
    ...['cusparse/lib/libcusparse.so.12', 'nccl/lib/libnccl.so.2', 'nvjitlink/lib/libnvJitLink.so.12'].map(
      (name) => `nvidia/${name}`,
    ),
    'nvidia/something_new/lib/libnew.so.1',
  ];
  assert.deepEqual(
    opened.filter((file) => !isLoaded(file)),
    [],
  );
  const unopened = [
    'cublas/lib/libnvblas.so.12',
    'cuda_cupti/lib/libcupti.so.12',
    'cuda_nvcc/nvvm/lib64/libnvvm.so',
    'cuda_nvrtc/lib/libnvrtc.alt.so.12',
    'cuda_runtime/lib/libcudart_static.a',
    'cudnn/lib/libcudnn_adv.so.9',
    'cudnn/lib/libcudnn_ext.so.9',
    'cufft/lib/libcufftw.so.11',
    'curand/lib/libcurand.so.10',
    'cusolver/lib/libcusolverMg.so.11',
    'nccl/lib/libnccl_device.bc',
    'nvjitlink/lib/__init__.py',
  ];
  assert.deepEqual(
    unopened.filter((file) => isLoaded(`nvidia/${file}`)),
    [],
  );
  for (const [i, [files]] of LEFT_OUT.entries()) assert.match(unopened[i]!, files);
});

/** A package in `folder`, with a file that only tools read. */
function addPackage(folder: string, name: string, more: object = {}): void {
  write(path.join(folder, 'package.json'), JSON.stringify({ name, version: '1.0.0', ...more }));
  for (const file of ['index.js', 'index.js.map', 'index.d.ts', 'LICENSE.md']) write(path.join(folder, file), name);
}

test('packages are found as Node finds them, and two versions of one name stay apart', () => {
  const root = path.join(box, 'x/node_modules/dtrain');
  const store = path.join(box, 'store');
  const beside = path.join(box, 'x/node_modules');
  const needs = (...names: string[]) => ({ dependencies: Object.fromEntries(names.map((name) => [name, '1'])) });
  addPackage(root, 'dtrain', { ...needs('a', 'b', '@types/node'), files: ['index.js', 'absent'] });
  addPackage(path.join(beside, 'a'), 'a', needs('shared'));
  addPackage(path.join(beside, 'a/node_modules/shared'), 'shared', { version: '2.0.0' });
  addPackage(path.join(beside, 'shared'), 'shared', { optionalDependencies: { 'for-mac': '1', absent: '1' } });
  addPackage(path.join(beside, 'for-mac'), 'for-mac', { os: ['darwin'] });
  addPackage(path.join(beside, 'unused'), 'unused');
  addPackage(path.join(store, 'node_modules/b'), 'b', needs('shared', '@tensorflow/tfjs-core'));
  fs.symlinkSync(path.join(store, 'node_modules/b'), path.join(beside, 'b'));
  fs.symlinkSync(path.join(beside, 'shared'), path.join(store, 'node_modules/shared'));
  addPackage(path.join(store, 'node_modules/@tensorflow/tfjs-core'), '@tensorflow/tfjs-core', {
    main: './dist/node.js',
  });
  for (const build of ['node', 'min'])
    write(path.join(store, `node_modules/@tensorflow/tfjs-core/dist/${build}.js`), '');
  const files = programFiles(root);
  assert.deepEqual(
    files.map((file) => file.path),
    [
      'app/index.js',
      'app/node_modules/@tensorflow/tfjs-core/LICENSE.md',
      'app/node_modules/@tensorflow/tfjs-core/dist/node.js',
      'app/node_modules/@tensorflow/tfjs-core/package.json',
      'app/node_modules/a/LICENSE.md',
      'app/node_modules/a/index.js',
      'app/node_modules/a/package.json',
      'app/node_modules/b/LICENSE.md',
      'app/node_modules/b/index.js',
      'app/node_modules/b/node_modules/shared/LICENSE.md',
      'app/node_modules/b/node_modules/shared/index.js',
      'app/node_modules/b/node_modules/shared/package.json',
      'app/node_modules/b/package.json',
      'app/node_modules/shared/LICENSE.md',
      'app/node_modules/shared/index.js',
      'app/node_modules/shared/package.json',
      'app/package.json',
    ],
  );
  const version = (file: string) =>
    (JSON.parse(fs.readFileSync(files.find(({ path }) => path === file)!.source, 'utf8')) as { version: string })
      .version;
  assert.equal(version('app/node_modules/shared/package.json'), '2.0.0', "a's");
  assert.equal(version('app/node_modules/b/node_modules/shared/package.json'), '1.0.0', "b's");

  fs.rmSync(path.join(beside, 'a'), { recursive: true });
  const again = path.join(box, 'y/node_modules/dtrain');
  fs.cpSync(root, again, { recursive: true });
  assert.throws(() => programFiles(again), {
    code: 'DTRAIN_BUNDLE_PROGRAM',
    exitCode: 4,
    message: `${again}: expected the package a, which it needs, and found none. Install dtrain anew: npm install`,
  });
});

test('the archive is one that tar unpacks, long names and modes too', () => {
  const long = `app/${'folder/'.repeat(20)}file-${'x'.repeat(80)}`;
  const files = [
    { path: long, source: write(path.join(box, '1'), bytesOf(4, 1024)), isExecutable: false },
    { path: 'bin/run', source: write(path.join(box, '2'), 'run'), isExecutable: true },
    { path: 'bin/none', source: write(path.join(box, '3'), ''), isExecutable: false },
  ];
  const out = path.join(box, 'out');
  fs.mkdirSync(out);
  const { status, stderr } = spawnSync('tar', ['-xf', '-', '-C', out], {
    input: Buffer.concat([...tarArchive(files)]),
  });
  assert.equal(`${status} ${stderr}`, '0 ');
  assert.deepEqual(fs.readFileSync(path.join(out, long)), bytesOf(4, 1024));
  assert.equal(fs.readFileSync(path.join(out, 'bin/run'), 'utf8'), 'run');
  assert.equal(fs.statSync(path.join(out, 'bin/run')).mode & 0o777, 0o755);
  assert.equal(fs.statSync(path.join(out, 'bin/none')).size, 0);
});

/** install.sh, with these programs on the path. */
function runScript(words: readonly string[], tools: readonly string[] = TOOLS) {
  const bin = path.join(box, 'bin');
  fs.rmSync(bin, { recursive: true, force: true });
  fs.mkdirSync(bin);
  for (const tool of tools)
    fs.symlinkSync(tool === 'node' ? process.execPath : `/usr/bin/${tool}`, path.join(bin, tool));
  const cwd = path.join(box, 'cwd');
  fs.mkdirSync(cwd, { recursive: true });
  const options = { cwd, env: { PATH: bin, HOME: cwd }, encoding: 'utf8' } as const;
  const { status, stdout, stderr } = spawnSync('/bin/sh', [path.join(bundle, 'install.sh'), ...words], options);
  return { status, stdout, stderr, left: fs.readdirSync(cwd) };
}

/** All that install.sh and the launcher need. */
const COREUTILS = [
  'cat',
  'cmp',
  'cp',
  'dirname',
  'gzip',
  'ls',
  'mkdir',
  'mv',
  'readlink',
  'rm',
  'rmdir',
  'sed',
  'sha256sum',
];
const TOOLS = [...COREUTILS, 'sync', 'tar', 'tr', 'uname', 'node'];

test('install.sh puts the program in place and calls it; again it only calls it', async () => {
  await make();
  const expected = `dtrain setup --from-bundle ${bundle}\nInstalled. Begin with: dtrain/bin/dtrain --config quickstart\n`;
  assert.deepEqual(runScript([]), {
    status: 0,
    stdout: `dtrain is in dtrain\n${expected}`,
    stderr: '',
    left: ['dtrain'],
  });
  assert.deepEqual(runScript([]), { status: 0, stdout: expected, stderr: '', left: ['dtrain'] });
});

test('install.sh: parts that are missing, damaged, or not for here', async () => {
  const manifest = await make();
  const [first, second] = [1, 2].map((number) => partName(manifest, 'program', number)) as [string, string];
  const inBundle = (name: string) => path.join(bundle, name);
  const failed = (stderr: string, left: string[] = []) => ({
    status: 4,
    stdout: '',
    stderr: `install.sh: ${stderr}\n`,
    left,
  });

  fs.renameSync(inBundle(second), inBundle('aside'));
  assert.deepEqual(
    runScript([]),
    failed(`not in ${bundle} yet: ${second}. Copy what is missing there, then run this again.`),
  );
  fs.renameSync(inBundle('aside'), inBundle(second));
  const withoutSums = TOOLS.filter((tool) => tool !== 'sha256sum');
  assert.deepEqual(
    runScript([], withoutSums),
    failed('expected the program sha256sum here, found none. Install it, then run this again.'),
  );
  const whole = fs.readFileSync(inBundle(first));
  fs.writeFileSync(inBundle(first), whole.subarray(0, 1000));
  assert.deepEqual(
    runScript([]),
    failed(`not what was written, or still being copied: ${first}. Copy it again, then run this again.`),
  );
  fs.writeFileSync(inBundle(first), whole);
  assert.deepEqual(
    runScript(
      [],
      TOOLS.filter((tool) => tool !== 'node'),
    ),
    {
      ...failed(
        'there is no Node here, and this bundle brings none. Install Node 20.19 or later, or make the bundle --with-node.',
      ),
      stdout: 'dtrain is in dtrain\n',
      left: ['dtrain'],
    },
  );
  write(path.join(box, 'cwd/own/thing'), '');
  assert.deepEqual(runScript(['own']), failed('own is not empty. Name another folder.', ['dtrain', 'own']));
  fs.appendFileSync(path.join(box, 'cwd/dtrain/program.sha256'), 'x');
  assert.deepEqual(
    runScript([]),
    failed('dtrain holds another dtrain than this bundle. Name another folder, or remove it first.', ['dtrain', 'own']),
  );
  assert.equal(runScript(['a', 'b']).status, 2);
  fs.rmSync(inBundle('program.sha256'));
  assert.deepEqual(
    runScript(['new']),
    failed(`program.sha256 is not in ${bundle} yet. Copy it there, then run this again.`, ['dtrain', 'own']),
  );
});

test('install.sh takes the Node of the bundle, and a set-up that fails ends it with the same code', async () => {
  const program = smallProgram();
  const main = path.join(program, 'dist/src/cli/main.js');
  const node = write(path.join(box, 'my-node'), '#!/bin/sh\necho "own node runs $*"\nexit 4\n', 0o755);
  await make({ program, node: { file: node, version: '22.0.0' } });
  assert(fs.existsSync(main));
  const { status, stdout } = runScript(
    [],
    TOOLS.filter((tool) => tool !== 'node'),
  );
  const called = `${box}/cwd/dtrain/bin/../app/dist/src/cli/main.js`;
  assert.deepEqual(
    { status, stdout },
    { status: 4, stdout: `dtrain is in dtrain\nown node runs ${called} setup --from-bundle ${bundle}\n` },
  );
});
