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
  if (isAtLeast(version, '20.19')) return ok('node', version);
  return fail('node', version, 'Expected 20.19 or later: install a current Node.');
}

/** `version` null: there is no npm on the path. */
export function npmCheck(version: string | null): Check {
  if (version !== null) return ok('npm', version);
  return warn('npm', 'not found', 'dtrain runs without it; to install or update packages, install npm.');
}

/** `version` null: the C library is another one. */
export function glibcCheck(version: string | null): Check {
  const cure = `Expected ${OLDEST_GLIBC} or later, which TensorFlow needs: run dtrain in a container such as node:22-bookworm-slim.`;
  if (version === null) return fail('glibc', 'another C library (musl?)', cure);
  return isAtLeast(version, OLDEST_GLIBC) ? ok('glibc', version) : fail('glibc', version, cure);
}

/** Of manylinux_2_27, for which TensorFlow's library is built. */
const OLDEST_GLIBC = '2.27';

/** Of versions such as 2.36, number by number. */
function isAtLeast(version: string, oldest: string): boolean {
  const [major, minor] = version.split('.').map(Number) as [number, number];
  const [oldestMajor, oldestMinor] = oldest.split('.').map(Number) as [number, number];
  return major > oldestMajor || (major === oldestMajor && minor >= oldestMinor);
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
  /** SHA-256 of the library's file; null where there is none. */
  readonly sha256: string | null;
  /** Whether dtrain setup installed it, so that its bytes can be compared. */
  readonly isInstalled: boolean;
  /** Files whose bytes are not those that were installed. */
  readonly changed: readonly string[];
  /** The bundle that it came from; null: none. */
  readonly bundle: string | null;
  /** What the library showed when it ran, or why it did not. */
  readonly probe: ProbeReport | string;
  readonly hasDriver: boolean;
}

const SHOWN_HASH = 12;

export function libraryCheck({ library, sha256, isInstalled, changed, bundle, probe, hasDriver }: LibraryFacts): Check {
  if (typeof library === 'string') return fail('library', 'not found', library);
  const origin = bundle === null ? library.variant : `${library.variant}, from bundle ${bundle}`;
  const setup = bundle === null ? 'dtrain setup' : `dtrain setup --from-bundle DIR with the parts of bundle ${bundle}`;
  const found = `TensorFlow (${origin}), ${library.path}`;
  if (changed.length > 0) {
    return fail(
      'library',
      `${found}: ${changed.join(', ')} changed since it was installed`,
      `Delete ${library.source} and run ${setup}.`,
    );
  }
  if (typeof probe === 'string')
    return fail('library', `${found}: ${probe}`, 'Run dtrain setup, or set DTRAIN_TENSORFLOW_LIB to another.');
  const how = isInstalled ? 'as dtrain setup installed it' : `found by ${library.source}`;
  const hash = sha256 === null ? '' : `, sha256 ${sha256.slice(0, SHOWN_HASH)}…`;
  const whole = `TensorFlow ${probe.version} (${origin}), ${library.path}${hash}, ${how}`;
  if (hasDriver && library.variant === 'cpu')
    return warn('library', `${whole}; but there is an NVIDIA driver`, 'To train on GPUs: dtrain setup --gpu');
  return ok('library', whole);
}

/** The oldest driver that CUDA 12 runs on. */
const OLDEST_DRIVER = 525;

/** `driver`: its version, or null where there is none. */
export function devicesCheck(probe: ProbeReport, driver: string | null): Check {
  if (probe.faulty.length > 0) {
    const faults = probe.faulty.map(({ name, why }) => `${name}: ${why}`).join('; ');
    return fail(
      'devices',
      `a product of two matrices fails on ${faults}`,
      'Check the driver (nvidia-smi), or hide the device with CUDA_VISIBLE_DEVICES.',
    );
  }
  const gpus = probe.devices.filter(({ kind }) => kind === 'gpu');
  if (driver === null && gpus.length === 0) return ok('devices', 'no GPU and no NVIDIA driver; trains on the CPU');
  const list = gpus.map(({ name, memoryBytes }) => `${name} (${gigabytes(memoryBytes)})`).join(', ');
  const count =
    gpus.length === 0
      ? 'no GPU that TensorFlow finds'
      : `${gpus.length} ${gpus.length === 1 ? 'GPU' : 'GPUs'}: ${list}`;
  const found = `${count}; NVIDIA driver ${driver ?? 'not found'}`;
  if (driver !== null && Number.parseInt(driver, 10) < OLDEST_DRIVER)
    return warn('devices', found, `Expected driver ${OLDEST_DRIVER} or later: update it, or train on the CPU.`);
  if (gpus.length > 0 && probe.newCards.length > 0) return warn('devices', found, probe.newCards.join('\n'));
  if (gpus.length > 0) return ok('devices', found);
  if (probe.trouble) return warn('devices', `${found}. ${probe.trouble.what}`, probe.trouble.cure);
  return warn('devices', found, 'Check nvidia-smi and CUDA_VISIBLE_DEVICES; or train on the CPU.');
}

