/**
 * What `dtrain setup` installed: a folder in the cache with a manifest that names every file, its size and its SHA-256. The manifest is
 * written last, so a folder with a manifest whose sizes match is complete.
 */
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';

/** The version that all of dtrain is written and tested against. */
export const TENSORFLOW_VERSION = '2.21.0';
export const LIBRARY_NAME = 'libtensorflow_cc.so.2';

/** Which build of TensorFlow: without CUDA, or with it. The second runs on machines without a GPU too. */
export type LibraryVariant = 'cpu' | 'gpu';

export interface InstalledFile {
  /** Relative to the folder, with forward slashes. */
  readonly path: string;
  readonly bytes: number;
  readonly sha256: string;
}

export interface InstallManifest {
  readonly tensorflow: string;
  readonly variant: LibraryVariant;
  readonly files: readonly InstalledFile[];
}

/** Where `variant` is, or would be, installed. */
export function installFolder(cacheFolder: string, variant: LibraryVariant): string {
  return path.join(cacheFolder, 'tensorflow', `${TENSORFLOW_VERSION}-${variant}`);
}

/** The C library inside an installed folder; its `nvidia/` folder, if any, lies beside `tensorflow/`. */
export function libraryPath(folder: string): string {
  return path.join(folder, 'tensorflow', LIBRARY_NAME);
}

/** The manifest of a complete installation; null where a file is missing or has another size. Takes milliseconds, hashes nothing. */
export function readInstallation(folder: string): InstallManifest | null {
  const manifest = readManifest(folder);
  const isWhole = (file: InstalledFile) =>
    fs.statSync(path.join(folder, file.path), { throwIfNoEntry: false })?.size === file.bytes;
  return manifest?.files.every(isWhole) ? manifest : null;
}

/** The files of an installation whose bytes are not those that were installed; takes seconds. */
export async function findChangedFiles(folder: string, manifest: InstallManifest): Promise<readonly string[]> {
  const changed: string[] = [];
  for (const file of manifest.files) {
    const sha256 = await hashFile(path.join(folder, file.path)).catch(() => 'unreadable');
    if (sha256 !== file.sha256) changed.push(file.path);
  }
  return changed;
}

/** SHA-256 in hexadecimal. */
export async function hashFile(file: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const bytes of fs.createReadStream(file, { highWaterMark: 2 ** 20 })) hash.update(bytes);
  return hash.digest('hex');
}

export const MANIFEST_NAME = 'manifest.json';

function readManifest(folder: string): InstallManifest | null {
  try {
    const manifest = JSON.parse(fs.readFileSync(path.join(folder, MANIFEST_NAME), 'utf8')) as InstallManifest;
    return manifest.tensorflow === TENSORFLOW_VERSION && manifest.files.length > 0 ? manifest : null;
  } catch {
    return null; // no manifest, or not one of ours: not installed
  }
}
