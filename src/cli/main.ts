#!/usr/bin/env node
/** The dtrain command: the process around a command line. */
import fs from 'node:fs';
import { runCommandLine } from './command-line.js';
import { Console } from './console.js';
import { reportError } from './report-error.js';
import { runLayer } from './run-layer.js';

const words = process.argv.slice(2);
const { env, stdout, stderr } = process;
// Read before the words are understood, so that an error in them is told in the right way too.
const isJson = words.includes('--json');
const isQuiet = words.includes('--quiet');
const context = { console: new Console({ stdout, stderr, env, isJson, isQuiet }), run: runLayer, env };

process.on('uncaughtException', (error) => process.exit(reportError(error, context)));
const { version } = JSON.parse(fs.readFileSync(new URL('../../../package.json', import.meta.url), 'utf8')) as {
  version: string;
};
const exitCode = await runCommandLine(words, context, version);
// Pipes, files and terminals are written synchronously on Linux, so nothing is lost; a stray handle cannot keep the process alive.
process.exit(exitCode);
