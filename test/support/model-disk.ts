/**
 * A disk in memory that knows what was synced, and what a power failure may make of the rest.
 *
 * Idea: a file has its durable bytes and the writes since its last sync; a folder has its durable entries and the changes since its last
 * sync. POSIX promises nothing of either before a sync, so a crash image takes any subset of a folder's changes, and of a file's unsynced
 * bytes none, all, or some of their blocks (of 512 or 4096 bytes), in any order (Pillai et al., "All File Systems Are Not Created Equal",
 * OSDI 2014). A rename is one change. An image is a disk again: the product's own reader runs on it.
 * Must stay true: a call that succeeds here succeeds on a real disk, and leaves the same tree (test/faults/power-loss.test.ts).
 */
import path from 'node:path';
import type { Entry, Fs } from '../../src/core/file-system.js';

interface FileNode {
  readonly kind: 'file';
  readonly inode: number;
  durable: Uint8Array;
  current: Uint8Array;
}
interface LinkNode {
  readonly kind: 'link';
  readonly inode: number;
  readonly target: string;
}
interface FolderNode {
  readonly kind: 'folder';
  readonly inode: number;
  durable: Map<string, DiskNode>;
  current: Map<string, DiskNode>;
  /** Changes of `durable` that lead to `current`. */
  changes: EntryChange[];
}
type DiskNode = FileNode | LinkNode | FolderNode;
type EntryChange = (entries: Map<string, DiskNode>) => void;

/** Gives one of 0 … options − 1. */
export type Choose = (options: number) => number;

export class ModelDisk {
  readonly fs: Fs;
  /** Called after each call that changes something. */
  onChange: () => void = () => undefined;
  readonly #root: FolderNode;
  readonly #open = new Map<number, FileNode | FolderNode>();
  #nextInode = 1000;
  #nextDescriptor = 3;

  constructor(root: FolderNode = newFolder(1)) {
    this.#root = root;
    this.fs = {
      makeFolder: (folder) => this.#add(folder, newFolder(this.#nextInode++)),
      create: (file) => {
        const node: FileNode = { kind: 'file', inode: this.#nextInode++, durable: NO_BYTES, current: NO_BYTES };
        this.#add(file, node);
        return this.#descriptor(node);
      },
      open: (place) => {
        const node = this.#node(place);
        if (node === undefined || node.kind === 'link') throw failure('ENOENT', place);
        return this.#descriptor(node);
      },
      write: (descriptor, bytes) => {
        const node = this.#open.get(descriptor);
        if (node?.kind !== 'file') throw failure('EBADF', `${descriptor}`);
        node.current = joined(node.current, bytes);
        this.onChange();
        return bytes.length;
      },
      sync: (descriptor) => {
        const node = this.#open.get(descriptor);
        if (node === undefined) throw failure('EBADF', `${descriptor}`);
        makeDurable(node);
        this.onChange();
      },
      close: (descriptor) => {
        if (!this.#open.delete(descriptor)) throw failure('EBADF', `${descriptor}`);
      },
      rename: (from, to) => this.#rename(from, to),
      link: (target, link) => this.#add(link, { kind: 'link', inode: this.#nextInode++, target }),
      remove: (place) => this.#remove(place),
      list: (folder) => [...this.#folder(folder).current.keys()],
      entry: (place) => entryOf(this.#node(place)),
      read: (file) => {
        const node = this.#node(file);
        if (node?.kind !== 'file') throw failure('ENOENT', file);
        return Buffer.from(node.current);
      },
      readLink: (link) => {
        const node = this.#node(link);
        if (node?.kind !== 'link') throw failure('EINVAL', link);
        return node.target;
      },
      freeBytes: () => 2 ** 40,
    };
  }

  /** Makes all that is on the disk durable. */
  syncAll(): void {
    const sync = (node: DiskNode): void => {
      if (node.kind === 'link') return;
      makeDurable(node);
      if (node.kind === 'folder') for (const inner of node.current.values()) sync(inner);
    };
    sync(this.#root);
  }

  /** The disk after a power failure at this moment, as `choose` decides. */
  image(choose: Choose): ModelDisk {
    return new ModelDisk(imageOf(this.#root, choose) as FolderNode);
  }

  #descriptor(node: FileNode | FolderNode): number {
    this.#open.set(this.#nextDescriptor, node);
    return this.#nextDescriptor++;
  }

  #add(place: string, node: DiskNode): void {
    const folder = this.#folder(path.dirname(place));
    const name = path.basename(place);
    if (folder.current.has(name)) throw failure('EEXIST', place);
    this.#change(folder, (entries) => entries.set(name, node));
  }

  #rename(from: string, to: string): void {
    const folder = this.#folder(path.dirname(from));
    const [oldName, newName] = [path.basename(from), path.basename(to)];
    const node = folder.current.get(oldName);
    if (node === undefined) throw failure('ENOENT', from);
    if (path.dirname(from) !== path.dirname(to)) throw failure('EXDEV', to);
    const there = folder.current.get(newName);
    if (there?.kind === 'folder' && there.current.size > 0) throw failure('ENOTEMPTY', to);
    this.#change(folder, (entries) => {
      entries.delete(oldName);
      entries.set(newName, node);
    });
  }

  #remove(place: string): void {
    const node = this.#node(place);
    if (node === undefined) return;
    if (node.kind === 'folder') for (const name of [...node.current.keys()]) this.#remove(path.join(place, name));
    const name = path.basename(place);
    this.#change(this.#folder(path.dirname(place)), (entries) => entries.delete(name));
  }

  #change(folder: FolderNode, change: EntryChange): void {
    change(folder.current);
    folder.changes.push(change);
    this.onChange();
  }

