/**
 * What `dtrain doctor` looks at. Each check takes facts and gives one line: what was found, and what to do if that is not good.
 * The facts are gathered in doctor.ts; here nothing touches the machine.
 */
import type { FoundLibrary } from '../tensorflow/library-search.js';
import type { ProbeReport } from './doctor-probe.js';

export interface Check {
  readonly check: string;
  /** fail: dtrain cannot train; warn: it can, but you may want to know. */
  readonly status: 'ok' | 'warn' | 'fail';
  readonly found: string;
  /** What to do; null where all is well. */
  readonly cure: string | null;
}

export function nodeCheck(version: string): Check {
  const [major, minor] = version.split('.').map(Number) as [number, number];
  if (major > 20 || (major === 20 && minor >= 19)) return ok('node', version);
  return fail('node', version, 'Expected 20.19 or later: install a current Node.');
}

export function platformCheck(platform: string, arch: string): Check {
  const found = `${platform} ${arch}`;
  return found === 'linux x64'
    ? ok('platform', found)
    : fail('platform', found, 'Expected linux x64: run dtrain in a Linux container.');
}

export interface LibraryFacts {
  /** The library that would be loaded, or the message that there is none. */
  readonly library: FoundLibrary | string;
  /** Files whose bytes are not those that were installed. */
  readonly changed: readonly string[];
  /** What the library showed when it ran, or why it did not. */
  readonly probe: ProbeReport | string;
  readonly hasDriver: boolean;
}

export function libraryCheck({ library, changed, probe, hasDriver }: LibraryFacts): Check {
  if (typeof library === 'string') return fail('library', 'not found', library);
  const found = `TensorFlow (${library.variant}), ${library.path}`;
  if (changed.length > 0) {
    return fail(
      'library',
      `${found}: ${changed.join(', ')} changed since it was installed`,
      `Delete ${library.source} and run dtrain setup.`,
    );
  }
  if (typeof probe === 'string')
    return fail('library', `${found}: ${probe}`, 'Run dtrain setup, or set DTRAIN_TENSORFLOW_LIB to another.');
  const whole = `TensorFlow ${probe.version} (${library.variant}), ${library.path}`;
  const unloadable = probe.unloadable.map(({ name, why }) => `${name} (${why})`).join(', ');
  if (hasDriver && unloadable !== '') {
    return warn(
      'library',
      `${whole}; does not load: ${unloadable}`,
      'Update the NVIDIA driver, or run dtrain setup --gpu.',
    );
  }
  if (hasDriver && library.variant === 'cpu') {
    return warn('library', `${whole}, but there is an NVIDIA driver`, 'To train on GPUs: dtrain setup --gpu');
  }
  return ok('library', whole);
}

export function devicesCheck(probe: ProbeReport, hasDriver: boolean): Check {
  if (probe.faulty.length > 0) {
    const faults = probe.faulty.map(({ name, why }) => `${name}: ${why}`).join('; ');
    return fail(
      'devices',
      `a product of two matrices fails on ${faults}`,
      'Check the driver (nvidia-smi), or hide the device with CUDA_VISIBLE_DEVICES.',
    );
  }
  const gpus = probe.devices.filter(({ kind }) => kind === 'gpu');
  if (gpus.length > 0) {
    const list = gpus.map(({ name, memoryBytes }) => `${name} (${gigabytes(memoryBytes)})`);
    const found = `${gpus.length} ${gpus.length === 1 ? 'GPU' : 'GPUs'}: ${list.join(', ')}`;
    if (probe.newCards.length === 0) return ok('devices', found);
    return warn('devices', found, probe.newCards.join('\n'));
  }
  if (!hasDriver) return ok('devices', 'no GPU; trains on the CPU');
  const found = 'an NVIDIA driver, but TensorFlow finds no GPU';
  if (probe.trouble) return warn('devices', `${found}. ${probe.trouble.what}`, probe.trouble.cure);
  return warn('devices', found, 'Check nvidia-smi and CUDA_VISIBLE_DEVICES; or train on the CPU.');
}

export function coresCheck(available: number, total: number): Check {
  return ok('cores', available === total ? `${available}` : `${available} of ${total}`);
}

/** Below this it is worth a word: a run takes from one to several gigabytes. */
const ENOUGH_MEMORY_BYTES = 4e9;

export function memoryCheck(availableBytes: number, totalBytes: number): Check {
  const found = `${gigabytes(availableBytes)} free of ${gigabytes(totalBytes)}`;
  if (availableBytes >= ENOUGH_MEMORY_BYTES) return ok('memory', found);
  return warn('memory', found, 'Large models may not fit: lower train.globalBatch, or end other programs.');
}

export interface DataFacts {
  /** Where CIFAR-10 is; null: nowhere; a message: what is wrong with the place that was named. */
  readonly source: { readonly path: string } | string | null;
}

export function dataCheck({ source }: DataFacts): Check {
  if (typeof source === 'string') return fail('data', 'not usable', source);
  if (source !== null) return ok('data', `CIFAR-10 in ${source.path}`);
  return warn(
    'data',
    'CIFAR-10 is not on disk',
    'The first run downloads it (170 MB); or set DTRAIN_DATA to where it is.',
  );
}

/** A run with its checkpoints, and a data set, have room in this. */
const ENOUGH_DISK_BYTES = 2e9;

export interface FolderFacts {
  readonly folder: string;
  /** Null where a file cannot be made in it. */
  readonly freeBytes: number | null;
}

export function cacheCheck({ folder, freeBytes }: FolderFacts): Check {
  return folderCheck('cache', folder, freeBytes, 'DTRAIN_HOME');
}

export function runsCheck({ folder, freeBytes }: FolderFacts): Check {
  return folderCheck('runs', folder, freeBytes, '--run-dir');
}

function folderCheck(check: string, folder: string, freeBytes: number | null, setting: string): Check {
  if (freeBytes === null)
    return fail(check, `${folder} cannot be written`, `Make it writable, or name another with ${setting}.`);
  const found = `${folder}, ${gigabytes(freeBytes)} free`;
  if (freeBytes >= ENOUGH_DISK_BYTES) return ok(check, found);
  return warn(check, found, `Free space, or name a folder on a larger disk with ${setting}.`);
}

function ok(check: string, found: string): Check {
  return { check, status: 'ok', found, cure: null };
}

function warn(check: string, found: string, cure: string): Check {
  return { check, status: 'warn', found, cure };
}

function fail(check: string, found: string, cure: string): Check {
  return { check, status: 'fail', found, cure };
}

function gigabytes(bytes: number): string {
  return `${(bytes / 1e9).toFixed(1)} GB`;
}
