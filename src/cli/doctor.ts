/**
 * `dtrain doctor`: library, devices, memory, data, a trial of ten steps: what works, and what to do about the rest.
 *
 * Idea: facts are gathered in doctor-facts.ts and judged in doctor-checks.ts; here they are put in order, and each line is printed as soon as
 * it is known. Library and trial run in processes of their own.
 * Changes nothing on the machine but one file that it makes and removes in each folder it looks at.
 */
import path from 'node:path';
import { ExitCode } from '../core/errors.js';
import { cacheFolder } from '../core/home.js';
import type { Context } from './context.js';
import {
  type Check,
  cacheCheck,
  coresCheck,
  cudaChecks,
  dataCheck,
  devicesCheck,
  glibcCheck,
  libraryCheck,
  memoryCheck,
  nodeCheck,
  npmCheck,
  platformCheck,
  runsCheck,
  sharedCheck,
  trialCheck,
} from './doctor-checks.js';
import {
  coresFacts,
  dataFacts,
  driverVersion,
  folderFacts,
  glibcVersion,
  libraryFacts,
  memoryBytes,
  npmVersion,
  sharedFacts,
  trialFacts,
} from './doctor-facts.js';

/** The part of a command's context that it needs. */
export interface DoctorContext {
  readonly console: Pick<Context['console'], 'isJson' | 'json' | 'out'>;
  readonly env: NodeJS.ProcessEnv;
}

/** Prints one line a check (under --json one object a line); the exit code is 4 if dtrain cannot train here, else 0. */
export async function doctor({ console, env }: DoctorContext): Promise<number> {
  const checks: Check[] = [];
  for await (const check of examine(env)) {
    checks.push(check);
    if (console.isJson) console.json(check);
    else console.out(checkText(check));
  }
  const count = (status: Check['status']) => checks.filter((check) => check.status === status).length;
  if (!console.isJson) console.out(summaryText(count('fail'), count('warn')));
  return count('fail') > 0 ? ExitCode.environment : ExitCode.ok;
}

async function* examine(env: NodeJS.ProcessEnv): AsyncGenerator<Check> {
  yield nodeCheck(process.versions.node);
  yield npmCheck(await npmVersion(env));
  yield platformCheck(process.platform, process.arch);
  yield glibcCheck(glibcVersion());
  const library = await libraryFacts(env);
  const { probe } = library;
  yield libraryCheck(library);
  if (typeof probe !== 'string') {
    yield devicesCheck(probe, driverVersion());
    yield* cudaChecks(probe, library.hasDriver);
  }
  const cores = coresFacts();
  yield coresCheck(cores);
  const memory = memoryBytes();
  yield memoryCheck(memory.available, memory.total);
  yield sharedCheck(sharedFacts());
  const cache = cacheFolder(env);
  yield dataCheck(dataFacts(cache, env));
  yield cacheCheck(folderFacts(cache));
  yield runsCheck(folderFacts(path.resolve('runs')));
  if (typeof probe !== 'string' && probe.faulty.length === 0)
    yield trialCheck(await trialFacts(probe, cores.available, env));
}

/** `ok    cores     2`, and the cure on a line of its own. */
export function checkText({ check, status, found, cure }: Check): string {
  const line = `${status.padEnd(6)}${check.padEnd(10)}${found}`;
  return cure === null ? line : `${line}\n${' '.repeat(16)}${cure.replaceAll('\n', `\n${' '.repeat(16)}`)}`;
}

export function summaryText(numFailures: number, numWarnings: number): string {
  if (numFailures > 0) return `dtrain cannot train here yet: ${plural(numFailures, 'problem')}.`;
  return numWarnings > 0 ? `dtrain can train here; ${plural(numWarnings, 'warning')}.` : 'All is well.';
}

function plural(count: number, word: string): string {
  return `${count} ${word}${count === 1 ? '' : 's'}`;
}
