/**
 * What a bundle is: a folder of parts for a machine without a network, and the manifest that names every part and every file in them.
 *
 *   install.sh        puts the program in place and calls `dtrain setup --from-bundle`
 *   bundle.json       this manifest, written last
 *   program.sha256    the program's parts, as sha256sum reads them
 *   dtrain-ID-program-001 …   dtrain, its packages and perhaps Node: one tar.gz, cut
 *   dtrain-ID-library-001 …   TensorFlow and CUDA: each part holds whole compressed blocks, so each is of use alone
 *
 * Idea: the files of the library, one after the other, are an image (file-image.ts), which is cut into blocks; a part says where in the image
 * its first block lies. ID begins the SHA-256 of the manifest, so a changed manifest, and a part of another bundle, show.
 */
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { DtrainError, ExitCode } from '../core/errors.js';
import { type InstalledFile, type LibraryVariant, TENSORFLOW_VERSION } from '../tensorflow/install-manifest.js';

export const BUNDLE_FORMAT = 1;
export const BUNDLE_MANIFEST = 'bundle.json';
export const PROGRAM_SUMS = 'program.sha256';
export const INSTALL_SCRIPT = 'install.sh';

export interface BundlePart {
  readonly bytes: number;
  readonly sha256: string;
}

export interface LibraryPart extends BundlePart {
  /** Where in the image its first block begins. */
  readonly from: number;
  /** Compressed bytes of each of its blocks, in order; their sum is `bytes`. */
  readonly blocks: readonly number[];
}

export interface BundledFile extends InstalledFile {
  readonly isExecutable: boolean;
}

export interface BundleContent {
  readonly format: number;
  /** Version of the dtrain inside. */
  readonly dtrain: string;
  readonly tensorflow: string;
  readonly variant: LibraryVariant;
  /** Version of the Node inside; null where the target has its own. */
  readonly node: string | null;
  readonly program: { readonly parts: readonly BundlePart[] };
  readonly library: {
    /** Bytes of the image in a block; the last one has what is left. */
    readonly blockBytes: number;
    /** Of the image, in its order. */
    readonly files: readonly BundledFile[];
    readonly parts: readonly LibraryPart[];
  };
}

export interface BundleManifest extends BundleContent {
  /** SHA-256 of the content as JSON. */
  readonly id: string;
}

export type PartKind = 'program' | 'library';

export function identified(content: BundleContent): BundleManifest {
  return { id: createHash('sha256').update(JSON.stringify(content)).digest('hex'), ...content };
}

/** The first eight digits of the bundle's id: for people, and in the names of its parts. */
export function shortId({ id }: BundleManifest): string {
  return id.slice(0, 8);
}

/** `number` counts from 1. */
export function partName(manifest: BundleManifest, kind: PartKind, number: number): string {
  return `dtrain-${shortId(manifest)}-${kind}-${String(number).padStart(3, '0')}`;
}

export const PART_NAME = /^dtrain-([0-9a-f]{8})-(program|library)-(\d{3,})$/;

/** For people: `bundle 3f2a91c0 (TensorFlow 2.21.0, gpu)`. */
export function bundleTitle(manifest: BundleManifest): string {
  return `bundle ${shortId(manifest)} (TensorFlow ${manifest.tensorflow}, ${manifest.variant})`;
}

/**
 * The manifest of the bundle in `folder`.
 * @throws DTRAIN_BUNDLE_MISSING, DTRAIN_BUNDLE_DAMAGED, DTRAIN_BUNDLE_VERSION (exit 4).
 */
export function readBundle(folder: string): BundleManifest {
  const file = path.join(folder, BUNDLE_MANIFEST);
  const manifest = parsed(file, readText(folder, file));
  if (manifest.format !== BUNDLE_FORMAT || manifest.tensorflow !== TENSORFLOW_VERSION) {
    const got = `format ${manifest.format} with TensorFlow ${manifest.tensorflow}, made by dtrain ${manifest.dtrain}`;
    const message =
      `${file}: expected a bundle of format ${BUNDLE_FORMAT} with TensorFlow ${TENSORFLOW_VERSION}, got ${got}. ` +
      `Use the dtrain that is inside: sh ${path.join(folder, INSTALL_SCRIPT)}`;
    throw new DtrainError('DTRAIN_BUNDLE_VERSION', ExitCode.environment, message);
  }
  const { id, ...content } = manifest;
  if (identified(content).id !== id || !content.library.files.every(isInside)) throw damaged(file);
  return manifest;
}

function readText(folder: string, file: string): string {
  try {
    return fs.readFileSync(file, 'utf8');
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    const message =
      code !== 'ENOENT'
        ? `${file}: cannot be read (${code}). Make it readable.`
        : `${folder}: expected a folder with the ${BUNDLE_MANIFEST} of a bundle, ${found(folder)}. ` +
          'Copy that file too, or make a bundle where there is a network: dtrain setup --bundle DIR';
    throw new DtrainError('DTRAIN_BUNDLE_MISSING', ExitCode.environment, message, { cause });
  }
}

function found(folder: string): string {
  const stat = fs.statSync(folder, { throwIfNoEntry: false });
  if (stat === undefined) return 'which does not exist';
  if (!stat.isDirectory()) return 'got a file';
  const parts = fs.readdirSync(folder).filter((name) => PART_NAME.test(name)).length;
  return parts === 0 ? 'got one without' : `got only ${parts} ${parts === 1 ? 'part' : 'parts'}`;
}

function parsed(file: string, text: string): BundleManifest {
  try {
    const manifest = JSON.parse(text) as BundleManifest;
    if (typeof manifest?.format === 'number' && typeof manifest.id === 'string') return manifest;
  } catch {
    // told below
  }
  throw damaged(file);
}

function damaged(file: string): DtrainError {
  const message = `${file}: expected the manifest as it was written, got a damaged one. Copy it again.`;
  return new DtrainError('DTRAIN_BUNDLE_DAMAGED', ExitCode.environment, message);
}

/** Whether the file stays in the folder of the installation. */
function isInside(file: BundledFile): boolean {
  return /^(tensorflow|nvidia)\/[^\0]+$/.test(file.path) && !file.path.split('/').includes('..');
}
