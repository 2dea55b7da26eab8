/**
 * The file system as checkpoints see it: the few calls that a save is made of, each of which a test can make fail or be the last one.
 *
 * Idea: `realFs` is node:fs and nothing else. What a crash may do at any of these calls is tried by other implementations (test/faults),
 * so whoever writes something that must survive takes an Fs and never node:fs.
 * Must stay true: a call is one operation of the system; all are synchronous; they throw what node:fs throws.
 */
import fs from 'node:fs';
import path from 'node:path';

export type EntryKind = 'file' | 'folder' | 'link' | 'other';

export interface Entry {
  readonly kind: EntryKind;
  readonly bytes: number;
  readonly inode: number;
}

export interface Fs {
  /** Makes one folder that is not there yet, for its owner alone unless `mode` says otherwise. */
  makeFolder(folder: string, mode?: number): void;
  /** Opens a new file for writing, for its owner alone. */
  create(file: string): number;
  /** Opens what is there, a file or a folder, only to sync it. */
  open(path: string): number;
  /** Bytes that were taken: perhaps fewer than given. */
  write(descriptor: number, bytes: Uint8Array): number;
  sync(descriptor: number): void;
  close(descriptor: number): void;
  rename(from: string, to: string): void;
  /** Makes a symbolic link. */
  link(target: string, link: string): void;
  /** Removes a file, a link or a whole folder; nothing there is no error. */
  remove(path: string): void;

  list(folder: string): string[];
  /** Of the path itself, a link not followed; undefined where there is nothing. */
  entry(path: string): Entry | undefined;
  read(file: string): Buffer;
  readLink(link: string): string;
  /** Bytes that this user may still write there. */
  freeBytes(folder: string): number;
}

export const realFs: Fs = {
  makeFolder: (folder, mode = 0o700) => fs.mkdirSync(folder, { mode }),
  create: (file) => fs.openSync(file, 'wx', 0o600),
  open: (path) => fs.openSync(path, 'r'),
  write: (descriptor, bytes) => fs.writeSync(descriptor, bytes),
  sync: (descriptor) => fs.fsyncSync(descriptor),
  close: (descriptor) => fs.closeSync(descriptor),
  rename: (from, to) => fs.renameSync(from, to),
  link: (target, link) => fs.symlinkSync(target, link),
  remove: (path) => fs.rmSync(path, { recursive: true, force: true }),
  list: (folder) => fs.readdirSync(folder),
  entry: (path) => entryOf(fs.lstatSync(path, { throwIfNoEntry: false })),
  read: (file) => fs.readFileSync(file),
  readLink: (link) => fs.readlinkSync(link),
  freeBytes: (folder) => {
    const { bavail, bsize } = fs.statfsSync(folder);
    return bavail * bsize;
  },
};

function entryOf(stats: fs.Stats | undefined): Entry | undefined {
  if (stats === undefined) return undefined;
  const kind = stats.isFile() ? 'file' : stats.isDirectory() ? 'folder' : stats.isSymbolicLink() ? 'link' : 'other';
  return { kind, bytes: stats.size, inode: stats.ino };
}

/** Writes a new file whole and makes its bytes durable; its name is durable once the folder is synced. */
export function writeNewFile(fs: Fs, file: string, bytes: Uint8Array): void {
  const descriptor = fs.create(file);
  try {
    for (let at = 0; at < bytes.length; ) at += fs.write(descriptor, bytes.subarray(at));
    fs.sync(descriptor);
  } finally {
    fs.close(descriptor);
  }
}

/** Makes durable what is at `path`: the bytes of a file, the names in a folder. */
export function syncPath(fs: Fs, path: string): void {
  const descriptor = fs.open(path);
  try {
    fs.sync(descriptor);
  } finally {
    fs.close(descriptor);
  }
}

/** Makes `folder` and what is missing above it, for everybody, and makes their names durable. */
export function makeFolders(fs: Fs, folder: string): void {
  const isThere = () => ['folder', 'link'].includes(fs.entry(folder)?.kind ?? '');
  if (isThere()) return;
  const parent = path.dirname(folder);
  makeFolders(fs, parent);
  try {
    fs.makeFolder(folder, 0o777);
  } catch (error) {
    if (!isThere()) throw error; // else another process made it meanwhile
  }
  syncPath(fs, parent);
}
