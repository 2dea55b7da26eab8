/** `dtrain setup` against small scripts in the place of uv and pip: what it keeps, repeats, survives, and says when it cannot. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, beforeEach, test } from 'node:test';
import { nowSeconds } from '../src/core/clock.js';
import { DtrainError } from '../src/core/errors.js';
import { installTensorFlow } from '../src/tensorflow/install.js';
import { findChangedFiles, installFolder, readInstallation } from '../src/tensorflow/install-manifest.js';

const root = fs.mkdtempSync(path.join(os.tmpdir(), 'dtrain-install-'));
after(() => fs.rmSync(root, { recursive: true }));

let box: string;
let said: string[];
beforeEach(() => {
  box = fs.mkdtempSync(path.join(root, 'case-'));
  fs.mkdirSync(path.join(box, 'bin'));
  said = [];
});

/** What both tools do when all is well: unpack a wheel into the folder after `--target`. */
const UNPACK = `
while [ $# -gt 0 ]; do [ "$1" = --target ] && target=$2; shift; done
tensorflow=$target/tensorflow
/bin/mkdir -p $tensorflow/include $tensorflow/python $target/nvidia/cublas/lib $target/nvidia/cublas/include $target/nvidia/cuda_nvcc/bin \\
  $target/nvidia_cublas_cu12-12.9.3.13.dist-info/licenses
echo "Downloading tensorflow (a wheel)"
echo -n library > $tensorflow/libtensorflow_cc.so.2
echo -n framework > $tensorflow/libtensorflow_framework.so.2
echo -n licence > $tensorflow/include/LICENSE
echo -n header > $tensorflow/include/c_api.h
echo -n python > $tensorflow/python/__init__.py
echo -n cublas > $target/nvidia/cublas/lib/libcublas.so.12
echo -n header > $target/nvidia/cublas/include/cublas.h
echo -n ptxas > $target/nvidia/cuda_nvcc/bin/ptxas
echo -n eula > $target/nvidia_cublas_cu12-12.9.3.13.dist-info/licenses/License.txt
`;

/** Puts a program on the path of this case; it notes each start in `calls`. */
function program(name: 'uv' | 'python3', body: string): void {
  const file = path.join(box, 'bin', name);
  fs.writeFileSync(file, `#!/bin/bash\necho "${name} $@" >> ${box}/calls\n${body}`, { mode: 0o755 });
}

function calls(): string[] {
  const file = path.join(box, 'calls');
  return fs.existsSync(file) ? fs.readFileSync(file, 'utf8').trim().split('\n') : [];
}

function install(variant: 'cpu' | 'gpu' = 'cpu') {
  return installTensorFlow({
    variant,
    cacheFolder: path.join(box, 'cache'),
    say: (line) => said.push(line),
    env: { PATH: path.join(box, 'bin') },
  });
}

function filesUnder(folder: string): string[] {
  const entries = fs.readdirSync(folder, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile());
  return files.map((entry) => path.relative(folder, path.join(entry.parentPath, entry.name))).sort();
}

async function failure(promise: Promise<unknown>): Promise<{ code: string; exitCode: number; message: string }> {
  const thrown = await promise.then(
    () => assert.fail('expected an error'),
    (error: unknown) => error,
  );
  if (!(thrown instanceof DtrainError)) throw thrown;
  const parent = path.join(box, 'cache', 'tensorflow');
  if (fs.existsSync(parent)) assert.deepEqual(fs.readdirSync(parent), [], 'a failed set-up leaves nothing behind');
  return { code: thrown.code, exitCode: thrown.exitCode, message: thrown.message };
}

test('keeps the two libraries and the licence, with a manifest', async () => {
  program('uv', UNPACK);
  const { folder, installed } = await install();
  assert.equal(installed, true);
  assert.equal(folder, path.join(box, 'cache', 'tensorflow', '2.21.0-cpu'));
  assert.deepEqual(filesUnder(path.join(folder, 'tensorflow')), [
    'LICENSE',
    'libtensorflow_cc.so.2',
    'libtensorflow_framework.so.2',
  ]);
  const manifest = readInstallation(folder)!;
  assert.equal(manifest.tensorflow, '2.21.0');
  assert.deepEqual(
    manifest.files.find((file) => file.path === 'tensorflow/libtensorflow_cc.so.2'),
    {
      path: 'tensorflow/libtensorflow_cc.so.2',
      bytes: 7,
      sha256: 'b718f1354f7247312eca086d9a024afe5fa717ddea5adeddd6f12bcf945b2e8c',
    },
  );
  assert.deepEqual(fs.readdirSync(path.dirname(folder)), ['2.21.0-cpu'], 'no lock, no temporary folder');
  assert.deepEqual(said.slice(0, 3), [
    'TensorFlow 2.21.0 (cpu): installing, a download of about 0.3 GB',
    'TensorFlow 2.21.0 (cpu): Downloading tensorflow (a wheel)',
    'TensorFlow 2.21.0 (cpu): checking the files',
  ]);
  assert.match(said[3]!, /^TensorFlow 2\.21\.0 \(cpu\): installed 0\.0 GB in \d+ s: /);
});

