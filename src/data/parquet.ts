/**
 * Parquet files of images as Hugging Face keeps them: `train*.parquet` and `test*.parquet` (or `validation*`) in one folder. The door to
 * hyparquet.
 *
 * Idea: a row is an entry of a tree like any other (image-tree.ts); only where rows and class names come from is different.
 * Must stay true: rows in the order of the files by name; classes in the order of the ClassLabel in the files' metadata, else by name.
 * Source: https://huggingface.co/docs/datasets/about_dataset_features (Image is a struct of bytes and path, ClassLabel an integer).
 */
import path from 'node:path';
import zlib from 'node:zlib';
import { asyncBufferFromFile, type FileMetaData, parquetMetadataAsync, parquetReadObjects } from 'hyparquet';
import { dataError, firstLine } from './data-error.js';
import type { ImageTree, Split, TreeEntry } from './image-tree.js';
import { parquetFiles } from './parquet-files.js';

const CURE = 'Save the data set with an image and a label column, as Hugging Face does.';

/** All rows, with their images still encoded. Throws DTRAIN_DATA_LAYOUT, DTRAIN_DATA_CORRUPT. */
export async function readParquet(folder: string): Promise<ImageTree> {
  const files = parquetFiles(folder) ?? { train: [], test: [] };
  const train = await Promise.all(files.train.map(readFile));
  const test = await Promise.all(files.test.map(readFile));
  const classes = classesOf([...train, ...test]);
  const entries = (split: Split, read: readonly ParquetFile[]) =>
    read.flatMap((file) => entriesOf(split, file, classes));
  return { classes, train: entries('train', train), test: entries('test', test) };
}

interface ParquetFile {
  readonly file: string;
  readonly rows: readonly Readonly<Record<string, unknown>>[];
  readonly columns: Columns;
}

interface Columns {
  readonly image: string;
  readonly label: string;
  /** Of the label's ClassLabel. */
  readonly classes: readonly string[] | undefined;
}

async function readFile(file: string): Promise<ParquetFile> {
  try {
    const buffer = await asyncBufferFromFile(file);
    const metadata = await parquetMetadataAsync(buffer);
    const columns = columnsOf(file, metadata);
    const options = {
      file: buffer,
      metadata,
      columns: [columns.image, columns.label],
      compressors: compressors(),
      utf8: false,
    };
    return { file, columns, rows: await parquetReadObjects(options) };
  } catch (cause) {
    if (cause instanceof Error && 'exitCode' in cause) throw cause;
    const text = `${file}: cannot be read as Parquet (${firstLine(cause)}). Replace it with an intact copy.`;
    throw dataError('DTRAIN_DATA_CORRUPT', text, cause);
  }
}

interface Feature {
  readonly _type?: string;
  readonly names?: readonly string[];
}

/** By the features that Hugging Face writes beside the data, else by the usual names. */
function columnsOf(file: string, { schema, key_value_metadata: pairs = [] }: FileMetaData): Columns {
  const text = pairs.find(({ key }) => key === 'huggingface')?.value ?? '{}';
  const { info } = JSON.parse(text) as { info?: { features?: Readonly<Record<string, Feature>> } };
  const features = Object.entries(info?.features ?? {});
  const columns = topLevelColumns(schema);
  const featured = (type: string) => features.find(([name, { _type }]) => _type === type && columns.includes(name));
  const [labelName, label] = featured('ClassLabel') ?? [];
  const image = featured('Image')?.[0] ?? columns.find((name) => ['image', 'img'].includes(name));
  const named = labelName ?? columns.find((name) => ['label', 'labels', 'class'].includes(name));
  if (image !== undefined && named !== undefined) return { image, label: named, classes: label?.names };
  const got = columns.length === 0 ? 'no column' : `the columns ${columns.slice(0, 6).join(', ')}`;
  throw dataError('DTRAIN_DATA_LAYOUT', `${file}: expected a column of images and one of labels, got ${got}. ${CURE}`);
}

/** The schema is a tree in depth-first order; its root comes first. */
function topLevelColumns(schema: FileMetaData['schema']): string[] {
  const names: string[] = [];
  let at = 1;
  const skip = () => {
    const children = schema[at++]!.num_children ?? 0;
    for (let i = 0; i < children; i++) skip();
  };
  while (at < schema.length) {
    names.push(schema[at]!.name);
    skip();
  }
  return names;
}

/** hyparquet itself has Snappy; the others are Node's, Zstandard from 22.15 on. */
function compressors() {
  const { zstdDecompressSync } = zlib as { zstdDecompressSync?: (bytes: Uint8Array) => Uint8Array };
  return {
    GZIP: (bytes: Uint8Array) => zlib.gunzipSync(bytes),
    BROTLI: (bytes: Uint8Array) => zlib.brotliDecompressSync(bytes),
    ...(zstdDecompressSync && { ZSTD: zstdDecompressSync }),
  };
}

/** The names in the first file's metadata; else all values that occur, numbers in their order. */
function classesOf(files: readonly ParquetFile[]): readonly string[] {
  const named = files[0]!.columns.classes;
  const differing = files.find(({ columns }) => columns.classes?.join('\n') !== named?.join('\n'));
  if (differing !== undefined) {
    const text = `expected the class names of ${path.basename(files[0]!.file)}, got others`;
    throw dataError('DTRAIN_DATA_LAYOUT', `${differing.file}: ${text}. Keep the files of one data set in a folder.`);
  }
  if (named !== undefined) return named;
  const values = new Set(files.flatMap(({ rows, columns }) => rows.map((row) => String(row[columns.label]))));
  const isNumeric = [...values].every((value) => /^\d+$/.test(value));
  return [...values].sort((a, b) => (isNumeric ? Number(a) - Number(b) : a < b ? -1 : 1));
}

function entriesOf(split: Split, { file, rows, columns }: ParquetFile, classes: readonly string[]): TreeEntry[] {
  return rows.map((row, index) => {
    const name = `${file}:${index + 1}`; // rows count from 1, as lines do
    const className = classNameOf(name, row[columns.label], columns.classes, classes);
    const bytes = bytesOf(name, row[columns.image]);
    return { split, className, fileName: String(index), image: { name, read: () => bytes } };
  });
}

function classNameOf(
  where: string,
  value: unknown,
  named: readonly string[] | undefined,
  classes: readonly string[],
): string {
  const name = named === undefined ? String(value) : named[Number(value)];
  if (name !== undefined && value !== null && value !== undefined && classes.includes(name)) return name;
  const expected = `a class from 0 to ${classes.length - 1}`;
  throw dataError(
    'DTRAIN_DATA_CORRUPT',
    `${where}: label: expected ${expected}, got ${String(value)}. Leave the row out.`,
  );
}

/** Of a struct {bytes, path}, or of a column that is the bytes themselves. */
function bytesOf(where: string, value: unknown): Uint8Array {
  const bytes = value instanceof Uint8Array ? value : (value as { bytes?: unknown } | null)?.bytes;
  if (bytes instanceof Uint8Array) return bytes;
  throw dataError('DTRAIN_DATA_CORRUPT', `${where}: image: expected the bytes of a file, got none. ${CURE}`);
}
