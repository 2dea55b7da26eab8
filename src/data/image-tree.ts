/**
 * Image-folder trees: `train/CLASS/*.jpg|png` and `test/CLASS/*`, on disk or in an archive.
 *
 * Idea: both kinds are first a list of entries (split, class, file name, image); one function orders and checks the list, one decodes it.
 * Must stay true: classes by name, then files by name, names compared by their UTF-16 units; both splits have the same classes.
 */
import fs from 'node:fs';
import path from 'node:path';
import { nowSeconds } from '../core/clock.js';
import { dataError, digits, firstLine } from './data-error.js';
import { allocateImageSet, type DecodedSet, type ImageSet, type ImageSplit } from './data-set.js';
import type { EncodedImage, ImageSize, Scaling } from './decode-images.js';
import { readImageFile } from './encoded-files.js';

export interface TreeEntry {
  readonly split: Split;
  readonly className: string;
  readonly fileName: string;
  readonly image: EncodedImage;
}

export type Split = 'train' | 'test';
const SPLITS: readonly Split[] = ['train', 'test'];
const IMAGE_NAME = /\.(jpe?g|png)$/i;

/** What a path inside a tree means; undefined for anything that is not an image of a class. Folders above the split do not matter. */
export function parseTreePath(relative: string): Omit<TreeEntry, 'image'> | undefined {
  const [split, className, fileName] = relative.split('/').slice(-3);
  if (fileName === undefined || className === undefined || !isSplit(split)) return undefined;
  return isImageName(fileName) && !className.startsWith('.') ? { split, className, fileName } : undefined;
}

function isSplit(name: string | undefined): name is Split {
  return name === 'train' || name === 'test';
}

/** Hidden files (as macOS adds them) are no images. */
function isImageName(fileName: string): boolean {
  return IMAGE_NAME.test(fileName) && !fileName.startsWith('.');
}

/** An entry on disk with what tells whether the file has changed. */
export interface TreeFile extends TreeEntry {
  readonly stamp: string;
}

/** The images of the tree at `folder`; nothing is opened yet. Links are followed. */
export function listTree(folder: string): TreeFile[] {
  try {
    return SPLITS.flatMap((split) =>
      entriesOf(path.join(folder, split))
        .filter(({ isFolder, name }) => isFolder && !name.startsWith('.'))
        .flatMap(({ name }) => listClass(folder, split, name)),
    );
  } catch (cause) {
    const cure = 'Repair or remove it.';
    throw dataError('DTRAIN_DATA_PATH', `${folder}: cannot be listed (${firstLine(cause)}). ${cure}`, cause);
  }
}

function listClass(folder: string, split: Split, className: string): TreeFile[] {
  const classFolder = path.join(folder, split, className);
  return fs
    .readdirSync(classFolder)
    .filter(isImageName)
    .map((fileName) => {
      const file = path.join(classFolder, fileName);
      const { size, mtimeMs } = fs.statSync(file);
      const image = { name: file, read: () => readImageFile(file) };
      return { split, className, fileName, image, stamp: `${path.resolve(file)} ${size} ${mtimeMs}` };
    });
}

/** Empty where the folder is missing. */
function entriesOf(folder: string): { name: string; isFolder: boolean }[] {
  if (!fs.existsSync(folder)) return [];
  return fs.readdirSync(folder).map((name) => ({ name, isFolder: fs.statSync(path.join(folder, name)).isDirectory() }));
}

/** The entries in order, with their classes; what decoding needs. */
export interface ImageTree {
  readonly classes: readonly string[];
  readonly train: readonly TreeEntry[];
  readonly test: readonly TreeEntry[];
}

