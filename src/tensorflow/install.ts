/**
 * `dtrain setup`: TensorFlow's C library from the pinned wheels into the cache folder.
 *
 * Idea: uv or pip unpack the wheels (pinned, with hashes) into a temporary folder beside the final one; the few files that matter are kept,
 * hashed and synced; one rename makes them the installation.
 *
 *   <cacheFolder>/tensorflow/2.21.0-cpu/   manifest.json   tensorflow/{libtensorflow_cc.so.2, libtensorflow_framework.so.2, LICENSE, …}
 *   <cacheFolder>/tensorflow/2.21.0-gpu/   the same, and beside tensorflow/   nvidia/…/lib, nvidia/cuda_nvcc   where TensorFlow looks for them
 *
 * Must stay true: the final folder is complete or not there, whatever happens to this process; a second set-up beside it does no harm.
 */
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { nowSeconds } from '../core/clock.js';
import { DtrainError, ExitCode } from '../core/errors.js';
import { syncFolder, writeFileAtomic } from '../core/files.js';
import { withLock } from './folder-lock.js';
import {
  hashFile,
  type InstalledFile,
  type InstallManifest,
  installFolder,
  type LibraryVariant,
  libraryPath,
  MANIFEST_NAME,
  readInstallation,
  stagingFolders,
  TENSORFLOW_VERSION,
} from './install-manifest.js';
import { INSTALLERS, type InstallerFailure, runInstaller } from './python-installer.js';

export interface InstallOptions {
  readonly variant: LibraryVariant;
  readonly cacheFolder: string;
  /** Gets one line for people at a time. */
  readonly say: (line: string) => void;
  /** For uv and pip: PATH, and their own configuration. */
  readonly env?: NodeJS.ProcessEnv;
}

export interface Installation {
  readonly folder: string;
  /** False if it was there already. */
  readonly installed: boolean;
}

/** Free space that the wheels, their unpacked files and the temporary copies of uv or pip take at the most. */
const NEEDED_BYTES: Record<LibraryVariant, number> = { cpu: 2e9, gpu: 10e9 };
const DOWNLOAD_BYTES: Record<LibraryVariant, number> = { cpu: 0.274e9, gpu: 3.4e9 };
const HEARTBEAT_MILLISECONDS = 5000;

/** Installs the library, unless it is there. Throws DtrainError with exit code 4 (environment), naming what failed and the cure. */
export async function installTensorFlow(options: InstallOptions): Promise<Installation> {
  const { variant, cacheFolder } = options;
  const say = (line: string) => options.say(`TensorFlow ${TENSORFLOW_VERSION} (${variant}): ${line}`);
  const folder = installFolder(cacheFolder, variant);
  return installOnce(folder, { say, already: `already installed in ${folder}` }, async (parent) => {
    removeLeftovers(parent, variant);
    checkFreeSpace(parent, NEEDED_BYTES[variant]);
    say(`installing, a download of about ${gigabytes(DOWNLOAD_BYTES[variant])} GB`);
    const start = nowSeconds();
    const temporary = fs.mkdtempSync(path.join(parent, temporaryPrefix(variant)));
    let bytes: number;
    try {
      const unpacked = await fetchWheels(variant, temporary, options.env ?? process.env, say);
      say('checking the files');
      const manifest = await keepLibraries(variant, unpacked, path.join(temporary, 'kept'));
      commitInstallation(path.join(temporary, 'kept'), manifest, folder, temporary);
      bytes = manifest.files.reduce((sum, file) => sum + file.bytes, 0);
    } finally {
      fs.rmSync(temporary, { recursive: true, force: true });
    }
    say(`installed ${gigabytes(bytes)} GB in ${Math.round(nowSeconds() - start)} s: ${folder}`);
  });
}

/**
 * Calls `install` with the folder above, one process at a time, unless a library is in `folder`; then says `already`.
 * @throws where the platform cannot run it or the folder cannot be made (exit 4), and what `install` throws.
 */
export async function installOnce(
  folder: string,
  { say, already }: { readonly say: (line: string) => void; readonly already: string },
  install: (parent: string) => Promise<void>,
): Promise<Installation> {
  const present = () => {
    if (readInstallation(folder) === null) return false;
    say(already);
    return true;
  };
  if (present()) return { folder, installed: false };
  checkPlatform();
  const parent = path.dirname(folder);
  createFolder(parent);
  const onWait = () => say('another dtrain setup is at work, waiting for it');
  return withLock(`${folder}.lock`, onWait, async () => {
    if (present()) return { folder, installed: false };
    await install(parent);
    return { folder, installed: true };
  });
}