/** One line a library of CUDA beside TensorFlow, in the order in which they are loaded. */
export function cudaChecks({ cuda }: ProbeReport, hasDriver: boolean): Check[] {
  return cuda.map(({ name, why }) => {
    if (why === null) return ok('cuda', `${name} loads`);
    const found = `${name} does not load: ${why}`;
    if (!hasDriver) return ok('cuda', `${found}; not needed without a GPU`);
    return warn('cuda', found, 'Update the NVIDIA driver, or run dtrain setup --gpu.');
  });
}

export interface CoresFacts {
  /** That this process may use, and of the machine. */
  readonly available: number;
  readonly total: number;
  /** Of the container, in cores; null where there is no limit. */
  readonly quota: number | null;
}

/** As many workers as cores, with a thread each: what a run takes that asks for nothing. */
export function coresCheck({ available, total, quota }: CoresFacts): Check {
  const cores = available === total ? `${available}` : `${available} of ${total}`;
  if (quota !== null && quota < available) {
    const workers = Math.max(1, Math.floor(quota));
    return warn(
      'cores',
      `${cores}, but the container may use ${quota}`,
      `Train with --cpus ${workers}, or raise the limit.`,
    );
  }
  return ok('cores', `${cores}: as many workers, 1 thread each, where nothing else is asked for`);
}

/** Below this it is worth a word: a run takes from one to several gigabytes. */
const ENOUGH_MEMORY_BYTES = 4e9;

export function memoryCheck(availableBytes: number, totalBytes: number): Check {
  const found = `${gigabytes(availableBytes)} free of ${gigabytes(totalBytes)}`;
  if (availableBytes >= ENOUGH_MEMORY_BYTES) return ok('memory', found);
  return warn('memory', found, 'Large models may not fit: lower train.globalBatch, or end other programs.');
}

export interface SharedFacts {
  /** The largest memory that threads could share, up to what dtrain ever takes. */
  readonly bytes: number;
  /** Of /dev/shm; null where there is none. */
  readonly devShmBytes: number | null;
}

/** What gradients of a very large network need. */
const ENOUGH_SHARED_BYTES = 2 ** 30;

export function sharedCheck({ bytes, devShmBytes }: SharedFacts): Check {
  const devShm = devShmBytes === null ? '' : ` (/dev/shm, which it does not need: ${gigabytes(devShmBytes)})`;
  const found = `threads can share ${gigabytes(bytes)}${devShm}`;
  if (bytes >= ENOUGH_SHARED_BYTES) return ok('shared', found);
  return fail('shared', found, 'Raise the limit on address space: ulimit -v unlimited.');
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

export interface TrialFacts {
  readonly kind: 'cpu' | 'gpu';
  readonly workers: number;
  /** Of the steps; or what they ended with. */
  readonly outcome: { readonly imagesPerSecond: number; readonly flopsPerImage: number } | { readonly message: string };
  /** Of one core in a product of matrices, operations a second. */
  readonly coreFlopsPerSecond: number;
  readonly cores: number;
}

export const TRIAL_STEPS = 10;
/**
 * What a step of ResNet-20 reaches of a core's product of matrices, all cores working: 0.6 on the machine of docs/results (an AMD EPYC).
 * Machines differ; only less than half of the expected is worth a word.
 */
const STEP_SHARE = 0.6;
const SLOW_SHARE = 0.5;

/** Expected of CPUs: by the speed of a core. Of GPUs: at least what the cores would do. */
export function trialCheck({ kind, workers, outcome, coreFlopsPerSecond, cores }: TrialFacts): Check {
  const noun = kind === 'gpu' ? 'GPU' : 'CPU worker';
  const what = `${TRIAL_STEPS} steps of resnet20 on ${workers} ${noun}${workers === 1 ? '' : 's'}`;
  if ('message' in outcome) return fail('trial', `${what} failed`, outcome.message);
  const { imagesPerSecond, flopsPerImage } = outcome;
  const ofCores = (STEP_SHARE * coreFlopsPerSecond * (kind === 'gpu' ? cores : workers)) / flopsPerImage;
  const expected =
    kind === 'gpu' ? `more than the CPU's ${count(ofCores)} expected` : `about ${count(ofCores)} expected`;
  const found = `${what}: ${count(imagesPerSecond)} images/s, ${expected}`;
  if (imagesPerSecond >= (kind === 'gpu' ? 1 : SLOW_SHARE) * ofCores) return ok('trial', found);
  const cure =
    kind === 'gpu'
      ? 'Look with nvidia-smi whether other programs use the GPU, or its power or clock is limited.'
      : 'Other programs, or a limit of the container, take the time of the cores: look with top, or train with fewer workers (--cpus N).';
  return warn('trial', found, cure);
}

/** Three digits: nothing here is known better. */
function count(value: number): string {
  return Number(value.toPrecision(3)).toLocaleString('en-US');
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