/** Orders and checks the entries of the tree `where`. */
export function arrangeTree(where: string, entries: readonly TreeEntry[]): ImageTree {
  const cure = 'Lay the images out as train/CLASS/*.jpg|png and test/CLASS/*, every class in both.';
  const [train, test] = SPLITS.map((split) => ordered(where, entries, split));
  if (train === undefined || test === undefined || train.length + test.length === 0) {
    throw dataError(
      'DTRAIN_DATA_LAYOUT',
      `${where}: expected images in train/CLASS/ and test/CLASS/, got none. ${cure}`,
    );
  }
  const classes = { train: classesOf(train), test: classesOf(test) };
  for (const [split, other] of [SPLITS, SPLITS.toReversed()] as [Split, Split][]) {
    for (const className of classes[split]) {
      if (classes[other].has(className)) continue;
      const counts = `expected images in train/ and test/, got none in ${other}/${className}/`;
      throw dataError('DTRAIN_DATA_LAYOUT', `${where}: class "${className}": ${counts}. ${cure}`);
    }
  }
  return { classes: [...classes.train], train, test };
}

function ordered(where: string, entries: readonly TreeEntry[], split: Split): TreeEntry[] {
  const own = entries.filter((entry) => entry.split === split);
  own.sort((a, b) => byName(a.className, b.className) || byName(a.fileName, b.fileName));
  own.forEach((entry, index) => {
    const before = own[index - 1];
    if (before?.className !== entry.className || before.fileName !== entry.fileName) return;
    const name = `${split}/${entry.className}/${entry.fileName}`;
    throw dataError('DTRAIN_DATA_LAYOUT', `${where}: ${name}: expected it once, got it twice. Pack the tree anew.`);
  });
  return own;
}

function byName(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** In the order of the entries, which is by name. */
function classesOf(entries: readonly TreeEntry[]): Set<string> {
  return new Set(entries.map(({ className }) => className));
}

/** The size of all images of a tree, decoded: that of the first one where they are not scaled. */
export async function sizeOfTree({ train }: ImageTree, scaling: Scaling | null): Promise<ImageSize> {
  if (scaling) return { height: scaling.size, width: scaling.size };
  // sharp loads native code: only where pixels are decoded, not where they come from the cache.
  const { imageSize } = await import('./decode-images.js');
  return imageSize(train[0]!.image);
}

/** The class index of each entry, into `labels`. */
export function fillLabels(
  { classes }: ImageTree,
  entries: readonly TreeEntry[],
  { labels }: Pick<ImageSplit, 'labels'>,
): void {
  const indexOf = new Map(classes.map((className, index) => [className, index]));
  entries.forEach(({ className }, index) => {
    labels[index] = indexOf.get(className)!;
  });
}

/** Decodes a tree; `say` gets a line now and then, by the clock `now`. */
export async function decodeTree(
  where: string,
  tree: ImageTree,
  say: (line: string) => void,
  scaling: Scaling | null = null,
  now = nowSeconds,
): Promise<DecodedSet> {
  const { decodePixels } = await import('./decode-images.js');
  const size = await sizeOfTree(tree, scaling);
  const total = tree.train.length + tree.test.length;
  const progress = sayNowAndThen((done) => say(`${where}: ${digits(done)} of ${digits(total)} images decoded`), now);
  const decodeSplit = async (entries: readonly TreeEntry[], before: number): Promise<ImageSet> => {
    const set = allocateImageSet({ count: entries.length, ...size });
    fillLabels(tree, entries, set);
    const images = entries.map(({ image }) => image);
    await decodePixels(images, size, scaling, set.imagesNHWC, (done) => progress(before + done));
    return set;
  };
  const train = await decodeSplit(tree.train, 0);
  const test = await decodeSplit(tree.test, tree.train.length);
  return { classes: tree.classes, train, test };
}

const SECONDS_BETWEEN_LINES = 5;

/** `line`, called at most once in five seconds, not in the first five. */
export function sayNowAndThen(line: (done: number) => void, now: () => number): (done: number) => void {
  let last = now();
  return (done) => {
    if (now() - last < SECONDS_BETWEEN_LINES) return;
    last = now();
    line(done);
  };
}