test('keeps for the GPU what TensorFlow looks for beside itself', async () => {
  program('uv', UNPACK);
  const { folder } = await install('gpu');
  assert.deepEqual(filesUnder(path.join(folder, 'nvidia')), [
    'cublas/License.txt',
    'cublas/lib/libcublas.so.12',
    'cuda_nvcc/bin/ptxas',
  ]);
});

test('is safe to repeat: says so and starts nothing', async () => {
  program('uv', UNPACK);
  const { folder } = await install();
  said = [];
  assert.deepEqual(await install(), { folder, installed: false });
  assert.deepEqual(said, [`TensorFlow 2.21.0 (cpu): already installed in ${folder}`]);
  assert.equal(calls().length, 1);
});

test('an installation with a file missing, or of another size, is installed again', async () => {
  program('uv', UNPACK);
  const { folder } = await install();
  const library = path.join(folder, 'tensorflow', 'libtensorflow_cc.so.2');
  fs.truncateSync(library, 3);
  assert.equal(readInstallation(folder), null);
  assert.equal((await install()).installed, true);
  assert.equal(fs.readFileSync(library, 'utf8'), 'library');
  fs.rmSync(library);
  assert.equal((await install()).installed, true);
  assert.deepEqual(fs.readdirSync(path.dirname(folder)), ['2.21.0-cpu']);
});

test('a changed byte is found by the hashes', async () => {
  program('uv', UNPACK);
  const { folder } = await install();
  const manifest = readInstallation(folder)!;
  assert.deepEqual(await findChangedFiles(folder, manifest), []);
  fs.writeFileSync(path.join(folder, 'tensorflow', 'libtensorflow_cc.so.2'), 'librarY');
  assert.deepEqual(await findChangedFiles(folder, manifest), ['tensorflow/libtensorflow_cc.so.2']);
});

test('two at once: one installs, the other waits and finds it', async () => {
  program('uv', `/bin/sleep 0.5\n${UNPACK}`);
  const results = await Promise.all([install(), install()]);
  assert.deepEqual(results.map(({ installed }) => installed).sort(), [false, true]);
  assert.equal(calls().length, 1);
  assert.ok(said.includes('TensorFlow 2.21.0 (cpu): another dtrain setup is at work, waiting for it'));
});

test('a set-up that was killed: its lock is taken over, its temporary folder removed', async () => {
  program('uv', UNPACK);
  const folder = installFolder(path.join(box, 'cache'), 'cpu');
  fs.mkdirSync(path.join(path.dirname(folder), '.tmp-2.21.0-cpu-killed', 'uv'), { recursive: true });
  fs.writeFileSync(`${folder}.lock`, '1\n');
  const longAgo = new Date(Date.now() - 60_000);
  fs.utimesSync(`${folder}.lock`, longAgo, longAgo);
  assert.equal((await install()).installed, true);
  assert.deepEqual(fs.readdirSync(path.dirname(folder)), ['2.21.0-cpu']);
});

test('without uv pip does it', async () => {
  program('python3', UNPACK);
  assert.equal((await install()).installed, true);
  const [call] = calls();
  assert.match(call!, /^python3 -m pip install --no-deps --require-hashes --only-binary=:all: --target /);
  // TensorFlow's wheel, and NVIDIA's: pip takes only what is named.
  for (const platform of ['manylinux_2_27', 'manylinux_2_25', 'manylinux2014', 'manylinux_2_17'])
    assert(call!.includes(` --platform ${platform}_x86_64 `), platform);
});

test('neither uv nor pip', async () => {
  program('python3', 'echo "/usr/bin/python3: No module named pip" >&2; exit 1');
  assert.deepEqual(await failure(install()), {
    code: 'DTRAIN_SETUP_NO_INSTALLER',
    exitCode: 4,
    message:
      'TensorFlow: expected uv, or python3 with pip, to install it with; found neither. Install one (for instance: apt install python3-pip), then run dtrain setup again.',
  });
});

