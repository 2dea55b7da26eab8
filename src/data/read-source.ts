/**
 * From a place to a decoded set: one function for each kind of place, and what tells that a place has changed.
 * Must stay true: the identity covers every file that is read.
 */
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { type ArchiveMember, readArchive } from './archive.js';
import { CIFAR10_FILES, checkCifar10FileSize, readCifar10, readCifar10Folder } from './cifar10.js';
import { dataError } from './data-error.js';
import type { DecodedSet } from './data-set.js';
import { arrangeTree, decodeTree, listTree, parseTreePath, type TreeEntry } from './image-tree.js';
import type { DataSource } from './locate.js';

/** Changes when a file is added, removed, or has another size or time of change. */
export function identityOf({ kind, path: place }: DataSource): string {
  const stamps = kind === 'tree' ? listTree(place).map(({ stamp }) => stamp) : filesOf(kind, place).map(stampOf);
  return createHash('sha256').update(stamps.join('\n')).digest('hex');
}

function filesOf(kind: 'official-folder' | 'archive', place: string): string[] {
  return kind === 'archive' ? [place] : CIFAR10_FILES.map((name) => path.join(place, name));
}

function stampOf(file: string): string {
  const stats = fs.statSync(file, { throwIfNoEntry: false });
  return `${path.resolve(file)} ${stats?.size} ${stats?.mtimeMs}`;
}

/** Reads and decodes all of `source`. Throws data errors. */
export function readSource(source: DataSource, say: (line: string) => void): Promise<DecodedSet> {
  switch (source.kind) {
    case 'official-folder':
      return Promise.resolve(readCifar10Folder(source.path, source.cure));
    case 'tree':
      return decodeTree(source.path, arrangeTree(source.path, listTree(source.path)), say);
    case 'archive':
      return readArchived(source, say);
    default:
      return source.kind satisfies never;
  }
}

/** The members say what an archive holds: official files if there is one, else a tree. */
async function readArchived({ path: file, cure }: DataSource, say: (line: string) => void): Promise<DecodedSet> {
  const members = await readArchive(file, (member, bytes) => isWanted(file, member, bytes, cure), cure);
  const official = members.filter(({ path: member }) => isOfficialFile(member));
  if (official.length > 0) return readCifar10((name) => officialBytes(file, official, name, cure), file, cure);
  const entries = members.map((member) => treeEntryOf(file, member));
  return decodeTree(file, arrangeTree(file, entries), say);
}

const PYTHON_BATCH = /(^|\/)cifar-10-batches-py\/data_batch_\d$/;

function isWanted(file: string, member: string, bytes: number, cure: string): boolean {
  if (PYTHON_BATCH.test(member)) {
    const got = 'got the official Python archive, which this version does not read';
    const use = 'Use the official binary archive (cifar-10-binary.tar.gz).';
    throw dataError('DTRAIN_DATA_LAYOUT', `${file}: expected a binary archive or images, ${got}. ${use}`);
  }
  if (!isOfficialFile(member)) return parseTreePath(member) !== undefined;
  checkCifar10FileSize(path.join(file, member), bytes, cure);
  return true;
}

function isOfficialFile(member: string): boolean {
  return CIFAR10_FILES.includes(path.basename(member));
}

function officialBytes(file: string, official: readonly ArchiveMember[], name: string, cure: string): Uint8Array {
  const found = official.filter(({ path: member }) => path.basename(member) === name);
  if (found.length !== 1) {
    const counts = `expected ${name} once, got it ${found.length} times`;
    throw dataError('DTRAIN_DATA_LAYOUT', `${file}: ${counts}. ${cure}`);
  }
  return found[0]!.bytes;
}

function treeEntryOf(file: string, { path: member, bytes }: ArchiveMember): TreeEntry {
  return { ...parseTreePath(member)!, image: { name: path.join(file, member), read: () => bytes } };
}
