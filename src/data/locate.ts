/**
 * Where the data set is: what the user named, else the usual places in order. The only reader of DTRAIN_DATA.
 *
 * Idea: names and folders decide, nothing is opened. A place that the user named must hold the data set; ./data and the cache folder may.
 *
 *   data.path  ->  $DTRAIN_DATA  ->  ./data  ->  CACHE/data  ->  (cifar10 only) download
 */
import fs from 'node:fs';
import path from 'node:path';
import { DtrainError } from '../core/errors.js';
import { CIFAR10_ARCHIVE, CIFAR10_CLASSES, CIFAR10_FILES } from './cifar10.js';
import { CIFAR100_FILES } from './cifar100.js';
import { dataError, digits, firstLine } from './data-error.js';
import type { DataOptions } from './data-set.js';
import { parquetFiles } from './parquet-files.js';

export interface DataSource {
  /** The official files in a folder; an image-folder tree; Parquet files in a folder; a list of images; a tar of the first three. */
  readonly kind: 'official-folder' | 'cifar100-folder' | 'tree' | 'parquet' | 'csv' | 'archive';
  readonly path: string;
  /** Ends the message of whatever is wrong with the bytes. */
  readonly cure: string;
}

/** The places that were searched in vain, for the message. */
export interface NotFound {
  readonly places: readonly { readonly place: string; readonly got: string }[];
}

/** Where downloads go and are found again. */
export function downloadFolder(cacheFolder: string): string {
  return path.join(cacheFolder, 'data');
}

/** Throws DTRAIN_DATA_PATH or DTRAIN_DATA_LAYOUT when data.path or $DTRAIN_DATA is set and does not hold the data set. */
export function locateData(
  options: Pick<DataOptions, 'name' | 'path'>,
  cacheFolder: string,
  environment: NodeJS.ProcessEnv = process.env,
): DataSource | NotFound {
  try {
    return search(options, downloadFolder(cacheFolder), environment['DTRAIN_DATA'] || null);
  } catch (cause) {
    if (cause instanceof DtrainError) throw cause;
    throw dataError('DTRAIN_DATA_PATH', `data: ${firstLine(cause)}. Make it readable, or set data.path.`, cause);
  }
}

function search(
  { name, path: named }: Pick<DataOptions, 'name' | 'path'>,
  downloads: string,
  fromEnvironment: string | null,
): DataSource | NotFound {
  if (named !== null) return sourceNamed('data.path', named, name);
  if (fromEnvironment !== null) return sourceNamed('DTRAIN_DATA', fromEnvironment, name);
  return (
    sourceIn(path.resolve('data'), name) ??
    sourceIn(downloads, name, FETCH_AGAIN) ?? {
      places: [
        { place: 'data.path', got: 'not set' },
        { place: '$DTRAIN_DATA', got: 'not set' },
        { place: './data', got: emptiness(path.resolve('data')) },
        { place: downloads, got: emptiness(downloads) },
      ],
    }
  );
}

const INTACT_COPY = 'Replace it with an intact copy.';
/** The cure for what was downloaded. */
export const FETCH_AGAIN = 'Delete it and run dtrain again to fetch it.';

function emptiness(folder: string): string {
  return fs.existsSync(folder) ? 'nothing usable' : 'not there';
}

/** The data set at a path that the user named. */
function sourceNamed(setting: string, named: string, name: DataOptions['name']): DataSource {
  const stats = fs.statSync(named, { throwIfNoEntry: false });
  if (stats === undefined) {
    throw dataError(
      'DTRAIN_DATA_PATH',
      `${setting}: ${named}: expected a file or folder, got nothing there. Check the path.`,
    );
  }
  if (!stats.isDirectory()) return { kind: /\.csv$/i.test(named) ? 'csv' : 'archive', path: named, cure: INTACT_COPY };
  const source = sourceIn(named, name);
  if (source !== undefined) return source;
  const cure = 'Name the archive or the folder itself.';
  throw dataError(
    'DTRAIN_DATA_LAYOUT',
    `${setting}: ${named}: expected ${EXPECTED[name]}, got ${listing(named)}. ${cure}`,
  );
}

