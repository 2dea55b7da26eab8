#!/usr/bin/env node
/** The dtrain command: the process around a command line. */
import fs from 'node:fs';
import { useCompileCache } from '../core/compile-cache.js';
import { Console } from './console.js';
import { reportError } from './report-error.js';
import { runLayer } from './run-layer.js';

useCompileCache();
const words = process.argv.slice(2);
const { env, stdout, stderr } = process;
// Read before the words are understood, so that an error in them is told in the right way too.
const isJson = words.includes('--json');
const isQuiet = words.includes('--quiet');
const context = { console: new Console({ stdout, stderr, env, isJson, isQuiet }), run: runLayer, env };

process.on('uncaughtException', (error) => process.exit(reportError(error, context)));
// The engine loads its modules while the words are read.
if (startsEngine(words)) await runLayer.prepareEngine();
const { runCommandLine } = await import('./command-line.js');
const { version } = JSON.parse(fs.readFileSync(new URL('../../../package.json', import.meta.url), 'utf8')) as {
  version: string;
};
const exitCode = await runCommandLine(words, context, version);
// Pipes, files and terminals are written synchronously on Linux, so nothing is lost; a stray handle cannot keep the process alive.
process.exit(exitCode);

/** Whether the words look like a run, or a bench of its step; a mistake costs a process that ends with this one. */
function startsEngine(words: readonly string[]): boolean {
  const isOther = words.some((word) => ['--help', '--version', '--dry-run'].includes(word));
  const hasConfig = words.some((word) => word === '--config' || word.startsWith('--config='));
  return !isOther && hasConfig && /^(train( |$)|bench step( |$)|-|\S+=)/.test(words.join(' '));
}
