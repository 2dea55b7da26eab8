// npm test: builds, installs the TensorFlow CPU library when it is missing, runs every test file in a process of its own.
// Arguments are parts of file names: `npm test -- philox sampler` runs only those.
import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
process.chdir(root);
execFileSync(process.execPath, ['scripts/build.mjs'], { stdio: 'inherit' });
execFileSync(process.execPath, ['dist/src/cli/main.js', 'setup', '--cpu', '--quiet'], { stdio: 'inherit' });

const wanted = process.argv.slice(2);
const files = fs
  .readdirSync('dist/test')
  .filter((file) => file.endsWith('.test.js') && (wanted.length === 0 || wanted.some((word) => file.includes(word))))
  .sort()
  .map((file) => path.join('dist/test', file));
if (files.length === 0) throw new Error(`no test file matches ${wanted.join(', ')}`);
const { status } = spawnSync(process.execPath, ['--test', '--test-force-exit', '--test-concurrency=2', ...files], {
  stdio: 'inherit',
});
process.exitCode = status ?? 1;