const EXPECTED: Record<DataOptions['name'], string> = {
  cifar10:
    'CIFAR-10 (the official binary archive or its folder, train/CLASS and test/CLASS with images, or a tar of these)',
  cifar100: 'CIFAR-100 (the official binary archive or its folder with train.bin, test.bin and fine_label_names.txt)',
  'image-folder':
    'one data set (train/CLASS and test/CLASS with images, one tar of these, or train*.parquet and test*.parquet)',
  synthetic: 'nothing',
};

/** `a folder with a, b, c and 2 more` */
function listing(folder: string): string {
  const names = fs.readdirSync(folder).sort();
  if (names.length === 0) return 'an empty folder';
  const rest = names.length > 3 ? ` and ${digits(names.length - 3)} more` : '';
  return `a folder with ${names.slice(0, 3).join(', ')}${rest}`;
}

/** The data set that `folder` is or contains; undefined where there is none, or where it is not clear which. */
function sourceIn(folder: string, name: DataOptions['name'], cure = INTACT_COPY): DataSource | undefined {
  if (!isFolder(folder)) return undefined;
  const own = sourceAt(folder, name, cure);
  if (own !== undefined) return own;
  const children = fs
    .readdirSync(folder)
    .sort()
    .flatMap((child) => sourceAt(path.join(folder, child), name, cure) ?? []);
  if (name === 'cifar100')
    return children.find(({ kind, path: child }) => kind === 'cifar100-folder' || isCifar100Name(child));
  if (name === 'image-folder') return children.length === 1 ? children[0] : undefined;
  const likely = children.filter((child) => child.kind === 'official-folder' || isCifar10Name(child.path));
  return likely.find(isOfficial) ?? likely[0];
}

function isOfficial({ kind, path: file }: DataSource): boolean {
  return kind === 'official-folder' || path.basename(file) === CIFAR10_ARCHIVE.fileName;
}

/** The data set that `place` itself is. */
function sourceAt(place: string, name: DataOptions['name'], cure: string): DataSource | undefined {
  if (!isFolder(place)) return isArchiveName(place) ? { kind: 'archive', path: place, cure } : undefined;
  if (parquetFiles(place) !== undefined) return { kind: 'parquet', path: place, cure };
  if (name === 'cifar100') {
    const isThere = CIFAR100_FILES.every((file) => fs.existsSync(path.join(place, file)));
    return isThere ? { kind: 'cifar100-folder', path: place, cure } : undefined;
  }
  if (CIFAR10_FILES.some((file) => fs.existsSync(path.join(place, file)))) {
    return { kind: 'official-folder', path: place, cure };
  }
  const inTrain = name === 'cifar10' ? path.join('train', CIFAR10_CLASSES[0]) : 'train';
  if (!isFolder(path.join(place, inTrain)) || !isFolder(path.join(place, 'test'))) return undefined;
  return { kind: 'tree', path: place, cure };
}

function isFolder(place: string): boolean {
  return fs.statSync(place, { throwIfNoEntry: false })?.isDirectory() ?? false;
}

function isArchiveName(place: string): boolean {
  return /\.(tar|tar\.gz|tgz|tar\.xz|txz)$/i.test(place);
}

function isCifar100Name(place: string): boolean {
  const fileName = path.basename(place);
  return /cifar[-_ ]?100/i.test(fileName) && !/python/i.test(fileName);
}

/** `cifar10-jpeg.tar.xz`, `my_CIFAR-10.tar`, not `cifar-100.tar`. */
function isCifar10Name(place: string): boolean {
  const fileName = path.basename(place);
  return /cifar[-_ ]?10(?!0)/i.test(fileName);
}
