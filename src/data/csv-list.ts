/**
 * A CSV file of images: columns `path`, `label` and `split` (train or test) under a head line, in any order, others ignored. Paths are
 * relative to the file. Quotes as in RFC 4180.
 */
import fs from 'node:fs';
import path from 'node:path';
import { dataError, digits, firstLine } from './data-error.js';
import { readImageFile } from './encoded-files.js';
import type { TreeFile } from './image-tree.js';

const COLUMNS = ['path', 'label', 'split'] as const;

/** The images that `file` names, with what tells whether one has changed. Throws DTRAIN_DATA_LAYOUT, DTRAIN_DATA_PATH. */
export function listCsv(file: string): TreeFile[] {
  const [head = [], ...rows] = parseCsv(readText(file));
  const cure = 'Begin the file with a line such as path,label,split.';
  const at = COLUMNS.map((name) => head.findIndex((column) => column.trim().toLowerCase() === name));
  if (at.includes(-1)) {
    const got = head.length === 0 ? 'an empty file' : `the columns ${head.slice(0, 6).join(', ')}`;
    throw dataError('DTRAIN_DATA_LAYOUT', `${file}:1: expected the columns ${COLUMNS.join(', ')}, got ${got}. ${cure}`);
  }
  return rows.flatMap((row, i) => {
    if (row.length === 1 && row[0]!.trim() === '') return [];
    const [relative, label, split] = at.map((column) => row[column]?.trim() ?? '');
    const where = `${file}:${i + 2}`;
    if (!relative || !label) {
      throw dataError(
        'DTRAIN_DATA_LAYOUT',
        `${where}: expected a path and a label, got ${JSON.stringify(row.join(','))}.`,
      );
    }
    if (split !== 'train' && split !== 'test') {
      throw dataError('DTRAIN_DATA_LAYOUT', `${where}: split: expected train or test, got ${JSON.stringify(split)}.`);
    }
    const place = path.resolve(path.dirname(file), relative);
    const stats = fs.statSync(place, { throwIfNoEntry: false });
    if (!stats?.isFile()) {
      throw dataError('DTRAIN_DATA_PATH', `${where}: ${place}: expected an image, got nothing there. Check the path.`);
    }
    const image = { name: place, read: () => readImageFile(place) };
    const stamp = `${place} ${label} ${split} ${stats.size} ${stats.mtimeMs}`;
    return [{ split, className: label, fileName: relative, image, stamp } satisfies TreeFile];
  });
}

const MAX_BYTES = 256 * 2 ** 20;

function readText(file: string): string {
  try {
    const { size } = fs.statSync(file);
    if (size > MAX_BYTES) {
      throw dataError(
        'DTRAIN_DATA_LIMIT',
        `${file}: expected at most ${digits(MAX_BYTES)} bytes, got ${digits(size)}.`,
      );
    }
    return fs.readFileSync(file, 'utf8').replace(/^\ufeff/, '');
  } catch (cause) {
    if (cause instanceof Error && 'exitCode' in cause) throw cause;
    throw dataError('DTRAIN_DATA_PATH', `${file}: cannot be read (${firstLine(cause)}). Check the path.`, cause);
  }
}

/** Rows of fields; a quoted field may hold commas, line ends and doubled quotes. */
export function parseCsv(text: string): string[][] {
  const rows: string[][] = [[]];
  let field = '';
  let isQuoted = false;
  for (let i = 0; i < text.length; i++) {
    const letter = text[i]!;
    if (isQuoted) {
      if (letter !== '"') field += letter;
      else if (text[i + 1] === '"') field += text[++i]!;
      else isQuoted = false;
    } else if (letter === '"' && field === '') isQuoted = true;
    else if (letter === ',' || letter === '\n') {
      rows.at(-1)!.push(field.replace(/\r$/, ''));
      field = '';
      if (letter === '\n') rows.push([]);
    } else field += letter;
  }
  rows.at(-1)!.push(field.replace(/\r$/, ''));
  return rows;
}
