/**
 * What `dtrain setup` installed: a folder in the cache with a manifest that names every file, its size and its SHA-256. The manifest is
 * written last, so a folder with a manifest whose sizes match is complete. And what of a bundle has come so far.
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
  /** The first digits of the bundle that it came from; absent where it came from wheels. */
  readonly bundle?: string;
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

/** What `dtrain setup --from-bundle` has taken so far. */
export interface TakenParts {
  /** Id of the bundle. */
  readonly bundle: string;
  /** How many it has. */
  readonly parts: number;
  /** Numbers, from 1. */
  readonly taken: readonly number[];
}

export const TAKEN_NAME = 'taken.json';

/** The folder, beside installations, of a bundle whose parts are coming. */
export function stagingName(variant: LibraryVariant, bundle: string): string {
  return `.bundle-${TENSORFLOW_VERSION}-${variant}-${bundle}`;
}

/** All such folders in `parent`, the folder of installations. */
export function stagingFolders(parent: string, variant: LibraryVariant): readonly string[] {
  if (!fs.existsSync(parent)) return [];
  const names = fs.readdirSync(parent).filter((name) => name.startsWith(stagingName(variant, '')));
  return names.sort().map((name) => path.join(parent, name));
}

/** Null where nothing was taken. */
export function takenParts(staging: string): TakenParts | null {
  try {
    return JSON.parse(fs.readFileSync(path.join(staging, TAKEN_NAME), 'utf8')) as TakenParts;
  } catch {
    return null;
  }
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
