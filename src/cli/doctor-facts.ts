/** What `dtrain doctor` finds on the machine, for doctor-checks.ts to judge. The library is tried in a process of its own (doctor-probe.ts). */
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { loadConfig } from '../config/load.js';
import { DtrainError } from '../core/errors.js';
import { allocateSharedMemory } from '../core/shared-memory.js';
import { locateData } from '../data/locate.js';
import { benchStepApart } from '../run/bench-step-apart.js';
import { findChangedFiles, hashFile, readInstallation } from '../tensorflow/install-manifest.js';
import { findLibrary, hasNvidiaDriver } from '../tensorflow/library-search.js';
import {
  type CoresFacts,
  type DataFacts,
  type FolderFacts,
  type LibraryFacts,
  type SharedFacts,
  TRIAL_STEPS,
  type TrialFacts,
} from './doctor-checks.js';
import type { ProbeReport } from './doctor-probe.js';

/** Null where there is none. */
export async function npmVersion(env: NodeJS.ProcessEnv): Promise<string | null> {
  try {
    return (await promisify(execFile)('npm', ['--version'], { env, timeout: 10_000 })).stdout.trim();
  } catch {
    return null;
  }
}

/** Of the C library that this process runs on; null where it is not glibc. */
export function glibcVersion(): string | null {
  const { header } = process.report.getReport() as { header: { glibcVersionRuntime?: string } };
  return header.glibcVersionRuntime ?? null;
}

/** Of NVIDIA's driver, such as 535.104.05; null where the kernel has not loaded it. */
export function driverVersion(file = '/proc/driver/nvidia/version'): string | null {
  if (!fs.existsSync(file)) return null;
  return /\s(\d+(?:\.\d+)+)\s/.exec(fs.readFileSync(file, 'utf8'))?.[1] ?? 'of unknown version';
}

export function coresFacts(cgroup = '/sys/fs/cgroup'): CoresFacts {
  return { available: os.availableParallelism(), total: os.cpus().length, quota: coresQuota(cgroup) };
}

/** Cores' worth of time that the container has; null without a limit. */
export function coresQuota(cgroup: string): number | null {
  const read = (name: string) => {
    const file = path.join(cgroup, name);
    return fs.existsSync(file) ? fs.readFileSync(file, 'utf8').trim() : null;
  };
  const [quota, period] = read('cpu.max')?.split(' ') ?? [read('cpu/cpu.cfs_quota_us'), read('cpu/cpu.cfs_period_us')]; // version 2, else 1
  const cores = Number(quota) / Number(period);
  return quota !== null && cores > 0 ? Number(cores.toFixed(2)) : null;
}

/** The largest shared memory that dtrain could ever ask for. */
const MOST_SHARED_BYTES = 2 ** 32;

/** Reserves, and lets go at once: no page is touched. */
export function sharedFacts(): SharedFacts {
  let bytes = MOST_SHARED_BYTES;
  while (bytes >= 2 ** 20 && !canShare(bytes)) bytes /= 2;
  const devShm = '/dev/shm';
  if (!fs.existsSync(devShm)) return { bytes, devShmBytes: null };
  const { blocks, bsize } = fs.statfsSync(devShm);
  return { bytes, devShmBytes: blocks * bsize };
}

function canShare(bytes: number): boolean {
  try {
    return allocateSharedMemory(bytes).buffer.byteLength === bytes;
  } catch {
    return false;
  }
}

/** As small as a step may be and still be one that people train: enough images for the threads, seconds on any machine. */
const TRIAL_IMAGES_A_WORKER = 64;
const TRIAL_MILLISECONDS = 120_000;

/** Ten steps on all GPUs, else on as many CPU workers as there are cores. */
export async function trialFacts(probe: ProbeReport, cores: number, env: NodeJS.ProcessEnv): Promise<TrialFacts> {
  const gpus = probe.devices.filter((device) => device.kind === 'gpu').length;
  const [kind, workers] = gpus > 0 ? (['gpu', gpus] as const) : (['cpu', cores] as const);
  const config = loadConfig({
    file: 'resnet20',
    overrides: ['data.name=synthetic', 'data.path=null', `train.globalBatch=${TRIAL_IMAGES_A_WORKER * workers}`],
  });
  const outcome = await benchStepApart(
    { config, configName: 'resnet20', devices: { kind, count: workers }, steps: TRIAL_STEPS, warmup: 2 },
    { env, timeout: TRIAL_MILLISECONDS },
  );
  const facts = { kind, workers, coreFlopsPerSecond: probe.flopsPerSecond, cores };
  if ('message' in outcome) {
    const seconds = TRIAL_MILLISECONDS / 1000;
    return { ...facts, outcome: { message: outcome.isLate ? `It was not done after ${seconds} s.` : outcome.message } };
  }
  const { imagesPerSecond, flopsPerImage } = outcome.result;
  return { ...facts, outcome: { imagesPerSecond: imagesPerSecond.median, flopsPerImage } };
}

export async function libraryFacts(env: NodeJS.ProcessEnv): Promise<LibraryFacts> {
  const hasDriver = hasNvidiaDriver();
  try {
    const library = findLibrary(env);
    const manifest = readInstallation(library.source);
    const changed = manifest === null ? [] : await findChangedFiles(library.source, manifest);
    const probe = changed.length > 0 ? 'not tried' : await probeLibrary(env);
    const own = manifest?.files.find(({ path: file }) => path.join(library.source, file) === library.path);
    const sha256 = own?.sha256 ?? (await hashFile(library.path).catch(() => null));
    return {
      library,
      sha256,
      isInstalled: manifest !== null,
      changed,
      bundle: manifest?.bundle ?? null,
      probe,
      hasDriver,
    };
  } catch (error) {
    if (!(error instanceof DtrainError)) throw error;
    const none = { sha256: null, isInstalled: false, changed: [], bundle: null, probe: 'not tried' };
    return { library: error.message, ...none, hasDriver };
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
export function memoryBytes(): { available: number; total: number } {
  const limit = process.constrainedMemory();
  const total = limit > 0 ? Math.min(limit, os.totalmem()) : os.totalmem();
  return { available: Math.min(process.availableMemory(), total), total };
}

export function dataFacts(cache: string, env: NodeJS.ProcessEnv): DataFacts {
  try {
    const source = locateData({ name: 'cifar10', path: null }, cache, env);
    return { source: 'path' in source ? source : null };
  } catch (error) {
    if (!(error instanceof DtrainError)) throw error;
    return { source: error.message };
  }
}

/** Of `folder`, or of the nearest folder above it that exists. */
export function folderFacts(folder: string): FolderFacts {
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