  #folder(place: string): FolderNode {
    const node = this.#node(place);
    if (node?.kind !== 'folder') throw failure(node === undefined ? 'ENOENT' : 'ENOTDIR', place);
    return node;
  }

  /** Undefined where there is nothing. Links inside the path are followed, the last part is not. */
  #node(place: string): DiskNode | undefined {
    const parts = path.posix.normalize(place).split('/').filter(Boolean);
    let node: DiskNode | undefined = this.#root;
    for (const [i, part] of parts.entries()) {
      if (node?.kind === 'link')
        return this.#node(path.join('/', ...parts.slice(0, i - 1), node.target, ...parts.slice(i)));
      if (node?.kind !== 'folder') return undefined;
      node = node.current.get(part);
    }
    return node;
  }
}

const NO_BYTES = new Uint8Array();

function newFolder(inode: number): FolderNode {
  return { kind: 'folder', inode, durable: new Map(), current: new Map(), changes: [] };
}

function makeDurable(node: FileNode | FolderNode): void {
  if (node.kind === 'file') node.durable = node.current;
  else {
    node.durable = new Map(node.current);
    node.changes = [];
  }
}

function imageOf(node: DiskNode, choose: Choose): DiskNode {
  if (node.kind === 'link') return node;
  if (node.kind === 'file') {
    const bytes = bytesAfterCrash(node, choose);
    return { ...node, durable: bytes, current: bytes };
  }
  const entries = new Map(node.durable);
  for (const change of node.changes) if (choose(2) === 1) change(entries);
  const after = new Map([...entries].map(([name, inner]) => [name, imageOf(inner, choose)] as const));
  return { ...node, durable: after, current: new Map(after), changes: [] };
}

/** Unsynced bytes: none, all, all of them zero, the end torn off, one block lost, or only the last block there. */
function bytesAfterCrash({ durable, current }: FileNode, choose: Choose): Uint8Array {
  if (durable === current) return durable;
  const way = choose(9);
  if (way === 0) return durable;
  if (way === 1) return current;
  const zeros = joined(durable, new Uint8Array(current.length - durable.length));
  if (way === 2) return zeros;
  const block = way % 2 === 0 ? 512 : 4096;
  const numBlocks = Math.ceil(current.length / block);
  const at = choose(numBlocks) * block;
  if (way <= 4) return current.subarray(0, Math.max(durable.length, at));
  const image = Uint8Array.from(way <= 6 ? current : zeros);
  image.set((way <= 6 ? zeros : current).subarray(at, at + block), at);
  return image;
}

function joined(first: Uint8Array, second: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(first.length + second.length);
  bytes.set(first);
  bytes.set(second, first.length);
  return bytes;
}

function entryOf(node: DiskNode | undefined): Entry | undefined {
  if (node === undefined) return undefined;
  return { kind: node.kind, inode: node.inode, bytes: node.kind === 'file' ? node.current.length : 0 };
}

function failure(code: string, place: string): Error {
  return Object.assign(new Error(`${code}: ${place}`), { code });
}

/**
 * What `build` makes of every sequence of choices that it can ask for, if there are at most `limit` of them; else of `limit` drawn by
 * `random`.
 */
export function builtByChoices<T>(build: (choose: Choose) => T, limit: number, random: Choose): T[] {
  const built: T[] = [];
  const asked: { chosen: number; readonly options: number }[] = [];
  while (built.length < limit) {
    let at = 0;
    const choose = (options: number): number => {
      if (at === asked.length) asked.push({ chosen: 0, options });
      return asked[at++]!.chosen;
    };
    built.push(build(choose));
    while (asked.length > 0 && asked.at(-1)!.chosen === asked.at(-1)!.options - 1) asked.pop();
    if (asked.length === 0) return built;
    asked.at(-1)!.chosen++;
  }
  return Array.from({ length: limit }, () => build(random));
}
