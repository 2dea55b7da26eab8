/**
 * From a place to a decoded set: one function for each kind of place, and what tells that a place has changed.
 * Must stay true: the identity covers every file that is read.
 */
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import type { ArchiveMember } from './archive.js';
import { CIFAR10_FILES, checkCifar10FileSize, readCifar10, readCifar10Folder } from './cifar10.js';
import { readCifar10Python } from './cifar10-python.js';
import { CIFAR100_FILES, readCifar100 } from './cifar100.js';
import { listCsv } from './csv-list.js';
import { dataError, firstLine } from './data-error.js';
import type { DecodedSet } from './data-set.js';
import {
  arrangeTree,
  decodeTree,
  listTree,
  parseTreePath,
  type Scaling,
  type TreeEntry,
  type TreeFile,
} from './image-tree.js';
import type { DataSource } from './locate.js';
import { parquetFiles } from './parquet-files.js';

/** Changes when a file is added, removed, or has another size or time of change. */
export function identityOf({ kind, path: place }: DataSource): string {
  const stamps = isListed(kind) ? listed(kind, place).map(({ stamp }) => stamp) : filesOf(kind, place).map(stampOf);
  return createHash('sha256').update(stamps.join('\n')).digest('hex');
}

type ListedKind = 'tree' | 'csv';

function isListed(kind: DataSource['kind']): kind is ListedKind {
  return kind === 'tree' || kind === 'csv';
}

function listed(kind: ListedKind, place: string): TreeFile[] {
  return kind === 'tree' ? listTree(place) : listCsv(place);
}

function filesOf(kind: Exclude<DataSource['kind'], ListedKind>, place: string): string[] {
  if (kind === 'archive') return [place];
  if (kind === 'parquet') return Object.values(parquetFiles(place) ?? {}).flat();
  return (kind === 'official-folder' ? CIFAR10_FILES : CIFAR100_FILES).map((name) => path.join(place, name));
}

function stampOf(file: string): string {
  const stats = fs.statSync(file, { throwIfNoEntry: false });
  return `${path.resolve(file)} ${stats?.size} ${stats?.mtimeMs}`;
}

/** Reads and decodes all of `source`. Throws data errors. */
export function readSource(
  source: DataSource,
  say: (line: string) => void,
  scaling: Scaling | null = null,
): Promise<DecodedSet> {
  switch (source.kind) {
    case 'official-folder':
      return Promise.resolve(readCifar10Folder(source.path, source.cure));
    case 'cifar100-folder':
      return Promise.resolve(readCifar100(readFrom(source), source.path, source.cure));
    case 'tree':
    case 'csv':
      return decodeTree(source.path, arrangeTree(source.path, listed(source.kind, source.path)), say, scaling);
    case 'parquet':
      return decodeParquet(source.path, say, scaling);
    case 'archive':
      return readArchived(source, say, scaling);
    default:
      return source.kind satisfies never;
  }
}

/** hyparquet is loaded only where such files are read. */
async function decodeParquet(
  folder: string,
  say: (line: string) => void,
  scaling: Scaling | null,
): Promise<DecodedSet> {
  const { readParquet } = await import('./parquet.js');
  return decodeTree(folder, await readParquet(folder), say, scaling);
}

/** The members say what an archive holds: official files if there is one, else a tree. What reads it is loaded only then. */
async function readArchived(
  { path: file, cure }: DataSource,
  say: (line: string) => void,
  scaling: Scaling | null,
): Promise<DecodedSet> {
  const { readArchive } = await import('./archive.js');
  const members = await readArchive(file, (member, bytes) => isWanted(file, member, bytes, cure), cure);
  const official = members.filter(({ path: member }) => isOfficialFile(member));
  if (official.length > 0) return readCifar10((name) => officialBytes(file, official, name, cure), file, cure);
  if (members.some(({ path: member }) => PYTHON_BATCH.test(member)))
    return readCifar10Python((name) => officialBytes(file, members, name, cure), file, cure);
  if (members.some(({ path: member }) => isCifar100File(member)))
    return readCifar100((name) => officialBytes(file, members, name, cure), file, cure);
  const entries = members.map((member) => treeEntryOf(file, member));
  return decodeTree(file, arrangeTree(file, entries), say, scaling);
}

const PYTHON_BATCH = /(^|\/)cifar-10-batches-py\/(data_batch_\d|test_batch)$/;

function isWanted(file: string, member: string, bytes: number, cure: string): boolean {
  if (PYTHON_BATCH.test(member)) return true;
  if (isCifar100File(member)) return true;
  if (!isOfficialFile(member)) return parseTreePath(member) !== undefined;
  checkCifar10FileSize(path.join(file, member), bytes, cure);
  return true;
}

/** One of its folder's files, which tells them from a class called train.bin. */
function isCifar100File(member: string): boolean {
  return CIFAR100_FILES.includes(path.basename(member)) && !/\/(train|test)\/[^/]+\/[^/]+$/.test(`/${member}`);
}

function readFrom({ path: folder, cure }: DataSource): (name: string) => Uint8Array {
  return (name) => {
    try {
      return fs.readFileSync(path.join(folder, name));
    } catch (cause) {
      throw dataError(
        'DTRAIN_DATA_PATH',
        `${path.join(folder, name)}: cannot be read (${firstLine(cause)}). ${cure}`,
        cause,
      );
    }
  };
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
