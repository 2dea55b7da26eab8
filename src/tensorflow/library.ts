/**
 * Opens TensorFlow's C library for this process: finds it, sets the environment that it reads, loads what it needs.
 *
 * Must stay true: this runs on the main thread before anything of TensorFlow is called, since a worker thread's process.env does not
 * reach C; values that the user set are kept.
 */
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { cacheFolder } from '../core/home.js';
import { preload, preloadAside } from './c-api.js';
import { TENSORFLOW_VERSION } from './install-manifest.js';
import { type FoundLibrary, findLibrary } from './library-search.js';

export interface Library extends FoundLibrary {
  /** DTRAIN_DEBUG is set: TensorFlow's own log goes to standard error. */
  readonly verbose: boolean;
  /** CUDA_VISIBLE_DEVICES. */
  readonly visibleGpus: string | undefined;
}

/**
 * The library to use, with the environment ready for it. `peers` are the addresses of several hosts: no proxy comes between them.
 * @throws DTRAIN_LIBRARY_MISSING (exit 4).
 */
export function openLibrary(peers: readonly string[] = []): Library {
  const library = findLibrary(process.env);
  const verbose = setEnvironment();
  if (peers.length > 0) setDefault('no_grpc_proxy', peers.map((address) => address.replace(/:\d+$/, '')).join(','));
  if (library.variant === 'gpu') preloadCuda(library.path);
  return { ...library, verbose, visibleGpus: process.env['CUDA_VISIBLE_DEVICES'] };
}

/**
 * What XLA compiles, and on GPUs what it found to be the fastest kernels, is kept in a folder of its own and read by the next run. Where that cannot be
 * written, or the user set these variables, nothing is kept.
 */
function keepCompiled(folder: string): void {
  const autotune = path.join(folder, 'autotune');
  try {
    fs.mkdirSync(autotune, { recursive: true });
    fs.accessSync(folder, fs.constants.W_OK);
  } catch {
    return;
  }
  setDefault('TF_XLA_FLAGS', `--tf_xla_persistent_cache_directory=${folder}`);
  setDefault('XLA_FLAGS', `--xla_gpu_per_fusion_autotune_cache_dir=${autotune}`);
}

/**
 * Begins to load the library on another thread, beside whatever this one does next; openLibrary then finds it loaded, or waits for it.
 * What is wrong with it is told there.
 */
export function loadLibraryAhead(): void {
  try {
    const { path: file, variant } = findLibrary(process.env);
    const verbose = setEnvironment();
    if (variant === 'cpu') preloadAside(file, verbose);
  } catch {
    // openLibrary meets the same
  }
}

/** Sets what TensorFlow reads while it is loaded; whether it shall speak. */
function setEnvironment(): boolean {
  const verbose = Boolean(process.env['DTRAIN_DEBUG']);
  setDefault('TF_CPP_MIN_LOG_LEVEL', verbose ? '0' : '3');
  setDefault('TF_OVERRIDE_GLOBAL_THREADPOOL', '1'); // a thread pool for each CPU device, not one for all
  keepCompiled(path.join(cacheFolder(), 'xla', `${TENSORFLOW_VERSION}-${machineKey()}`));
  return verbose;
}

/** Of processor and cards: a home folder may be that of several machines, and machine code fits its own alone. */
function machineKey(): string {
  const gpus = '/proc/driver/nvidia/gpus';
  const cards = fs.existsSync(gpus) ? fs.readdirSync(gpus) : [];
  const models = cards.map((card) => /^Model:.*$/m.exec(fs.readFileSync(`${gpus}/${card}/information`, 'utf8'))?.[0]);
  const parts = [os.cpus()[0]?.model, ...models];
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, 8);
}

function setDefault(name: string, value: string): void {
  process.env[name] ??= value;
}

/** In the order of their dependencies; TensorFlow then finds them by name, without LD_LIBRARY_PATH. */
const CUDA_LIBRARIES: readonly string[] = [
  'cuda_runtime',
  'cuda_nvrtc',
  'nvjitlink',
  'cublas',
  'cusparse',
  'cusolver',
  'cufft',
  'curand',
  'cudnn',
  'nccl',
  'cuda_cupti',
];

/** Loads the CUDA wheels beside TensorFlow. One that fails is left to TensorFlow, which then finds no GPU; `dtrain doctor` names it. */
function preloadCuda(libraryPath: string): void {
  for (const file of cudaLibraries(libraryPath)) preload(file);
}

/** Paths of CUDA's libraries beside TensorFlow, in the order in which they are loaded; none beside the CPU library. */
export function cudaLibraries(libraryPath: string): string[] {
  const nvidia = path.join(path.dirname(path.dirname(libraryPath)), 'nvidia');
  return CUDA_LIBRARIES.flatMap((name) => {
    const folder = path.join(nvidia, name, 'lib');
    if (!fs.existsSync(folder)) return [];
    const files = fs.readdirSync(folder).filter((file) => file.includes('.so.'));
    return files.sort(ltFirst).map((file) => path.join(folder, file));
  });
}

/** libcublasLt before libcublas, which needs it. */
function ltFirst(a: string, b: string): number {
  return Number(b.includes('Lt')) - Number(a.includes('Lt')) || a.localeCompare(b);
}
