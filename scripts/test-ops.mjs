// npm run test:ops: every kernel recorded against eager, and the table of them in docs/models.md written anew.
import { execFileSync, spawnSync } from 'node:child_process';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

process.chdir(path.dirname(path.dirname(fileURLToPath(import.meta.url))));
const run = (...words) => execFileSync(process.execPath, words, { stdio: 'inherit' });
run('scripts/build.mjs');
run('dist/src/cli/main.js', 'setup', '--cpu', '--quiet');
const words = ['--test', '--test-force-exit', 'dist/test/operations.test.js'];
const env = { ...process.env, DTRAIN_WRITE_TABLE: '1' };
process.exitCode = spawnSync(process.execPath, words, { stdio: 'inherit', env }).status ?? 1;