test('an index that cannot be reached: pip is tried after uv, then the error says what to do', async () => {
  program('uv', 'echo "error: dns error: failed to lookup address information" >&2; exit 2');
  program('python3', 'echo "NewConnectionError: Failed to establish a new connection" >&2; exit 1');
  assert.deepEqual(await failure(install('gpu')), {
    code: 'DTRAIN_SETUP_UNREACHABLE',
    exitCode: 4,
    message:
      'TensorFlow: uv pip cannot reach the package index. Check the network, or the proxy and index in the configuration of uv pip, then run dtrain setup --gpu again; or bring a bundle from a machine with a network (dtrain setup --bundle DIR), or set DTRAIN_TENSORFLOW_LIB to a libtensorflow_cc.so.2 of version 2.21.0.',
  });
  assert.equal(calls().length, 2);
});

test('a program that opens a socket and connects nothing for five seconds counts as cut off', async () => {
  program('uv', 'exec 3<>/dev/udp/127.0.0.1/9; exec /bin/sleep 300');
  const start = nowSeconds();
  assert.equal((await failure(install())).code, 'DTRAIN_SETUP_UNREACHABLE');
  const seconds = nowSeconds() - start;
  assert.ok(seconds >= 5 && seconds < 25, `${seconds} s`);
});

test('a wrong hash is final: the other program is not tried', async () => {
  program('uv', 'echo "error: Hash mismatch for tensorflow-cpu==2.21.0" >&2; exit 1');
  program('python3', UNPACK);
  assert.deepEqual(await failure(install()), {
    code: 'DTRAIN_SETUP_WRONG_HASH',
    exitCode: 4,
    message:
      'TensorFlow: uv pip got a file whose SHA-256 is not the pinned one. Empty the cache (uv cache clean, python3 -m pip cache purge) and run dtrain setup again; if it stays, do not trust the package index.',
  });
});

test('a disk that becomes full', async () => {
  program('uv', 'echo "OSError: [Errno 28] No space left on device" >&2; exit 1');
  assert.deepEqual(await failure(install()), {
    code: 'DTRAIN_SETUP_DISK_FULL',
    exitCode: 4,
    message:
      'TensorFlow: the disk became full while uv pip was unpacking. Free space, or set DTRAIN_HOME to a folder on a larger disk; then run dtrain setup again.',
  });
});

test('any other failure: the last lines of the program', async () => {
  program('uv', 'for i in 1 2 3 4 5 6 7 8; do echo "line $i"; done; exit 3');
  assert.deepEqual(await failure(install()), {
    code: 'DTRAIN_SETUP_FAILED',
    exitCode: 4,
    message:
      'TensorFlow: uv pip failed. Its last words:\n  line 3\n  line 4\n  line 5\n  line 6\n  line 7\n  line 8\nCure that, then run dtrain setup again.',
  });
});

test('a wheel without the library', async () => {
  program('uv', `${UNPACK}\n/bin/rm $tensorflow/libtensorflow_cc.so.2`);
  assert.equal(
    (await failure(install())).message,
    'TensorFlow: unpacking failed. Its last words:\n  the wheel holds no libtensorflow_cc.so.2\nCure that, then run dtrain setup again.',
  );
});

test('a cache folder that cannot be made', async () => {
  fs.writeFileSync(path.join(box, 'cache'), 'a file');
  await assert.rejects(install(), {
    code: 'DTRAIN_SETUP_FOLDER',
    message: `TensorFlow: ${box}/cache/tensorflow: cannot be written (ENOTDIR). Make it writable, or set DTRAIN_HOME to another folder.`,
  });
});

test('the requirements are pinned, hashed and name no index', () => {
  for (const variant of ['cpu', 'gpu']) {
    const url = new URL(`../src/tensorflow/requirements/${variant}.txt`, import.meta.url);
    const lines = fs
      .readFileSync(url, 'utf8')
      .trim()
      .split('\n')
      .filter((line) => !line.startsWith('#'));
    let hashes = 1;
    for (const line of lines) {
      if (/^[a-z0-9-]+==[0-9.]+ \\$/.test(line)) {
        assert.ok(hashes > 0, `no hash before ${line}`);
        hashes = 0;
      } else {
        assert.match(line, /^ {4}--hash=sha256:[0-9a-f]{64}( \\)?$/);
        hashes++;
      }
    }
    assert.ok(hashes > 0);
    assert.ok(lines.some((line) => /^tensorflow(-cpu)?==2\.21\.0 /.test(line)));
  }
});
