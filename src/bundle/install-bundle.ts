/**
 * `dtrain setup --from-bundle DIR`: the library from the parts of a bundle, with no network.
 *
 * Idea: each part that is there is checked and unpacked into a hidden folder beside the final one, at the places that the manifest gives,
 * and noted as taken. So parts may come one by one, in any order, and one that was taken need not stay. When all have been taken, every
 * file is held to its SHA-256 and one rename makes them the installation.
 *
 *   <cacheFolder>/tensorflow/.bundle-2.21.0-gpu-ID/   taken.json   files/…        until the last part has come
 *
 * Must stay true: a part counts as taken only when its bytes were right and what was unpacked is on the disk; the final folder is complete or
 * not there.
 */
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { brotliDecompress } from 'node:zlib';
import { nowSeconds } from '../core/clock.js';
import { DtrainError, ExitCode } from '../core/errors.js';
import { writeFileAtomic } from '../core/files.js';
import {
  checkFreeSpace,
  commitInstallation,
  diskFullError,
  type Installation,
  installOnce,
  setupError,
} from '../tensorflow/install.js';
import {
  findChangedFiles,
  installFolder,
  type LibraryVariant,
  stagingFolders,
  stagingName,
  TAKEN_NAME,
  type TakenParts,
  takenParts,
} from '../tensorflow/install-manifest.js';
import {
  type BundleManifest,
  bundleTitle,
  type LibraryPart,
  PART_NAME,
  partName,
  readBundle,
  shortId,
} from './bundle-manifest.js';
import { FileImage } from './file-image.js';

export interface FromBundleOptions {
  /** Where parts and manifest are. */
  readonly folder: string;
  readonly cacheFolder: string;
  /** The variant that was asked for by a flag; null: whichever it holds. */
  readonly asked: LibraryVariant | null;
  readonly say: (line: string) => void;
}

/** What is wrong with a part; null: it was taken. */
type Fault =
  | { readonly kind: 'missing' }
  | { readonly kind: 'short'; readonly bytes: number }
  | { readonly kind: 'damaged'; readonly why: string };

/** A part that could not be taken, by its number from 1. */
interface Refused {
  readonly number: number;
  readonly fault: Fault;
}

/**
 * Takes the parts that are there; installs the library when that were all.
 * @throws DTRAIN_BUNDLE_MISSING, _DAMAGED, _INCOMPLETE, _VERSION, _VARIANT and the errors of set-up (exit 4).
 */
export async function installBundle(options: FromBundleOptions): Promise<Installation> {
  const { folder: bundle, cacheFolder, asked } = options;
  const manifest = readBundle(bundle);
  const { variant } = manifest;
  if (asked !== null && asked !== variant) throw otherVariant(bundle, variant, asked);
  const say = (line: string) => options.say(`${bundleTitle(manifest)}: ${line}`);
  const folder = installFolder(cacheFolder, variant);
  return installOnce(folder, { say, already: `TensorFlow is already installed in ${folder}` }, async (parent) => {
    const start = nowSeconds();
    const staging = new Staging(parent, manifest);
    try {
      staging.prepare(say);
      const refused = await takeParts(bundle, staging, say);
      if (refused.length > 0) throw notAll(bundle, staging, refused);
      say('checking the files');
      await staging.commit(folder);
    } catch (error) {
      const { code, cause } = error as NodeJS.ErrnoException;
      const codes = [code, (cause as NodeJS.ErrnoException | undefined)?.code];
      if (codes.includes('ENOSPC')) throw diskFullError(`${parent}: the disk became full.`);
      throw error;
    }
    const bytes = manifest.library.files.reduce((sum, file) => sum + file.bytes, 0);
    say(`installed ${(bytes / 1e9).toFixed(1)} GB in ${Math.round(nowSeconds() - start)} s: ${folder}`);
  });
}

/** Takes every part that is there and not taken yet; those that could not be. */
async function takeParts(bundle: string, staging: Staging, say: (line: string) => void): Promise<readonly Refused[]> {
  const { manifest } = staging;
  const refused: Refused[] = [];
  for (const [i, part] of manifest.library.parts.entries()) {
    const number = i + 1;
    if (staging.taken.has(number)) continue;
    const fault = await takePart(path.join(bundle, partName(manifest, 'library', number)), part, staging);
    if (fault === null) {
      staging.note(number);
      say(`took part ${number} of ${manifest.library.parts.length}`);
    } else {
      refused.push({ number, fault });
    }
  }
  return refused;
}

