// npm run test:tfjs: tfjs-core's own conformance tests (dist/tests of its npm package) against the eager binding. Installs jasmine, and esbuild
// to bundle the tests, into the cache folder. An argument is a regular expression on the tests' full names.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const PACKAGES = { jasmine: '5.13.0', esbuild: '0.28.2' };
/** What the package of tfjs-core 4.22 holds; fewer means that the bundle lost some. */
const LEAST_TESTS = 4000;

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
process.chdir(root);
const run = (file, words, options = {}) => execFileSync(file, words, { stdio: 'inherit', ...options });
run(process.execPath, ['scripts/build.mjs']);
run(process.execPath, ['dist/src/cli/main.js', 'setup', '--cpu', '--quiet']);
const { cacheFolder } = await import('../dist/src/core/home.js');
const { EXCLUSIONS } = await import('../test/tfjs/exclusions.mjs');

const own = createRequire(import.meta.url);
const core = path.join(path.dirname(own.resolve('@tensorflow/tfjs-core/package.json')), 'dist');
const tools = toolsFolder();
const require = createRequire(path.join(tools, 'package.json'));

/** A folder with jasmine and esbuild, installed once for each pair of versions. */
function toolsFolder() {
  const folder = path.join(cacheFolder(), 'tfjs-tests', Object.values(PACKAGES).join('-'));
  if (fs.existsSync(path.join(folder, 'complete'))) return folder;
  fs.mkdirSync(folder, { recursive: true });
  fs.writeFileSync(path.join(folder, 'package.json'), JSON.stringify({ private: true, dependencies: PACKAGES }));
  run('npm', ['install', '--silent', '--no-audit', '--no-fund'], { cwd: folder });
  fs.writeFileSync(path.join(folder, 'complete'), '');
  return folder;
}

/** The tests as one CommonJS file; tfjs-core's modules in it share engine and registries with the tfjs of dtrain, as tfjs means them to. */
function bundle() {
  const outfile = path.join(tools, 'tests.cjs');
  const environment = { name: 'test-tensorflow', backendName: 'tensorflow', flags: {}, isDataSync: true };
  const contents = `
    require('${core}/public/chained_ops/register_all_chained_ops');
    require('${core}/register_all_gradients');
    require('${core}/jasmine_util').setTestEnvs([${JSON.stringify(environment)}]);
    require('${core}/tests');`;
  require('esbuild').buildSync({
    stdin: { contents, resolveDir: tools },
    bundle: true,
    platform: 'node',
    format: 'cjs',
    outfile,
    external: ['jasmine-core/*'],
    nodePaths: [path.join(tools, 'node_modules')],
    ignoreAnnotations: true, // the package says that its tests have no side effects
    logLevel: 'error',
  });
  return outfile;
}

/** tfjs-node's list of what it does not pass. */
function listOfTfjsNode() {
  const text = fs.readFileSync(own.resolve('@tensorflow/tfjs-node-gpu/dist/run_tests.js'), 'utf8');
  const list = /var IGNORE_LIST = (\[[\s\S]*?\n\]);/.exec(text)[1];
  return [...list.replace(/^\s*\/\/.*$/gm, '').matchAll(/'((?:[^'\\]|\\.)*)'/g)].map(([, name]) => name);
}

const Jasmine = require('jasmine');
const runner = new Jasmine();
runner.loadConfig({ spec_files: [], random: false });
runner.exitOnCompletion = false;
runner.clearReporters();
const results = [];
runner.addReporter({
  specDone: ({ fullName, status, failedExpectations }) =>
    results.push({ fullName, status, message: failedExpectations[0]?.message ?? '' }),
});
require(bundle());
const { openTfjs } = await import('../dist/src/index.js');
openTfjs({ device: 'cpu', threads: 1 }); // after the tests, so that its kernels and gradients are those that are judged
const log = console.log;
console.log = () => undefined; // tests of the profiler print
console.warn = () => undefined;
const filter = process.argv[2];
await runner.execute(undefined, filter);
console.log = log;

const known = listOfTfjsNode();
const isExcluded = (fullName) => EXCLUSIONS.some(([name]) => fullName.includes(name));
const failed = results.filter(({ status }) => status === 'failed');
const problems = failed
  .filter(({ fullName }) => !isExcluded(fullName))
  .map(({ fullName, message }) => `${fullName}\n    ${message.split('\n')[0]}`);
if (filter === undefined) {
  for (const [name] of EXCLUSIONS) {
    if (!known.includes(name)) problems.push(`excluded and not on tfjs-node's list: ${name}`);
    if (!failed.some(({ fullName }) => fullName.includes(name))) problems.push(`excluded and passes: ${name}`);
  }
  if (EXCLUSIONS.length >= known.length)
    problems.push(`${EXCLUSIONS.length} exclusions, tfjs-node has ${known.length}`);
  if (results.length < LEAST_TESTS) problems.push(`only ${results.length} tests`);
}
for (const problem of problems) log(`✖ ${problem}`);
const passed = results.filter(({ status }) => status === 'passed').length;
log(
  `${results.length} tests of tfjs-core: ${passed} pass, ${failed.length} fail under ${EXCLUSIONS.length} exclusions (tfjs-node: ${known.length}), ${problems.length} problems`,
);
process.exit(problems.length === 0 ? 0 : 1);
