/** Which files of a folder are a data set in Parquet: `train*.parquet` and `test*.parquet`, or `validation*` where there is no test split. */
import fs from 'node:fs';
import path from 'node:path';
import type { Split } from './image-tree.js';

const SPLIT_NAMES: Readonly<Record<Split, readonly string[]>> = {
  train: ['train'],
  test: ['test', 'validation', 'valid', 'val'],
};

/** The Parquet files of both splits in `folder`, by name; undefined where one of them has none. */
export function parquetFiles(folder: string): Readonly<Record<Split, readonly string[]>> | undefined {
  const names = fs
    .readdirSync(folder)
    .filter((name) => name.endsWith('.parquet'))
    .sort();
  const of = (split: Split) => {
    const found = SPLIT_NAMES[split].map((word) =>
      names.filter((name) => new RegExp(`^${word}([-_.].*)?\\.parquet$`).test(name)),
    );
    return (found.find((files) => files.length > 0) ?? []).map((name) => path.join(folder, name));
  };
  const files = { train: of('train'), test: of('test') };
  return files.train.length > 0 && files.test.length > 0 ? files : undefined;
}
