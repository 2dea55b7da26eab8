/**
 * From a place to what it holds: one function for each kind of place, and what tells that a place has changed.
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
import { arrangeTree, type ImageTree, listTree, parseTreePath, type TreeEntry, type TreeFile } from './image-tree.js';
import type { DataSource } from './locate.js';
import { parquetFiles } from './parquet-files.js';

/** Changes when a file is added, removed, or has another size or time of change. */
export function identityOf({ kind, path: place }: DataSource): string {
  const stamps = isListed(kind) ? listed(kind, place).map(({ stamp }) => stamp) : filesOf(kind, place).map(stampOf);
  return createHash('sha256').update(stamps.join('\n')).digest('hex');
}

/** Throws DTRAIN_DATA_CORRUPT where `source` is not what it was when it had this identity. */
export function checkAtRest(source: DataSource, identity: string): void {
  if (identityOf(source) === identity) return;
  const got = 'one changed while they were read';
  throw dataError('DTRAIN_DATA_CORRUPT', `${source.path}: expected files at rest, ${got}. Run dtrain again.`);
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

/** Pixels, or images that are still encoded: in files of their own, or all of them in memory. */
export type SourceContent = { readonly set: DecodedSet } | { readonly tree: ImageTree; readonly isOnDisk: boolean };

/** Reads `source`, but not the files of a folder or a list. Throws data errors. */
export async function readSource(source: DataSource): Promise<SourceContent> {
  switch (source.kind) {
    case 'official-folder':
      return { set: readCifar10Folder(source.path, source.cure) };
    case 'cifar100-folder':
      return { set: readCifar100(readFrom(source), source.path, source.cure) };
    case 'tree':
    case 'csv':
      return { tree: arrangeTree(source.path, listed(source.kind, source.path)), isOnDisk: true };
    case 'parquet':
      return { tree: await readParquetTree(source.path), isOnDisk: false };
    case 'archive':
      return readArchived(source);
    default:
      return source.kind satisfies never;
  }
}

/** hyparquet is loaded only where such files are read. */
async function readParquetTree(folder: string): Promise<ImageTree> {
  const { readParquet } = await import('./parquet.js');
  return readParquet(folder);
}

/** The members say what an archive holds: official files if there is one, else a tree. What reads it is loaded only then. */
async function readArchived({ path: file, cure }: DataSource): Promise<SourceContent> {
  const { readArchive } = await import('./archive.js');
  const members = await readArchive(file, (member, bytes) => isWanted(file, member, bytes, cure), cure);
  const official = members.filter(({ path: member }) => isOfficialFile(member));
  const bytesIn = (among: readonly ArchiveMember[]) => (name: string) => officialBytes(file, among, name, cure);
  if (official.length > 0) return { set: readCifar10(bytesIn(official), file, cure) };
  if (members.some(({ path: member }) => PYTHON_BATCH.test(member)))
    return { set: readCifar10Python(bytesIn(members), file, cure) };
  if (members.some(({ path: member }) => isCifar100File(member)))
    return { set: readCifar100(bytesIn(members), file, cure) };
  const entries = members.map((member) => treeEntryOf(file, member));
  return { tree: arrangeTree(file, entries), isOnDisk: false };
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
