/**
 * A set whose pixels stay where they are: listed, looked through once for what is measured on all pixels, and read when its steps come
 * (image-stream.ts).
 *
 * Must stay true: classes, labels, sizes, normalization and fingerprint are those of the same set in memory.
 */
import path from 'node:path';
import { nowSeconds } from '../core/clock.js';
import { digits } from './data-error.js';
import {
  allocateLabels,
  type DataEnvironment,
  type Measured,
  pixelBytes,
  type SetOutline,
  type StreamedSet,
  type StreamedSplit,
} from './data-set.js';
import type { Scaling } from './decode-images.js';
import { factsFileOf, keepCached, readCachedFacts, writeCachedFacts } from './decoded-cache.js';
import { encodedFiles } from './encoded-files.js';
import { fillLabels, type ImageTree } from './image-tree.js';
import type { DataSource } from './locate.js';
import { checkAtRest } from './read-source.js';
import { surveyTree } from './survey.js';

export interface StreamedSetOptions {
  readonly source: DataSource;
  readonly env: DataEnvironment;
  readonly tree: ImageTree;
  /** Each image is a file of its own; else all of them are in memory, encoded. */
  readonly isOnDisk: boolean;
  readonly extents: Pick<SetOutline, 'train' | 'test'>;
  readonly scaling: Scaling | null;
  /** What the pixels are more than, for people. */
  readonly bound: string;
  /** Where an earlier run left the decoded set, and what the source looks like now. */
  readonly cache: { readonly file: string; readonly identity: string };
}

/** Throws data errors (exit 5), and DTRAIN_OUT_OF_MEMORY where not even the encoded images of an archive fit. */
export async function streamedSet(options: StreamedSetOptions): Promise<StreamedSet> {
  const { source, env, tree, isOnDisk, extents, scaling, bound } = options;
  const { train, test } = extents;
  const images = `${digits(train.count + test.count)} images of ${train.width}x${train.height}`;
  const bytes = `${digits(pixelBytes(train) + pixelBytes(test))} bytes decoded`;
  env.say(`${source.path}: ${images} take ${bytes}, more than ${bound}: streamed, decoded anew in every epoch`);
  const splitOf = (split: 'train' | 'test'): StreamedSplit => {
    const part = { ...extents[split], labels: allocateLabels(extents[split].count), channels: 3 } as const;
    fillLabels(tree, tree[split], part);
    const encoded = tree[split].map(({ image }) => image);
    return { ...part, files: encodedFiles(source.path, encoded, isOnDisk, scaling) };
  };
  const splits = { train: splitOf('train'), test: splitOf('test') };
  const { normalization, fingerprint } = await measuredOnce(options, splits);
  return { classes: tree.classes, ...splits, normalization, fingerprint };
}

/** From what an earlier run left, with or without pixels; else measured now. */
async function measuredOnce(
  { source, env, tree, scaling, cache: { file, identity } }: StreamedSetOptions,
  splits: Pick<StreamedSet, 'train' | 'test'>,
): Promise<Measured> {
  const factsFile = factsFileOf(file);
  const known = readCachedFacts(file, identity) ?? readCachedFacts(factsFile, identity);
  if (known !== undefined) return known;
  const start = nowSeconds();
  env.say(`${source.path}: looking through all images once; the next run finds what was measured in ${factsFile}`);
  const measures = await surveyTree(source.path, tree, splits, scaling, env.say);
  checkAtRest(source, identity);
  const images = digits(splits.train.count + splits.test.count);
  env.say(`${path.basename(source.path)}: ${images} images looked through in ${(nowSeconds() - start).toFixed(1)} s`);
  keepCached(env.say, () => writeCachedFacts(factsFile, identity, { classes: tree.classes, ...splits, ...measures }));
  return measures;
}
