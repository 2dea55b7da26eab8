/**
 * `dtrain setup --bundle DIR`: what a run needs, as parts, for a machine without a network.
 *
 * Idea: everything is written into a hidden folder inside DIR; at the end the parts get their names, and the manifest comes last, so a folder
 * with a manifest is complete. The same dtrain, Node and library give the same bytes, so a part that was lost can be made again.
 *
 * Brotli, because Node has had it built in for as long as dtrain runs on it: the other machine needs nothing to unpack it, and it packs
 * libraries nearly as small as xz does and unpacks them ten times faster. The program comes as tar.gz, which is unpacked before there is a
 * Node. Figures: docs/offline.md.
 *
 * Must stay true: a file of the library that is not what was installed never gets into a bundle.
 */
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { brotliCompress, constants, createGzip } from 'node:zlib';
import { nowSeconds } from '../core/clock.js';
import { DtrainError, ExitCode } from '../core/errors.js';
import { syncFolder, writeFileAtomic } from '../core/files.js';
import { withLock } from '../tensorflow/folder-lock.js';
import { type InstallManifest, type LibraryVariant, readInstallation } from '../tensorflow/install-manifest.js';
import {
  BUNDLE_FORMAT,
  BUNDLE_MANIFEST,
  type BundledFile,
  type BundleManifest,
  type BundlePart,
  bundleTitle,
  INSTALL_SCRIPT,
  identified,
  type LibraryPart,
  type PartKind,
  PROGRAM_SUMS,
  partName,
} from './bundle-manifest.js';
import { FileImage } from './file-image.js';
import { isLoaded } from './loaded-files.js';
import { PartWriter } from './part-writer.js';
import type { NodeBinary } from './portable-node.js';
import { type ProgramFile, programFile, programFiles, programVersion } from './program-files.js';
import { tarArchive } from './tar-archive.js';

export interface BundleOptions {
  /** Made where it is missing; must be empty. */
  readonly folder: string;
  /** No file of the bundle is larger, but the manifest. */
  readonly partBytes: number;
  /** An installed library: what `dtrain setup` made. */
  readonly library: string;
  readonly variant: LibraryVariant;
  /** The folder of dtrain's package.json. */
  readonly program: string;
  /** The Node to put in; null: none. */
  readonly node: NodeBinary | null;
  readonly say: (line: string) => void;
}

/** As large as Brotli's window. */
const BLOCK_BYTES = 2 ** 24;
/** 9 packs 3 % smaller and takes ten times as long. */
const BROTLI_QUALITY = 5;
const HEARTBEAT_SECONDS = 5;
const TEMPORARY = '.dtrain-bundle';

/**
 * Writes the bundle.
 * @throws DTRAIN_BUNDLE_OUT (exit 7), DTRAIN_BUNDLE_PROGRAM, DTRAIN_SETUP_DISK_FULL, DTRAIN_SETUP_FOLDER (exit 4).
 */
export async function writeBundle(options: BundleOptions): Promise<BundleManifest> {
  const { folder, say } = options;
  const temporary = path.join(folder, TEMPORARY);
  try {
    fs.mkdirSync(folder, { recursive: true });
    const onWait = () => say(`bundle: another dtrain is writing into ${folder}, waiting for it`);
    return await withLock(`${temporary}.lock`, onWait, async () => {
      try {
        makeEmpty(folder, temporary);
        return await writeInto(temporary, options);
      } finally {
        fs.rmSync(temporary, { recursive: true, force: true });
      }
    });
  } catch (error) {
    throw told(folder, error);
  }
}

async function writeInto(temporary: string, options: BundleOptions): Promise<BundleManifest> {
  const { folder, library, variant, program, node, say } = options;
  const start = nowSeconds();
  const installed = readInstallation(library);
  if (installed === null) throw changedLibrary(library, 'a file of it');
  const files = bundledFiles(library, installed);
  const programParts = await writeProgram(temporary, options);
  const { blockBytes, parts } = await writeLibrary(temporary, files, options);
  const manifest = identified({
    format: BUNDLE_FORMAT,
    dtrain: programVersion(program),
    tensorflow: installed.tensorflow,
    variant,
    node: node?.version ?? null,
    program: { parts: programParts },
    library: { blockBytes, files, parts },
  });
  publish(temporary, folder, manifest);
  const bytes = [...programParts, ...parts].reduce((sum, part) => sum + part.bytes, 0);
  const number = programParts.length + parts.length;
  say(
    `${bundleTitle(manifest)}: ${megabytes(bytes)} MB in ${number} ${number === 1 ? 'part' : 'parts'} ` +
      `(${megabytes(files.reduce((sum, file) => sum + file.bytes, 0))} MB of libraries), ${Math.round(nowSeconds() - start)} s: ${folder}`,
  );
  return manifest;
}

