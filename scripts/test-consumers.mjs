// npm run test:consumers: what dtrain writes, read by the programs it is written for: PyTorch and torchvision, TensorFlow in Python, ONNX
// Runtime, TensorBoard, and Chromium; the configurations for clusters by others' schemas; and the image, in a root of Debian's packages.
// Installs what is needed into the cache folder (Chromium and debootstrap by apt-get where they are missing, which needs root).
// DTRAIN_TORCH_PYTHON, DTRAIN_TENSORFLOW_PYTHON and DTRAIN_CLUSTER_PYTHON name Pythons that have them already; DTRAIN_CHROMIUM a browser.
// Arguments are parts of file names, as for npm test.
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
process.chdir(root);
const run = (file, words) => execFileSync(file, words, { stdio: 'inherit' });
run(process.execPath, ['scripts/build.mjs']);
run(process.execPath, ['dist/src/cli/main.js', 'setup', '--cpu', '--quiet']);
const { cacheFolder } = await import('../dist/src/core/home.js');

/** The Python of a virtual environment with `requirements`; made once for each version of that file. */
function pythonWith(variable, requirements) {
  if (process.env[variable]) return process.env[variable];
  const file = path.join('test/consumers', requirements);
  const key = createHash('sha256').update(fs.readFileSync(file)).digest('hex').slice(0, 12);
  const folder = path.join(cacheFolder(), 'consumers', `${requirements.split('-')[0]}-${key}`);
  const python = path.join(folder, 'bin', 'python');
  if (!fs.existsSync(path.join(folder, 'complete'))) {
    run('python3', ['-m', 'venv', '--clear', folder]);
    run(python, ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '--requirement', file]);
    fs.writeFileSync(path.join(folder, 'complete'), '');
  }
  return python;
}

function install(...packages) {
  run('apt-get', ['update', '-qq']);
  run('apt-get', ['install', '-y', '-qq', '--no-install-recommends', ...packages]);
}

function chromium() {
  const known = [process.env.DTRAIN_CHROMIUM, 'chromium', 'chromium-browser', 'google-chrome'].filter(Boolean);
  const found = () => known.find((name) => spawnSync(name, ['--version']).status === 0);
  if (!found()) install('chromium', 'fonts-dejavu-core');
  return found() ?? 'chromium';
}

// The test of the image tells what it lacks, and is left out.
if (
  process.getuid() === 0 &&
  spawnSync('debootstrap', ['--version']).error &&
  !spawnSync('apt-get', ['--version']).error
)
  install('debootstrap');

const env = {
  ...process.env,
  DTRAIN_TORCH_PYTHON: pythonWith('DTRAIN_TORCH_PYTHON', 'torch-requirements.txt'),
  DTRAIN_TENSORFLOW_PYTHON: pythonWith('DTRAIN_TENSORFLOW_PYTHON', 'tensorflow-requirements.txt'),
  DTRAIN_CLUSTER_PYTHON: pythonWith('DTRAIN_CLUSTER_PYTHON', 'cluster-requirements.txt'),
  DTRAIN_CHROMIUM: chromium(),
};
const wanted = process.argv.slice(2);
const files = fs
  .readdirSync('dist/test/consumers')
  .filter((file) => file.endsWith('.test.js') && (wanted.length === 0 || wanted.some((word) => file.includes(word))))
  .sort()
  .map((file) => path.join('dist/test/consumers', file));
if (files.length === 0) throw new Error(`no test file matches ${wanted.join(', ')}`);
const words = ['--test', '--test-force-exit', '--test-concurrency=1', ...files];
process.exitCode = spawnSync(process.execPath, words, { stdio: 'inherit', env }).status ?? 1;
