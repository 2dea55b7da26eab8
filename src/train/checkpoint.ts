/**
 * Checkpoints: one folder each, whole or not there. Reading; writing is save-checkpoint.ts.
 *
 *   RUN/checkpoints/step-1200/    never changed again
 *     weights.safetensors     parameters and running statistics, named and laid out as torchvision's
 *     optimizer.safetensors   momenta, named after their parameters, and what else training goes on with (state-transfer.ts)
 *     state.msgpack           step, epoch, best accuracy, classes, normalisation, where the run is (checkpoint-state.ts)
 *     config.yaml             the resolved configuration
 *     manifest.json           written last: what it is, size and SHA-256 of each file (manifest.ts)
 *   RUN/checkpoints/last, best                 links: hints for people, replaced by rename
 *   RUN/checkpoints/.tmp-… .trash-… .bad-…     being written, being removed, found damaged: never listed
 *
 * Must stay true: a folder named step-N is complete; nothing of it is used before sizes and hashes have been checked.
 */
import path from 'node:path';
import { crc32 } from 'node:zlib';
import { DtrainError, ExitCode } from '../core/errors.js';
import { type Fs, realFs } from '../core/file-system.js';
import { decodeSafetensors } from '../core/safetensors.js';
import type { Model } from '../model/catalogue.js';
import { fromTorch, type Weights } from '../model/torch-layout.js';
import { type CheckpointState, decodeCheckpointState } from './checkpoint-state.js';
import { damaged, decodeManifest, MANIFEST_FILE, MAX_MANIFEST_BYTES, type Manifest, sha256 } from './manifest.js';
import { stepFolders } from './step-folders.js';

export const CHECKPOINT_FILES = [
  'weights.safetensors',
  'optimizer.safetensors',
  'state.msgpack',
  'config.yaml',
] as const;
export type CheckpointFile = (typeof CHECKPOINT_FILES)[number];

/** An opened checkpoint: verified, its state read, its tensors still bytes, since the model is made from the configuration first. */
export interface OpenCheckpoint {
  readonly folder: string;
  readonly manifest: Manifest;
  readonly state: CheckpointState;
  /** Path of the resolved configuration. */
  readonly configFile: string;
  readonly weightsFile: string;
  readonly optimizerFile: string;
}

/**
 * Opens a checkpoint: its folder, `RUN/checkpoints/last`, `RUN/checkpoints/best`, or RUN (its newest).
 * @throws DTRAIN_CHECKPOINT_* (exit 6) when it is missing, incomplete, altered, or of another version.
 */
export function openCheckpoint(given: string, fs: Fs = realFs): OpenCheckpoint {
  const folder = checkpointFolder(fs, given);
  const manifest = readManifest(fs, folder);
  for (const name of CHECKPOINT_FILES) verify(fs, folder, name, manifest);
  const file = (name: CheckpointFile) => path.join(folder, name);
  return {
    folder,
    manifest,
    state: readState(fs, file('state.msgpack'), manifest),
    configFile: file('config.yaml'),
    weightsFile: file('weights.safetensors'),
    optimizerFile: file('optimizer.safetensors'),
  };
}

/** The manifest of a checkpoint's folder, checked in itself; the files are not looked at. @throws exit 6. */
export function readManifest(fs: Fs, folder: string): Manifest {
  const file = path.join(folder, MANIFEST_FILE);
  const entry = fs.entry(file);
  if (entry?.kind !== 'file') throw damaged(folder, 'it has no manifest.json');
  if (entry.bytes > MAX_MANIFEST_BYTES) throw damaged(file, `${entry.bytes} bytes`);
  return decodeManifest(readFile(fs, file), file);
}

/** Whether a run folder holds a checkpoint. */
export function hasCheckpoints(runDir: string, fs: Fs = realFs): boolean {
  return stepFolders(fs, path.join(runDir, 'checkpoints')).length > 0;
}

/** Weights from a safetensors file with torchvision's names: a checkpoint's, an export, or PyTorch's. @throws exit 6. */
export function readWeights(file: string, model: Model): Weights {
  return fromTorch(model, decodeSafetensors(readFile(realFs, file), file), file);
}