/** What of the installation a run loads, and the licences. */
function bundledFiles(library: string, { files }: InstallManifest): readonly BundledFile[] {
  const kept = files.filter((file) => isLoaded(file.path));
  return kept.map((file) => {
    const isExecutable = (fs.statSync(path.join(library, file.path)).mode & 0o100) !== 0;
    return { ...file, isExecutable };
  });
}

/** dtrain, its packages and perhaps Node as one tar.gz, cut into parts. */
async function writeProgram(temporary: string, options: BundleOptions): Promise<readonly BundlePart[]> {
  const { program, node, partBytes, say } = options;
  const launcher = fileURLToPath(new URL('launch.sh', import.meta.url));
  const files: readonly ProgramFile[] = [
    { path: 'bin/dtrain', source: launcher, isExecutable: true },
    ...(node === null ? [] : [{ ...programFile(node.file, 'bin/node'), isExecutable: true }]),
    ...programFiles(program),
  ];
  say(`bundle: packing dtrain${node === null ? '' : ` and Node ${node.version}`}`);
  using writer = new PartWriter((number) => temporaryPart(temporary, 'program', number), partBytes);
  const archive = Readable.from(tarArchive(files), { objectMode: false }).pipe(createGzip({ level: 9 }));
  for await (const bytes of archive as AsyncIterable<Uint8Array>) {
    for (let rest = bytes; rest.length > 0; ) {
      if (writer.room === 0) writer.endPart();
      const taken = rest.subarray(0, writer.room);
      writer.append(taken);
      rest = rest.subarray(taken.length);
    }
  }
  return writer.finish();
}

/** The library's files as blocks; a part holds whole ones. */
async function writeLibrary(
  temporary: string,
  files: readonly BundledFile[],
  { library, partBytes, say }: BundleOptions,
): Promise<{ blockBytes: number; parts: readonly LibraryPart[] }> {
  const blockBytes = Math.min(BLOCK_BYTES, Math.floor(partBytes / 4));
  using image = new FileImage(library, files, 'r');
  using writer = new PartWriter((number) => temporaryPart(temporary, 'library', number), partBytes);
  const places: { from: number; blocks: number[] }[] = [];
  const check = new FileCheck(library, files);
  let said = nowSeconds();
  for await (const { from, packed } of packedBlocks(image, blockBytes, (piece) => check.update(piece))) {
    if (packed.length > writer.room) writer.endPart();
    if (places.length === 0 || writer.room === partBytes) places.push({ from, blocks: [] });
    writer.append(packed);
    places.at(-1)!.blocks.push(packed.length);
    if (nowSeconds() - said < HEARTBEAT_SECONDS) continue;
    said = nowSeconds();
    say(`bundle: packing the libraries, ${Math.round((100 * from) / image.bytes)} %`);
  }
  const parts = writer.finish();
  return { blockBytes, parts: parts.map((part, i) => ({ ...part, ...places[i]! })) };
}

/** The image's blocks in order, as many at a time in work as there are cores (libuv has four threads). */
async function* packedBlocks(
  image: FileImage,
  blockBytes: number,
  onRead: (piece: Buffer) => void,
): AsyncGenerator<{ from: number; packed: Buffer }> {
  const atOnce = Math.min(4, os.availableParallelism());
  const inWork: Promise<{ from: number; packed: Buffer }>[] = [];
  for (let from = 0; from < image.bytes; from += blockBytes) {
    const piece = image.read(from, Math.min(from + blockBytes, image.bytes));
    onRead(piece);
    const packing = pack(piece).then((packed) => ({ from, packed }));
    packing.catch(() => {}); // it is awaited below, perhaps after another has failed
    inWork.push(packing);
    if (inWork.length === atOnce) yield await inWork.shift()!;
  }
  for (const packing of inWork) yield await packing;
}

