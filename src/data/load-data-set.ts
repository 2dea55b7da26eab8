/**
 * The data set of a run: located, downloaded if it must be, decoded once, from then on read from the cache; or, where its pixels do not fit
 * into memory, looked through once and from then on streamed.
 *
 * Idea: one story for every kind of source: where is it, is it decoded already, does it fit, else decode and keep.
 * Must stay true: the same source gives the same bytes in the same order, cached, streamed or neither.
 */
import path from 'node:path';
import { nowSeconds } from '../core/clock.js';
import type { Normalization } from '../core/events.js';
import { CIFAR10_ARCHIVE, CIFAR10_CLASSES, CIFAR10_NORMALIZATION } from './cifar10.js';
import { dataError, digits } from './data-error.js';
import {
  type AnyDataSet,
  type DataEnvironment,
  type DataOptions,
  type DataSet,
  type DecodedSet,
  fingerprintOf,
  isStreamed,
  MAX_SET_BYTES,
  type Measured,
  pixelBytes,
  type SetOutline,
  type StreamedSet,
} from './data-set.js';
import type { Scaling } from './decode-images.js';
import {
  type CachedSet,
  cacheFileOf,
  keepCached,
  readCachedFacts,
  readCachedSet,
  writeCachedSet,
} from './decoded-cache.js';
import { download, type RemoteFile } from './download.js';
import { decodeTree, sizeOfTree } from './image-tree.js';
import { type DataSource, downloadFolder, FETCH_AGAIN, locateData, type NotFound } from './locate.js';
import { measureNormalization } from './normalization.js';
import { checkAtRest, identityOf, readSource, type SourceContent } from './read-source.js';
import { streamedSet } from './streamed-set.js';
import { generateSynthetic, SYNTHETIC_VERSION } from './synthetic.js';

/**
 * Main thread. Throws data errors (exit 5); DTRAIN_DATA_NOT_FOUND when nothing is on disk and nothing can be fetched.
 * `archive` is what is fetched for cifar10; tests fetch another.
 */
export function loadDataSet(
  options: DataOptions & { readonly memoryBytes?: never },
  env: DataEnvironment,
  archive?: RemoteFile,
): Promise<DataSet>;
export function loadDataSet(options: DataOptions, env: DataEnvironment, archive?: RemoteFile): Promise<AnyDataSet>;
export async function loadDataSet(
  options: DataOptions,
  env: DataEnvironment,
  archive: RemoteFile = CIFAR10_ARCHIVE,
): Promise<AnyDataSet> {
  const { name } = options;
  const limit = memoryLimit(options);
  if (name === 'synthetic') {
    const set = synthetic(options.seed, env);
    checkFits('data.name: synthetic', set, limit);
    return { ...set, name, source: `synthetic (seed ${options.seed})` };
  }
  const located = locateData(options, env.cacheFolder);
  const source = 'places' in located ? await fetchOrThrow(options, located, env, archive) : located;
  const set = await loadSource(source, env, scalingOf(options, source), limit);
  const normalization = name === 'cifar10' ? cifar10Normalization(source, set) : set.normalization;
  const provenance = { name, normalization, source: source.path };
  return isStreamed(set) ? { ...set, ...provenance } : { ...set, ...provenance };
}

/** How many bytes of decoded images may be in memory. */
interface MemoryLimit {
  readonly bytes: number;
  /** By the user, so that it is an error where a set cannot be streamed. */
  readonly isGiven: boolean;
}

/** Part of the free memory that decoded images may take. */
const MEMORY_PART = 0.5;

function memoryLimit({ memoryBytes }: DataOptions): MemoryLimit {
  if (memoryBytes === undefined) return { bytes: Number.POSITIVE_INFINITY, isGiven: false };
  if (memoryBytes === null) return { bytes: Math.floor(MEMORY_PART * process.availableMemory()), isGiven: false };
  return { bytes: memoryBytes, isGiven: true };
}

type Extents = Pick<SetOutline, 'train' | 'test'>;

/** Each split lies in a memory of its own; without a limit one that is too large for that is an error, not a stream. */
function fits(extents: Extents, { bytes }: MemoryLimit): boolean {
  if (bytes === Number.POSITIVE_INFINITY) return true;
  return totalBytes(extents) <= bytes && largestBytes(extents) <= MAX_SET_BYTES;
}

/** What a set that does not fit is more than, for people. */
function boundOf(extents: Extents, { bytes, isGiven }: MemoryLimit): string {
  if (totalBytes(extents) <= bytes) return '4 GiB for one split';
  return isGiven ? `data.memoryBytes (${digits(bytes)})` : 'half of the free memory';
}

function totalBytes({ train, test }: Extents): number {
  return pixelBytes(train) + pixelBytes(test);
}

function largestBytes({ train, test }: Extents): number {
  return Math.max(pixelBytes(train), pixelBytes(test));
}

/** Of a set that cannot be streamed. */
function checkFits(where: string, set: DecodedSet, limit: MemoryLimit): void {
  if (!limit.isGiven || fits(set, limit)) return;
  const expected = `expected a data.memoryBytes of at least ${totalBytes(set)}, got ${limit.bytes}`;
  const cure = 'Raise it, or take an image folder.';
  throw dataError(
    'DTRAIN_DATA_LIMIT',
    `${where}: ${expected}: only images in JPEG or PNG files can be streamed. ${cure}`,
  );
}