/** Unpacks the wheels by the first installer that can; returns the folder. */
async function fetchWheels(
  variant: LibraryVariant,
  temporary: string,
  env: NodeJS.ProcessEnv,
  say: (line: string) => void,
): Promise<string> {
  const requirements = fileURLToPath(new URL(`requirements/${variant}.txt`, import.meta.url));
  const failures: { name: string; failure: InstallerFailure }[] = [];
  for (const installer of INSTALLERS) {
    const work = path.join(temporary, installer.command);
    const [target, temporaryFolder] = [path.join(work, 'target'), path.join(work, 'temporary')];
    fs.mkdirSync(temporaryFolder, { recursive: true });
    const start = nowSeconds();
    const heartbeat = setInterval(() => {
      say(`${installer.name}, ${Math.round(nowSeconds() - start)} s`);
    }, HEARTBEAT_MILLISECONDS);
    const failure = await runInstaller(installer, { requirements, target, temporaryFolder, env, say });
    clearInterval(heartbeat);
    if (failure === null) return target;
    if (failure.kind === 'wrongHash') throw failedError(variant, installer.name, failure);
    failures.push({ name: installer.name, failure });
  }
  const worst = failures.find(({ failure }) => failure.kind !== 'absent') ?? failures[0]!;
  throw failedError(variant, worst.name, worst.failure);
}

/** Moves the files that matter to `kept`; their manifest. */
async function keepLibraries(variant: LibraryVariant, unpacked: string, kept: string): Promise<InstallManifest> {
  const files: InstalledFile[] = [];
  for (const entry of fs.readdirSync(unpacked, { recursive: true, encoding: 'utf8' }).sort()) {
    const destination = keptPath(entry);
    const source = path.join(unpacked, entry);
    if (destination === null || !fs.lstatSync(source).isFile()) continue;
    const file = path.join(kept, destination);
    fs.mkdirSync(path.dirname(file), { recursive: true });
    fs.renameSync(source, file);
    files.push({ path: destination, bytes: fs.statSync(file).size, sha256: await hashFile(file) });
  }
  if (!fs.existsSync(libraryPath(kept))) {
    const failure: InstallerFailure = {
      kind: 'other',
      output: `the wheel holds no ${path.basename(libraryPath(kept))}`,
    };
    throw failedError(variant, 'unpacking', failure);
  }
  return { tensorflow: TENSORFLOW_VERSION, variant, files };
}