function pack(piece: Buffer): Promise<Buffer> {
  return promisify(brotliCompress)(piece, {
    params: {
      [constants.BROTLI_PARAM_QUALITY]: BROTLI_QUALITY,
      [constants.BROTLI_PARAM_LGWIN]: constants.BROTLI_MAX_WINDOW_BITS,
      [constants.BROTLI_PARAM_SIZE_HINT]: piece.length,
    },
  });
}

/** Holds the bytes that are read to the hashes of when they were installed. */
class FileCheck {
  readonly #library: string;
  readonly #files: readonly BundledFile[];
  #file = 0;
  #hash = createHash('sha256');
  #done = 0;

  constructor(library: string, files: readonly BundledFile[]) {
    this.#library = library;
    this.#files = files;
  }

  update(piece: Buffer): void {
    for (let at = 0; at < piece.length; ) {
      const file = this.#files[this.#file]!;
      const bytes = Math.min(file.bytes - this.#done, piece.length - at);
      this.#hash.update(piece.subarray(at, at + bytes));
      at += bytes;
      this.#done += bytes;
      if (this.#done < file.bytes) continue;
      if (this.#hash.digest('hex') !== file.sha256) throw changedLibrary(this.#library, file.path);
      this.#file += 1;
      this.#hash = createHash('sha256');
      this.#done = 0;
    }
  }
}

/** Gives the parts their names; the manifest comes last. */
function publish(temporary: string, folder: string, manifest: BundleManifest): void {
  const sums: string[] = [];
  const name = (kind: PartKind, parts: readonly BundlePart[]) => {
    for (const [i, { sha256 }] of parts.entries()) {
      const named = partName(manifest, kind, i + 1);
      fs.renameSync(temporaryPart(temporary, kind, i + 1), path.join(folder, named));
      if (kind === 'program') sums.push(`${sha256}  ${named}\n`);
    }
  };
  name('program', manifest.program.parts);
  name('library', manifest.library.parts);
  writeFileAtomic(path.join(folder, PROGRAM_SUMS), sums.join(''));
  writeFileAtomic(path.join(folder, INSTALL_SCRIPT), fs.readFileSync(new URL(INSTALL_SCRIPT, import.meta.url)));
  syncFolder(folder);
  writeFileAtomic(path.join(folder, BUNDLE_MANIFEST), `${JSON.stringify(manifest, null, 1)}\n`);
}

function temporaryPart(temporary: string, kind: PartKind, number: number): string {
  return path.join(temporary, `${kind}-${number}`);
}

/** What an earlier one that was killed left is removed. */
function makeEmpty(folder: string, temporary: string): void {
  const others = fs.readdirSync(folder).filter((name) => !name.startsWith(TEMPORARY));
  if (others.length > 0) {
    const list = others.length > 3 ? `${others.slice(0, 3).join(', ')}, …` : others.join(', ');
    const message = `--bundle ${folder}: expected a new or empty folder, got one with ${list}. Choose another, or empty it.`;
    throw new DtrainError('DTRAIN_BUNDLE_OUT', ExitCode.storage, message);
  }
  fs.rmSync(temporary, { recursive: true, force: true });
  fs.mkdirSync(temporary);
}

function changedLibrary(library: string, file: string): DtrainError {
  const message = `${library}: ${file} changed since it was installed. Delete ${library} and run the command again.`;
  return new DtrainError('DTRAIN_BUNDLE_LIBRARY', ExitCode.environment, message);
}

/** Errors of the disk in our words; others as they are. */
function told(folder: string, error: unknown): unknown {
  const { code, syscall } = error as NodeJS.ErrnoException;
  if (syscall === undefined) return error;
  const full = code === 'ENOSPC' || code === 'EDQUOT';
  const cure = full ? 'Free space, or choose a folder on a larger disk.' : 'Make it writable, or choose another.';
  const message = `--bundle ${folder}: ${full ? 'the disk became full' : `cannot be written (${code})`}. ${cure}`;
  const kind = full ? 'DTRAIN_SETUP_DISK_FULL' : 'DTRAIN_BUNDLE_OUT';
  return new DtrainError(kind, full ? ExitCode.environment : ExitCode.storage, message, { cause: error });
}

function megabytes(bytes: number): string {
  return (bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0);
}
