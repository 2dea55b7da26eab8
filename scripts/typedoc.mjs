// npm run docs:api: the API of the library (src/index.ts) as pages in dist/api. typedoc comes from the registry and is no dependency: it
// brings a TypeScript of its own (5.9; what compiles is for npm run types to say). A warning, such as a type that is used and not exported, is an error.
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const packages = ['typedoc@0.28.20', 'typescript@5.9.3'].flatMap((name) => ['--package', name]);
const options = [
  '--entryPoints',
  'src/index.ts',
  '--out',
  'dist/api',
  '--readme',
  'none',
  '--disableSources',
  '--intentionallyNotExported',
  'runConfigSchema',
  '--intentionallyNotExported',
  'PHASES',
  '--skipErrorChecking',
  '--treatWarningsAsErrors',
];
const words = ['--yes', ...packages, '--', 'typedoc', ...options];
process.exitCode = spawnSync('npx', words, { cwd: root, stdio: 'inherit' }).status ?? 1;
