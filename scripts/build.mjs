// Builds dist/: TypeScript by tsc, the all-reduce kernel by AssemblyScript, data files copied; the command gets mode 755.
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
fs.cpSync('src/report/page', 'dist/src/report/page', { recursive: true });
fs.chmodSync('dist/src/cli/main.js', 0o755);