/** Unpacks a part while it is hashed; what a damaged one wrote counts for nothing and is written over later. */
async function takePart(file: string, part: LibraryPart, staging: Staging): Promise<Fault | null> {
  const bytes = fs.statSync(file, { throwIfNoEntry: false })?.size;
  if (bytes === undefined) return { kind: 'missing' };
  if (bytes < part.bytes) return { kind: 'short', bytes };
  if (bytes > part.bytes) return { kind: 'damaged', why: `expected ${part.bytes} bytes, got ${bytes}` };
  const { blockBytes } = staging.manifest.library;
  const hash = createHash('sha256');
  using source = new FileImage(path.dirname(file), [{ path: path.basename(file), bytes }], 'r');
  using image = staging.openImage();
  let at = 0;
  let to = part.from;
  for (const packedBytes of part.blocks) {
    const packed = readBlock(source, at, at + packedBytes);
    if (packed === null) return { kind: 'damaged', why: 'it cannot be read to its end' };
    hash.update(packed);
    const block = await unpacked(packed, Math.min(blockBytes, image.bytes - to));
    if (block === null) return { kind: 'damaged', why: OTHER_SUM };
    image.write(to, block);
    at += packedBytes;
    to += block.length;
  }
  if (hash.digest('hex') !== part.sha256) return { kind: 'damaged', why: OTHER_SUM };
  image.sync();
  return null;
}

const OTHER_SUM = 'its SHA-256 is another';

function readBlock(source: FileImage, from: number, to: number): Buffer | null {
  try {
    return source.read(from, to);
  } catch {
    return null; // an unreadable medium, or a file that became shorter
  }
}

/** Null where the bytes are no block of that length. */
async function unpacked(packed: Buffer, length: number): Promise<Buffer | null> {
  try {
    const block = await promisify(brotliDecompress)(packed, { maxOutputLength: Math.max(1, length) });
    return block.length === length ? block : null;
  } catch {
    return null;
  }
}

/** What has been taken of one bundle, on the disk. */
class Staging {
  readonly manifest: BundleManifest;
  readonly taken = new Set<number>();
  readonly #parent: string;
  readonly #folder: string;

  /** `parent`: the folder of installations. */
  constructor(parent: string, manifest: BundleManifest) {
    this.manifest = manifest;
    this.#parent = parent;
    this.#folder = path.join(parent, stagingName(manifest.variant, shortId(manifest)));
  }

  get #files(): string {
    return path.join(this.#folder, 'files');
  }

