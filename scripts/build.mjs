// Builds dist/: TypeScript by tsc, the all-reduce kernel by AssemblyScript, data files copied; the command gets mode 755.
// dist/node_modules gets the kernels of tfjs-node-gpu as they are, so that who installs dtrain needs neither that package's install script
// (which fetches TensorFlow 2.9 for CUDA 11.2 from another host) nor the packages that only the script uses.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
process.chdir(root);
const bin = (name) => path.join(root, 'node_modules', '.bin', name);

fs.rmSync('dist', { recursive: true, force: true });
execFileSync(bin('tsc'), ['--project', 'tsconfig.json'], { stdio: 'inherit' });
execFileSync(
  bin('asc'),
  [
    'src/collective/assembly/all-reduce.ts',
    '--outFile',
    'dist/src/collective/all-reduce.wasm',
    '-O3',
    '--enable',
    'simd,threads',
  ].concat(['--importMemory', '--noExportMemory', '--sharedMemory', '--maximumMemory', '65536', '--runtime', 'stub']),
  { stdio: 'inherit' },
);
fs.cpSync('src/tensorflow/requirements', 'dist/src/tensorflow/requirements', { recursive: true });
for (const script of ['install.sh', 'launch.sh']) fs.cpSync(`src/bundle/${script}`, `dist/src/bundle/${script}`);
fs.cpSync('src/report/page', 'dist/src/report/page', { recursive: true });
copyKernels('node_modules/@tensorflow/tfjs-node-gpu', 'dist/node_modules/@tensorflow/tfjs-node-gpu');
fs.chmodSync('dist/src/cli/main.js', 0o755);

/** What src/graph/tfjs.ts requires, unchanged, and a manifest with no script. */
function copyKernels(source, target) {
  const { name, version, license, repository } = JSON.parse(fs.readFileSync(`${source}/package.json`, 'utf8'));
  const files = ['nodejs_kernel_backend.js', 'register_all_kernels.js', 'int64_tensors.js', 'proto/api_pb.js'];
  const kernels = fs.readdirSync(`${source}/dist/kernels`).filter((file) => file.endsWith('.js'));
  for (const file of [...files, ...kernels.map((kernel) => `kernels/${kernel}`)])
    fs.cpSync(`${source}/dist/${file}`, `${target}/dist/${file}`);
  const description = 'The kernels of tfjs-node-gpu, unchanged; without its addon and install script.';
  const manifest = { name, version, description, license, repository };
  fs.writeFileSync(`${target}/package.json`, `${JSON.stringify(manifest, null, 2)}\n`);
}
