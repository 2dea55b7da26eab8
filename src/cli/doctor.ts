/**
 * `dtrain doctor`: library, devices, memory, data: what works, and what to do about the rest.
 *
 * Idea: facts are gathered here, judged in doctor-checks.ts. The library is tried in a process of its own (doctor-probe.ts).
 * Changes nothing on the machine but one file that it makes and removes in each folder it looks at.
 */
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { DtrainError, ExitCode } from '../core/errors.js';
import { cacheFolder } from '../core/home.js';
import { locateData } from '../data/locate.js';
import { findChangedFiles, readInstallation } from '../tensorflow/install-manifest.js';
import { findLibrary, hasNvidiaDriver } from '../tensorflow/library-search.js';
import type { Context } from './context.js';
import {
  type Check,
  cacheCheck,
  coresCheck,
  type DataFacts,
  dataCheck,
  devicesCheck,
  type FolderFacts,
  type LibraryFacts,
  libraryCheck,
  memoryCheck,
  nodeCheck,
  platformCheck,
  runsCheck,
} from './doctor-checks.js';
import type { ProbeReport } from './doctor-probe.js';

/** The part of a command's context that it needs. */
export interface DoctorContext {
  readonly console: Pick<Context['console'], 'isJson' | 'json' | 'out'>;
  readonly env: NodeJS.ProcessEnv;
}

/** Prints one line a check (under --json one object a line); the exit code is 4 if dtrain cannot train here, else 0. */
export async function doctor({ console, env }: DoctorContext): Promise<number> {
  const checks = await examine(env);
  for (const check of checks) {
    if (console.isJson) console.json(check);
    else console.out(checkText(check));
  }
  const count = (status: Check['status']) => checks.filter((check) => check.status === status).length;
  if (!console.isJson) console.out(summaryText(count('fail'), count('warn')));
  return count('fail') > 0 ? ExitCode.environment : ExitCode.ok;
}

async function examine(env: NodeJS.ProcessEnv): Promise<readonly Check[]> {
  const cache = cacheFolder(env);
  const library = await libraryFacts(env);
  const memory = memoryBytes();
  return [
    nodeCheck(process.versions.node),
    platformCheck(process.platform, process.arch),
    libraryCheck(library),
    ...(typeof library.probe === 'string' ? [] : [devicesCheck(library.probe, library.hasDriver)]),
    coresCheck(os.availableParallelism(), os.cpus().length),
    memoryCheck(memory.available, memory.total),
    dataCheck(dataFacts(cache, env)),
    cacheCheck(folderFacts(cache)),
    runsCheck(folderFacts(path.resolve('runs'))),
  ];
}

async function libraryFacts(env: NodeJS.ProcessEnv): Promise<LibraryFacts> {
  const hasDriver = hasNvidiaDriver();
  try {
    const library = findLibrary(env);
    const manifest = readInstallation(library.source);
    const changed = manifest === null ? [] : await findChangedFiles(library.source, manifest);
    const probe = changed.length > 0 ? 'not tried' : await probeLibrary(env);
    return { library, changed, bundle: manifest?.bundle ?? null, probe, hasDriver };
  } catch (error) {
    if (!(error instanceof DtrainError)) throw error;
    return { library: error.message, changed: [], bundle: null, probe: 'not tried', hasDriver };
  }
}

const PROBE_MILLISECONDS = 30_000;

/** What the library shows in a process of its own, or why it shows nothing. */
async function probeLibrary(env: NodeJS.ProcessEnv): Promise<ProbeReport | string> {
  const entry = fileURLToPath(new URL('./doctor-probe.js', import.meta.url));
  const options = { env, timeout: PROBE_MILLISECONDS, killSignal: 'SIGKILL' } as const;
  try {
    const { stdout } = await promisify(execFile)(process.execPath, [entry], options);
    return JSON.parse(stdout) as ProbeReport;
  } catch (error) {
    const { killed, signal, stderr } = error as { killed?: boolean; signal?: string; stderr?: string };
    if (killed) return `did not answer within ${PROBE_MILLISECONDS / 1000} s`;
    if (signal) return `ended by ${signal}`;
    return /^.*Error: (.*)$/m.exec(stderr ?? '')?.[1] ?? (error as Error).message;
  }
}

/** Of the machine, or of the container where that has a limit. */
function memoryBytes(): { available: number; total: number } {
  const limit = process.constrainedMemory();
  const total = limit > 0 ? Math.min(limit, os.totalmem()) : os.totalmem();
  return { available: Math.min(process.availableMemory(), total), total };
}

function dataFacts(cache: string, env: NodeJS.ProcessEnv): DataFacts {
  try {
    const source = locateData({ name: 'cifar10', path: null }, cache, env);
    return { source: 'path' in source ? source : null };
  } catch (error) {
    if (!(error instanceof DtrainError)) throw error;
    return { source: error.message };
  }
}

/** Of `folder`, or of the nearest folder above it that exists. */
function folderFacts(folder: string): FolderFacts {
  let existing = folder;
  while (!fs.existsSync(existing)) existing = path.dirname(existing);
  try {
    const file = path.join(existing, `.dtrain-doctor-${process.pid}`);
    fs.writeFileSync(file, '');
    fs.rmSync(file);
    const { bavail, bsize } = fs.statfsSync(existing);
    return { folder, freeBytes: bavail * bsize };
  } catch {
    return { folder, freeBytes: null };
  }
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