  /** Goes on from what was taken before; what was taken of other bundles is removed. */
  prepare(say: (line: string) => void): void {
    for (const other of stagingFolders(this.#parent, this.manifest.variant)) {
      if (other !== this.#folder) fs.rmSync(other, { recursive: true, force: true });
    }
    const before = takenParts(this.#folder);
    if (before?.bundle === this.manifest.id) {
      for (const number of before.taken) this.taken.add(number);
      say(`${before.taken.length} of ${before.parts} parts were taken before`);
    } else {
      fs.rmSync(this.#folder, { recursive: true, force: true });
    }
    checkFreeSpace(this.#parent, this.#bytesToCome());
    fs.mkdirSync(this.#files, { recursive: true });
  }

  openImage(): FileImage {
    return new FileImage(this.#files, this.manifest.library.files, 'r+');
  }

  note(number: number): void {
    this.taken.add(number);
    const { id, library } = this.manifest;
    const taken: TakenParts = { bundle: id, parts: library.parts.length, taken: [...this.taken].sort((a, b) => a - b) };
    writeFileAtomic(path.join(this.#folder, TAKEN_NAME), `${JSON.stringify(taken)}\n`);
  }

  /** Makes the files the installation, if each is what it should be; else nothing of them is kept. */
  async commit(folder: string): Promise<void> {
    const { tensorflow, variant, library } = this.manifest;
    for (const file of library.files.filter(({ bytes }) => bytes === 0)) {
      const name = path.join(this.#files, file.path);
      fs.mkdirSync(path.dirname(name), { recursive: true });
      fs.writeFileSync(name, '');
    }
    const files = library.files.map(({ path, bytes, sha256 }) => ({ path, bytes, sha256 }));
    const installed = { tensorflow, variant, files, bundle: shortId(this.manifest) };
    const changed = await findChangedFiles(this.#files, installed);
    if (changed.length > 0) {
      fs.rmSync(this.#folder, { recursive: true, force: true });
      throw setupError(
        'DTRAIN_BUNDLE_DAMAGED',
        `${changed.join(', ')}: unpacked from good parts, yet not what was packed; removed. ` +
          'Check the disk of the cache folder, then run the command again with all parts.',
      );
    }
    for (const file of library.files)
      fs.chmodSync(path.join(this.#files, file.path), file.isExecutable ? 0o755 : 0o644);
    commitInstallation(this.#files, installed, folder, this.#folder);
  }

  #bytesToCome(): number {
    const { blockBytes, files, parts } = this.manifest.library;
    const most = files.reduce((sum, file) => sum + file.bytes, 0);
    const left = parts.filter((_, i) => !this.taken.has(i + 1));
    return Math.min(
      most,
      left.reduce((sum, { blocks }) => sum + blocks.length * blockBytes, 0),
    );
  }
}

/** Which parts did not come, and what to do. */
function notAll(bundle: string, { manifest, taken }: Staging, refused: readonly Refused[]): DtrainError {
  const numbersOf = (kind: Fault['kind']) =>
    refused.filter(({ fault }) => fault.kind === kind).map((part) => part.number);
  const name = (number: number) => partName(manifest, 'library', number);
  const single = refused.flatMap(({ number, fault }) => {
    if (fault.kind === 'short') {
      const whole = manifest.library.parts[number - 1]!.bytes;
      return [`  too short, perhaps still being copied: ${name(number)} (${fault.bytes} of ${whole} bytes)`];
    }
    return fault.kind === 'damaged' ? [`  damaged: ${name(number)} (${fault.why})`] : [];
  });
  const missing = ranges(numbersOf('missing')).map(([from, to]) =>
    from === to ? name(from) : `${name(from)} to ${String(to).padStart(3, '0')}`,
  );
  const others = otherBundles(bundle, manifest);
  const lines = [
    `${bundle}: ${bundleTitle(manifest)}: ${taken.size} of ${manifest.library.parts.length} parts were taken, and need not stay.`,
    ...(missing.length > 0 ? [`  missing: ${missing.join(', ')}`] : []),
    ...single,
    ...(others.length > 0 ? [`  of another bundle, and of no use here: ${others.join(', ')}`] : []),
    `Copy what is missing, too short or damaged into that folder, then run dtrain setup --from-bundle ${bundle} again.`,
  ];
  const code = numbersOf('damaged').length > 0 ? 'DTRAIN_BUNDLE_DAMAGED' : 'DTRAIN_BUNDLE_INCOMPLETE';
  return new DtrainError(code, ExitCode.environment, lines.join('\n'));
}

/** 1, 2, 3, 7 → [1, 3], [7, 7]. */
function ranges(numbers: readonly number[]): readonly (readonly [from: number, to: number])[] {
  const found: [number, number][] = [];
  for (const number of numbers) {
    const last = found.at(-1);
    if (last !== undefined && last[1] === number - 1) last[1] = number;
    else found.push([number, number]);
  }
  return found;
}

/** Names in the folder that look like parts and are none of this bundle; at most four. */
function otherBundles(bundle: string, manifest: BundleManifest): readonly string[] {
  const names = fs
    .readdirSync(bundle)
    .filter((name) => (PART_NAME.exec(name)?.[1] ?? shortId(manifest)) !== shortId(manifest));
  return names.length > 4 ? [...names.sort().slice(0, 3), `… (${names.length})`] : names.sort();
}

function otherVariant(bundle: string, variant: LibraryVariant, asked: LibraryVariant): DtrainError {
  const message = `${bundle}: expected a bundle with the ${asked} library, got one with the ${variant} library. Leave --${asked} out, or take another bundle.`;
  return new DtrainError('DTRAIN_BUNDLE_VARIANT', ExitCode.environment, message);
}