/** Momenta of a checkpoint, in the order of the model's parameters. @throws exit 6. */
export function readMomenta(file: string, model: Model): readonly Float32Array[] {
  const all = decodeSafetensors(readFile(realFs, file), file);
  const plain = new Map([...all].filter(([name]) => !name.includes('/')));
  return fromTorch({ parameters: model.parameters, statistics: [] }, plain, file).parameters;
}

/** The tensors `PREFIX/NAME` of an optimizer's file: parameters, and statistics where there are some. @throws exit 6. */
export function readExtra(file: string, model: Model, prefix: string, withStatistics: boolean): Weights {
  const all = decodeSafetensors(readFile(realFs, file), file);
  const own = [...all].filter(([name]) => name.startsWith(`${prefix}/`));
  const tensors = new Map(own.map(([name, tensor]) => [name.slice(prefix.length + 1), tensor]));
  const statistics = withStatistics ? model.statistics : [];
  return fromTorch({ parameters: model.parameters, statistics }, tensors, `${file}: ${prefix}/`);
}

function checkpointFolder(fs: Fs, given: string): string {
  if (fs.entry(path.join(given, MANIFEST_FILE)) !== undefined) return resolved(fs, given);
  const checkpoints = path.join(given, 'checkpoints');
  const newest = stepFolders(fs, checkpoints).at(-1);
  if (newest !== undefined) return path.join(checkpoints, newest);
  const text = `${given}: no checkpoint there. Expected a run folder, RUN/checkpoints/last, RUN/checkpoints/best or RUN/checkpoints/step-N.`;
  throw new DtrainError('DTRAIN_CHECKPOINT_MISSING', ExitCode.checkpoint, text);
}

/** The folder behind the links `last` and `best`. */
function resolved(fs: Fs, folder: string): string {
  if (fs.entry(folder)?.kind !== 'link') return folder;
  return path.resolve(path.dirname(folder), fs.readLink(folder));
}

function verify(fs: Fs, folder: string, name: CheckpointFile, manifest: Manifest): void {
  const file = path.join(folder, name);
  const expected = manifest.files[name];
  const entry = fs.entry(file);
  if (expected === undefined) throw damaged(path.join(folder, MANIFEST_FILE), `it does not name ${name}`);
  if (entry === undefined) throw damaged(file, 'it is not there');
  if (entry.kind !== 'file') throw damaged(file, 'expected a regular file');
  if (entry.bytes !== expected.bytes) throw damaged(file, `expected ${expected.bytes} bytes, got ${entry.bytes}`);
  const bytes = readFile(fs, file);
  if (sha256(bytes) === expected.sha256) return;
  const tensor = damagedTensor(bytes, name, manifest);
  const which = tensor === undefined ? '' : ` (tensor ${tensor})`;
  throw damaged(file, `its SHA-256 is not the one in manifest.json${which}`);
}

/** The first tensor whose CRC does not hold; undefined where the file cannot be taken apart. */
function damagedTensor(bytes: Uint8Array, file: string, { tensors }: Manifest): string | undefined {
  if (!file.endsWith('.safetensors')) return undefined;
  try {
    const found = decodeSafetensors(bytes, file);
    const own = tensors.filter((facts) => facts.file === file);
    return own.find(({ name, crc32: expected }) => crcOf(found.get(name)?.values) !== expected)?.name;
  } catch {
    return undefined;
  }
}

/** Of a tensor's bytes. */
export function crcOf(values: ArrayBufferView | undefined): number {
  if (values === undefined) return 0;
  return crc32(new Uint8Array(values.buffer as ArrayBuffer, values.byteOffset, values.byteLength));
}

function readState(fs: Fs, file: string, { step }: Manifest): CheckpointState {
  let state: CheckpointState;
  try {
    state = decodeCheckpointState(readFile(fs, file));
  } catch (error) {
    if (error instanceof DtrainError) throw error;
    throw damaged(file, (error as Error).message);
  }
  if (state.step !== step) throw damaged(file, `expected step ${step}, got ${state.step}`);
  return state;
}

function readFile(fs: Fs, file: string): Buffer {
  try {
    return fs.read(file);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    const text = `${file}: cannot be read (${code}). Expected a file of a checkpoint or weights in safetensors format.`;
    throw new DtrainError('DTRAIN_CHECKPOINT_MISSING', ExitCode.checkpoint, text, { cause });
  }
}