/** Where a file of the unpacked wheels goes: the libraries, what TensorFlow needs of CUDA, and the licences; null for all else. */
function keptPath(file: string): string | null {
  if (/^tensorflow\/(libtensorflow_(cc|framework)\.so\.2|THIRD_PARTY_NOTICES\.txt)$/.test(file)) return file;
  if (file === 'tensorflow/include/LICENSE') return 'tensorflow/LICENSE';
  if (/^nvidia\/(\w+\/lib|cuda_nvcc\/(bin|nvvm))\//.test(file)) return file;
  const licence = /^nvidia_(\w+)_cu12-[^/]+\.dist-info\/(?:licenses\/)?License\.txt$/i.exec(file);
  return licence === null ? null : `nvidia/${licence[1]}/License.txt`;
}

/** Makes `kept`, synced and with its manifest, the installation, in place of an incomplete one, which `temporary` takes; removes `temporary`. */
export function commitInstallation(kept: string, manifest: InstallManifest, folder: string, temporary: string): void {
  for (const file of manifest.files) syncFile(path.join(kept, file.path));
  writeFileAtomic(path.join(kept, MANIFEST_NAME), `${JSON.stringify(manifest, null, 1)}\n`);
  for (const entry of fs.readdirSync(kept, { recursive: true, encoding: 'utf8' })) {
    if (fs.lstatSync(path.join(kept, entry)).isDirectory()) syncFolder(path.join(kept, entry));
  }
  if (fs.existsSync(folder)) fs.renameSync(folder, path.join(temporary, 'replaced'));
  fs.renameSync(kept, folder);
  syncFolder(path.dirname(folder));
  const parent = path.dirname(folder);
  for (const left of [temporary, ...stagingFolders(parent, manifest.variant)])
    fs.rmSync(left, { recursive: true, force: true });
}

function syncFile(file: string): void {
  const descriptor = fs.openSync(file, 'r');
  try {
    fs.fsyncSync(descriptor);
  } finally {
    fs.closeSync(descriptor);
  }
}

function temporaryPrefix(variant: LibraryVariant): string {
  return `.tmp-${TENSORFLOW_VERSION}-${variant}-`;
}

/** Temporary folders of set-ups that were killed; nobody else is at work while we hold the lock. */
function removeLeftovers(parent: string, variant: LibraryVariant): void {
  for (const entry of fs.readdirSync(parent)) {
    if (entry.startsWith(temporaryPrefix(variant)))
      fs.rmSync(path.join(parent, entry), { recursive: true, force: true });
  }
}

function checkPlatform(): void {
  if (process.platform === 'linux' && process.arch === 'x64') return;
  throw new DtrainError(
    'DTRAIN_SETUP_PLATFORM',
    ExitCode.environment,
    `TensorFlow: expected Linux on x64, got ${process.platform} on ${process.arch}. Run dtrain in a Linux container.`,
  );
}

function createFolder(folder: string): void {
  try {
    fs.mkdirSync(folder, { recursive: true });
    fs.accessSync(folder, fs.constants.W_OK);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    const message = `TensorFlow: ${folder}: cannot be written (${code}). Make it writable, or set DTRAIN_HOME to another folder.`;
    throw new DtrainError('DTRAIN_SETUP_FOLDER', ExitCode.environment, message, { cause });
  }
}

export function checkFreeSpace(folder: string, needed: number): void {
  const { bavail, bsize } = fs.statfsSync(folder);
  if (bavail * bsize >= needed) return;
  throw diskFullError(
    `${folder}: expected ${gigabytes(needed)} GB of free space, got ${gigabytes(bavail * bsize)} GB.`,
  );
}

function gigabytes(bytes: number): string {
  return (bytes / 1e9).toFixed(1);
}

export function diskFullError(what: string): DtrainError {
  const message = `TensorFlow: ${what} Free space, or set DTRAIN_HOME to a folder on a larger disk; then run dtrain setup again.`;
  return new DtrainError('DTRAIN_SETUP_DISK_FULL', ExitCode.environment, message);
}

export function setupError(code: string, message: string): DtrainError {
  return new DtrainError(code, ExitCode.environment, `TensorFlow: ${message}`);
}

/** What the user reads when no installer could do it. */
function failedError(variant: LibraryVariant, name: string, failure: InstallerFailure): DtrainError {
  const again = variant === 'gpu' ? 'dtrain setup --gpu' : 'dtrain setup';
  switch (failure.kind) {
    case 'absent':
      return setupError(
        'DTRAIN_SETUP_NO_INSTALLER',
        `expected uv, or python3 with pip, to install it with; found neither. ` +
          `Install one (for instance: apt install python3-pip), then run ${again} again.`,
      );
    case 'unreachable':
      return setupError(
        'DTRAIN_SETUP_UNREACHABLE',
        `${name} cannot reach the package index. Check the network, or the proxy and index in the configuration of ${name}, then run ` +
          `${again} again; or bring a bundle from a machine with a network (dtrain setup --bundle DIR), or set DTRAIN_TENSORFLOW_LIB to a ` +
          `libtensorflow_cc.so.2 of version ${TENSORFLOW_VERSION}.`,
      );
    case 'wrongHash':
      return setupError(
        'DTRAIN_SETUP_WRONG_HASH',
        `${name} got a file whose SHA-256 is not the pinned one. Empty the cache (uv cache clean, python3 -m pip cache purge) ` +
          `and run ${again} again; if it stays, do not trust the package index.`,
      );
    case 'diskFull':
      return diskFullError(`the disk became full while ${name} was unpacking.`);
    case 'other':
      return setupError(
        'DTRAIN_SETUP_FAILED',
        `${name} failed. Its last words:\n${lastLines(failure.output)}\nCure that, then run ${again} again.`,
      );
  }
  return failure satisfies never;
}

function lastLines(output: string): string {
  const lines = output.split('\n').filter((line) => line.trim() !== '');
  return lines
    .slice(-6)
    .map((line) => `  ${line.trimEnd().slice(0, 200)}`)
    .join('\n');
}
