/**
 * The data set of a run: located, downloaded if it must be, decoded once, from then on read from the cache.
 *
 * Idea: one story for every kind of source: where is it, is it decoded already, else decode and keep.
 * Must stay true: the same source gives the same bytes in the same order, cached or not.
 */
import path from 'node:path';
import { nowSeconds } from '../core/clock.js';
import { DtrainError } from '../core/errors.js';
import type { Normalization } from '../core/events.js';
import { CIFAR10_ARCHIVE, CIFAR10_CLASSES, CIFAR10_NORMALIZATION } from './cifar10.js';
import { dataError, digits } from './data-error.js';
import { type DataEnvironment, type DataOptions, type DataSet, type DecodedSet, fingerprintOf } from './data-set.js';
import { type CachedSet, cacheFileOf, readCachedSet, writeCachedSet } from './decoded-cache.js';
import { download, type RemoteFile } from './download.js';
import type { Scaling } from './image-tree.js';
import { type DataSource, downloadFolder, FETCH_AGAIN, locateData, type NotFound } from './locate.js';
import { measureNormalization } from './normalization.js';
import { identityOf, readSource } from './read-source.js';
import { generateSynthetic, SYNTHETIC_VERSION } from './synthetic.js';

/**
 * Main thread. Throws data errors (exit 5); DTRAIN_DATA_NOT_FOUND when nothing is on disk and nothing can be fetched.
 * `archive` is what is fetched for cifar10; tests fetch another.
 */
export async function loadDataSet(
  options: DataOptions,
  env: DataEnvironment,
  archive: RemoteFile = CIFAR10_ARCHIVE,
): Promise<DataSet> {
  const { name } = options;
  if (name === 'synthetic')
    return { ...synthetic(options.seed, env), name, source: `synthetic (seed ${options.seed})` };
  const located = locateData(options, env.cacheFolder);
  const source = 'places' in located ? await fetchOrThrow(options, located, env, archive) : located;
  const set = await loadDecoded(source, env, scalingOf(options, source));
  const normalization = name === 'cifar10' ? cifar10Normalization(source, set) : set.normalization;
  return { ...set, name, normalization, source: source.path };
}

/** From the cache, or generated and kept: reading the images takes a tenth of the time that painting them does. */
function synthetic(seed: number, env: DataEnvironment): CachedSet {
  const identity = `synthetic ${SYNTHETIC_VERSION}, seed ${seed}`;
  const cacheFile = path.join(env.cacheFolder, 'decoded', `synthetic-${seed}.bin`);
  const cached = readCachedSet(cacheFile, identity, env.say);
  if (cached !== undefined) return cached;
  const generated = generateSynthetic(seed);
  const set = { ...generated, ...measured(generated) };
  keep(cacheFile, identity, set, { ...env, say: () => undefined }); // they need no disk
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

function measured(set: DecodedSet): { normalization: Normalization; fingerprint: string } {
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

/** From the cache if it is there, sound and of this source; else decoded and kept. */
async function loadDecoded(source: DataSource, env: DataEnvironment, scaling: Scaling | null): Promise<CachedSet> {
  const suffix = scaling ? `@${scaling.size}-${scaling.resize ?? 'cover'}` : '';
  const identity = identityOf(source);
  const cacheFile = cacheFileOf(`${source.path}${suffix}`, env.cacheFolder);
  const cached = readCachedSet(cacheFile, identity, env.say);
  if (cached !== undefined) return cached;

  const start = nowSeconds();
  env.say(`${source.path}: reading the data set; the next run takes it from ${cacheFile}`);
  const decoded = await readSource(source, env.say, scaling);
  if (identityOf(source) !== identity) {
    const got = 'one changed while they were read';
    throw dataError('DTRAIN_DATA_CORRUPT', `${source.path}: expected files at rest, ${got}. Run dtrain again.`);
  }
  const set = { ...decoded, ...measured(decoded) };
  const images = digits(set.train.count + set.test.count);
  env.say(`${path.basename(source.path)}: ${images} images read in ${(nowSeconds() - start).toFixed(1)} s`);
  keep(cacheFile, identity, set, env);
  return set;
}

/** A cache that cannot be written costs time in the next run and nothing else. */
function keep(cacheFile: string, identity: string, set: CachedSet, env: DataEnvironment): void {
  try {
    writeCachedSet(cacheFile, identity, set);
  } catch (error) {
    if (!(error instanceof DtrainError)) throw error;
    env.say(`the decoded data set is not kept: ${error.message}`);
  }
}

/** The constants hold for these ten classes and this size only. */
function cifar10Normalization({ path: place }: DataSource, { classes, train }: DecodedSet): Normalization {
  const got = `${classes.length} classes (${classes.slice(0, 3).join(', ')}, ...) of ${train.width}x${train.height} pixels`;
  const isCifar10 = classes.join() === CIFAR10_CLASSES.join() && train.width === 32 && train.height === 32;
  if (isCifar10) return CIFAR10_NORMALIZATION;
  const expected = 'the ten classes of CIFAR-10 in 32x32 pixels';
  throw dataError('DTRAIN_DATA_LAYOUT', `${place}: expected ${expected}, got ${got}. Set data.name=image-folder.`);
}