/** From the cache, or generated and kept: reading the images takes a tenth of the time that painting them does. */
function synthetic(seed: number, env: DataEnvironment): CachedSet {
  const identity = `synthetic ${SYNTHETIC_VERSION}, seed ${seed}`;
  const cacheFile = path.join(env.cacheFolder, 'decoded', `synthetic-${seed}.bin`);
  const cached = readCachedSet(cacheFile, identity, env.say);
  if (cached !== undefined) return cached;
  const generated = generateSynthetic(seed);
  const set = { ...generated, ...measured(generated) };
  const say = () => undefined; // they need no disk
  keepCached(say, () => writeCachedSet(cacheFile, identity, set));
  return set;
}

/** Only files of images are scaled. */
function scalingOf({ name, size = null, resize = null }: DataOptions, { path: place }: DataSource): Scaling | null {
  if (size === null && resize === null) return null;
  if (name !== 'image-folder') {
    const cure = 'Leave it out, or set data.name=image-folder.';
    throw dataError('DTRAIN_DATA_LAYOUT', `${place}: data.size and data.resize: expected null with ${name}. ${cure}`);
  }
  if (size === null || (resize !== null && resize < size)) {
    const got = `data.size ${size} and data.resize ${resize}`;
    throw dataError(
      'DTRAIN_DATA_LAYOUT',
      `${place}: expected data.resize of at least data.size, got ${got}. Set both.`,
    );
  }
  return { size, resize };
}

function measured(set: DecodedSet): Measured {
  return { normalization: measureNormalization(set.train), fingerprint: fingerprintOf(set) };
}

async function fetchOrThrow(
  { name }: DataOptions,
  { places }: NotFound,
  env: DataEnvironment,
  archive: RemoteFile,
): Promise<DataSource> {
  const searched = places.map(({ place, got }) => `  ${place}: ${got}`);
  const cures = ['Set DTRAIN_DATA or data.path to its folder or archive'];
  if (name === 'cifar10') {
    env.say(`cifar10: not on disk; fetching ${archive.url}`);
    const fetched = await download(archive, { folder: downloadFolder(env.cacheFolder), say: env.say });
    if (fetched.kind === 'file') return { kind: 'archive', path: fetched.path, cure: FETCH_AGAIN };
    searched.push(`  ${archive.url}: ${fetched.reason}`);
    cures.push('connect to the network');
  }
  cures.push('train on generated images with data.name=synthetic');
  const message = [`data: expected ${name} in one of these places, got:`, ...searched, `${cures.join(', or ')}.`];
  throw dataError('DTRAIN_DATA_NOT_FOUND', message.join('\n'));
}

/** From the cache if it is there, sound and of this source; else decoded and kept. What does not fit is streamed. */
async function loadSource(
  source: DataSource,
  env: DataEnvironment,
  scaling: Scaling | null,
  limit: MemoryLimit,
): Promise<CachedSet | StreamedSet> {
  const suffix = scaling ? `@${scaling.size}-${scaling.resize ?? 'cover'}` : '';
  const identity = identityOf(source);
  const cacheFile = cacheFileOf(`${source.path}${suffix}`, env.cacheFolder);
  const known = limit.bytes === Number.POSITIVE_INFINITY ? undefined : readCachedFacts(cacheFile, identity);
  if (known === undefined || fits(known, limit)) {
    const cached = readCachedSet(cacheFile, identity, env.say);
    if (cached !== undefined) return cached;
  }
  const start = nowSeconds();
  const cache = { file: cacheFile, identity };
  const content = await readAnnounced(source, env, cacheFile);
  if ('tree' in content) {
    const size = await sizeOfTree(content.tree, scaling);
    const { train, test } = content.tree;
    const extents = { train: { count: train.length, ...size }, test: { count: test.length, ...size } };
    const bound = boundOf(extents, limit);
    if (!fits(extents, limit)) return streamedSet({ source, env, ...content, extents, scaling, bound, cache });
  }
  if (isFolderOfFiles(source)) announce(source, env, cacheFile);
  const decoded = 'set' in content ? content.set : await decodeTree(source.path, content.tree, env.say, scaling);
  checkAtRest(source, identity);
  checkFits(source.path, decoded, limit);
  const set = { ...decoded, ...measured(decoded) };
  const images = digits(set.train.count + set.test.count);
  env.say(`${path.basename(source.path)}: ${images} images read in ${(nowSeconds() - start).toFixed(1)} s`);
  keepCached(env.say, () => writeCachedSet(cacheFile, identity, set));
  return set;
}

/** What is packed is read at once, which takes a while; files are only listed. */
async function readAnnounced(source: DataSource, env: DataEnvironment, cacheFile: string): Promise<SourceContent> {
  if (!isFolderOfFiles(source)) announce(source, env, cacheFile);
  return readSource(source);
}

function isFolderOfFiles({ kind }: DataSource): boolean {
  return kind === 'tree' || kind === 'csv';
}

function announce({ path: place }: DataSource, env: DataEnvironment, cacheFile: string): void {
  env.say(`${place}: reading the data set; the next run takes it from ${cacheFile}`);
}

/** The constants hold for these ten classes and this size only. */
function cifar10Normalization({ path: place }: DataSource, { classes, train }: SetOutline): Normalization {
  const got = `${classes.length} classes (${classes.slice(0, 3).join(', ')}, ...) of ${train.width}x${train.height} pixels`;
  const isCifar10 = classes.join() === CIFAR10_CLASSES.join() && train.width === 32 && train.height === 32;
  if (isCifar10) return CIFAR10_NORMALIZATION;
  const expected = 'the ten classes of CIFAR-10 in 32x32 pixels';
  throw dataError('DTRAIN_DATA_LAYOUT', `${place}: expected ${expected}, got ${got}. Set data.name=image-folder.`);
}
