/**
 * Writing checkpoints, so that a crash at any moment leaves the old ones and either all of the new one or nothing.
 *
 *   1 the lock is ours, there is room        4 rename to step-N, sync the folder of checkpoints
 *   2 a temporary folder, files, sync each   5 only now is it durable: the links, and the removal of older ones
 *   3 manifest, sync it, sync the folder     6 on an error: the temporary folder is removed, all else stays
 *
 * Idea: every step goes through an Fs, and tests make each the last one. Any thread.
 * Must stay true: what is listed as step-N is complete and durable; it is never changed; removing begins with a rename to
 * `.trash-…`, which is synced.
 */
import { randomUUID } from 'node:crypto';
import path from 'node:path';
import { DtrainError, ExitCode } from '../core/errors.js';
import { type Fs, realFs, syncPath, writeNewFile } from '../core/file-system.js';
import { storageError } from '../core/files.js';
import { encodeSafetensors, type StoredTensor } from '../core/safetensors.js';
import type { Model } from '../model/catalogue.js';
import { toTorch, type Weights } from '../model/torch-layout.js';
import { CHECKPOINT_FILES, type CheckpointFile, crcOf, openCheckpoint, readManifest } from './checkpoint.js';
import { type CheckpointState, encodeCheckpointState } from './checkpoint-state.js';
import {
  encodeManifest,
  FORMAT_VERSION,
  MAGIC,
  MANIFEST_FILE,
  type Manifest,
  sha256,
  type TensorFacts,
} from './manifest.js';
import { stepFolders } from './step-folders.js';

/** What is written of a model: its names and shapes. Plain data. */
export type ModelNames = Pick<Model, 'name' | 'parameters' | 'statistics'>;

export interface CheckpointContent {
  readonly state: CheckpointState;
  readonly configYaml: string;
  readonly weights: Weights;
  /** Momenta in the order and layout of the model's parameters. */
  readonly momenta: readonly Float32Array[];
  /** Further tensors of the optimizer's file, per prefix of their names: in the order and layout of the model. */
  readonly extra?: ReadonlyMap<string, Weights>;
}

/** What the manifest says of the run; plain data. */
export type RunFacts = Omit<
  Manifest,
  | 'magic'
  | 'formatVersion'
  | 'step'
  | 'epoch'
  | 'model'
  | 'best'
  | 'parent'
  | 'createdAt'
  | 'files'
  | 'tensors'
  | 'hashes'
> & { readonly hashes: Omit<Manifest['hashes'], 'modelSignature'> };

/** The lock of the run folder as its holder knows it: another file in its place means that it is lost. */
export interface LockToken {
  readonly file: string;
  readonly inode: number;
}

export interface SaveOptions {
  readonly checkpoints: string;
  readonly model: ModelNames;
  readonly content: CheckpointContent;
  readonly facts: RunFacts;
  readonly isBest: boolean;
  /** Null: the caller knows that nobody else writes here. */
  readonly lock: LockToken | null;
  /** Synced before the commit, since the state names its length. Null: none. */
  readonly metricsFile: string | null;
  readonly fs?: Fs;
}

/** Room that a save asks for, as a multiple of its bytes. */
const FREE_SPACE_FACTOR = 1.1;

/**
 * Writes `step-N` and moves `last` (and `best`) to it. Returns its path.
 * @throws DTRAIN_STORAGE, DTRAIN_DISK_FULL, DTRAIN_LOCK_LOST (exit 7), DTRAIN_DIVERGED (exit 8); what was there before stays.
 */
export function saveCheckpoint(options: SaveOptions): string {
  const { checkpoints, content, isBest, lock, metricsFile, fs = realFs } = options;
  const { step } = content.state;
  const name = `step-${step}`;
  const folder = path.join(checkpoints, name);
  const temporary = path.join(checkpoints, `.tmp-${name}-g${options.facts.generation}-${randomUUID()}`);
  try {
    const files = encodeCheckpoint(options);
    const bytes = [...files.values()].reduce((sum, file) => sum + file.length, 0);
    checkLock(fs, lock);
    checkSpace(fs, checkpoints, bytes * FREE_SPACE_FACTOR);
    if (metricsFile !== null) syncPath(fs, metricsFile);
    fs.makeFolder(temporary);
    for (const [file, content] of files) writeNewFile(fs, path.join(temporary, file), content);
    syncPath(fs, temporary);
    checkLock(fs, lock);
    if (fs.entry(folder) !== undefined) setAsideUndurable(fs, folder);
    fs.rename(temporary, folder);
    syncPath(fs, checkpoints);
  } catch (cause) {
    removeQuietly(fs, temporary);
    throw cause instanceof DtrainError ? cause : storageError(folder, cause);
  }
  pointTo(fs, checkpoints, 'last', name);
  if (isBest) pointTo(fs, checkpoints, 'best', name);
  return folder;
}

/** A save of this step whose last sync failed: nobody was told of it, and whether it is durable nobody knows. */
function setAsideUndurable(fs: Fs, folder: string): void {
  fs.rename(folder, path.join(path.dirname(folder), `.trash-${path.basename(folder)}-${randomUUID()}`));
}

/** Replaces the link `name` in one step; it is only a hint, so a failure is none of the checkpoint. */
export function pointTo(fs: Fs, checkpoints: string, name: 'last' | 'best', target: string): void {
  const temporary = path.join(checkpoints, `.tmp-${name}-${randomUUID()}`);
  try {
    fs.link(target, temporary);
    fs.rename(temporary, path.join(checkpoints, name));
    syncPath(fs, checkpoints);
  } catch {
    removeQuietly(fs, temporary);
  }
}

/**
 * Removes all but the newest `keep` checkpoints, and never the one that was best. Where only one is kept, it is read back first.
 * A failure only leaves more than was asked for.
 */
export function removeOldCheckpoints(checkpoints: string, keep: number, fs: Fs = realFs): void {
  const names = stepFolders(fs, checkpoints);
  if (names.length <= keep) return;
  const kept = names.slice(-keep);
  if (keep === 1) openCheckpoint(path.join(checkpoints, kept[0]!), fs);
  const best = linkTarget(fs, path.join(checkpoints, 'best'));
  const trashes: string[] = [];
  try {
    for (const name of names.slice(0, -keep)) {
      if (name === best) continue;
      const trash = path.join(checkpoints, `.trash-${name}-${randomUUID()}`);
      fs.rename(path.join(checkpoints, name), trash);
      trashes.push(trash);
    }
    if (trashes.length === 0) return;
    syncPath(fs, checkpoints); // no disk may lose a file of a checkpoint before it forgets its name
    for (const trash of trashes) fs.remove(trash);
  } catch {
    // still there, or half removed and no longer listed: the next start removes it
  }
}

/** At the start of a run, under its lock: removes what a dead writer left, and makes the links right. */
export function tidyCheckpoints(checkpoints: string, fs: Fs = realFs): void {
  for (const name of fs.list(checkpoints)) {
    if (/^\.(tmp|trash)-/.test(name)) removeQuietly(fs, path.join(checkpoints, name));
  }
  const names = stepFolders(fs, checkpoints);
  const manifests = names.flatMap((name) => manifestOrNone(fs, path.join(checkpoints, name)));
  const best = manifests.filter(({ manifest }) => manifest.best).at(-1);
  const last = names.at(-1);
  if (last !== undefined && linkTarget(fs, path.join(checkpoints, 'last')) !== last) {
    pointTo(fs, checkpoints, 'last', last);
  }
  const hasBest = names.includes(linkTarget(fs, path.join(checkpoints, 'best')) ?? '');
  if (best !== undefined && !hasBest) pointTo(fs, checkpoints, 'best', best.name);
}

/** @throws DTRAIN_DISK_FULL (exit 7) where less than `bytes` are free. */
export function checkSpace(fs: Fs, folder: string, bytes: number): void {
  const free = fs.freeBytes(folder);
  if (free >= bytes) return;
  const text =
    `${folder}: a checkpoint needs ${mebibytes(bytes)} MiB of free space, got ${mebibytes(free)} MiB. ` +
    'The disk is full: free space, or choose another folder with --run-dir.';
  throw new DtrainError('DTRAIN_DISK_FULL', ExitCode.storage, text);
}

function mebibytes(bytes: number): string {
  return (bytes / 2 ** 20).toFixed(1);
}

function checkLock(fs: Fs, lock: LockToken | null): void {
  if (lock === null || fs.entry(lock.file)?.inode === lock.inode) return;
  const text = `${lock.file}: the lock of this run was removed or taken by another. Nothing was saved. Run one dtrain in a folder.`;
  throw new DtrainError('DTRAIN_LOCK_LOST', ExitCode.storage, text);
}

/** The files of a checkpoint in the order in which they are written, the manifest last. */
function encodeCheckpoint(options: SaveOptions): Map<string, Uint8Array> {
  const { model, content, facts, isBest, checkpoints, fs = realFs } = options;
  const { state, configYaml, weights, momenta, extra = new Map<string, Weights>() } = content;
  const withoutStatistics = { parameters: model.parameters, statistics: [] };
  const optimizer = toTorch(withoutStatistics, { parameters: momenta, means: [], variances: [] });
  for (const [prefix, tensors] of extra) {
    const described = tensors.means.length > 0 ? model : withoutStatistics;
    for (const [name, tensor] of toTorch(described, tensors)) optimizer.set(`${prefix}/${name}`, tensor);
  }
  const named = toTorch(model, weights);
  checkFinite(state.step, named);
  const files: Record<CheckpointFile, Uint8Array> = {
    'weights.safetensors': encodeSafetensors(named),
    'optimizer.safetensors': encodeSafetensors(optimizer),
    'state.msgpack': encodeCheckpointState(state),
    'config.yaml': Buffer.from(configYaml),
  };
  const manifest: Manifest = {
    ...facts,
    magic: MAGIC,
    formatVersion: FORMAT_VERSION,
    step: state.step,
    epoch: state.epoch,
    model: model.name,
    best: isBest,
    hashes: { ...facts.hashes, modelSignature: modelSignature(model) },
    parent: stepFolders(fs, checkpoints).at(-1) ?? null,
    createdAt: new Date().toISOString(),
    files: Object.fromEntries(
      CHECKPOINT_FILES.map((name) => [name, { bytes: files[name].length, sha256: sha256(files[name]) }]),
    ),
    tensors: [...tensorFacts('weights.safetensors', named), ...tensorFacts('optimizer.safetensors', optimizer)],
  };
  const inOrder = CHECKPOINT_FILES.map((name) => [name, files[name]] as const);
  return new Map<string, Uint8Array>([...inOrder, [MANIFEST_FILE, encodeManifest(manifest)]]);
}

/** A weight that is no number would be in every checkpoint from here on. */
function checkFinite(step: number, tensors: ReadonlyMap<string, StoredTensor>): void {
  for (const [name, { values }] of tensors) {
    if ((values as Float32Array).every(Number.isFinite)) continue;
    const text =
      `step ${step}: the weights ${name} are not finite: training has diverged. Nothing was saved. ` +
      'Lower schedule.learningRate, or add schedule.warmupEpochs.';
    throw new DtrainError('DTRAIN_DIVERGED', ExitCode.diverged, text, { step });
  }
}

function tensorFacts(file: CheckpointFile, tensors: ReadonlyMap<string, StoredTensor>): TensorFacts[] {
  return [...tensors].map(([name, { dtype, shape, values }]) => ({ file, name, dtype, shape, crc32: crcOf(values) }));
}

/** SHA-256 of name:shape:dtype of all that a model has, sorted. */
export function modelSignature({ parameters, statistics }: Omit<ModelNames, 'name'>): string {
  const lines = [
    ...parameters.map(({ name, shape }) => `${name}:${shape.join('x')}:F32`),
    ...statistics.map(({ name, channels }) => `${name}:${channels}:statistics`),
  ];
  return sha256(lines.sort().join('\n'));
}

function manifestOrNone(fs: Fs, folder: string): { name: string; manifest: Manifest }[] {
  try {
    return [{ name: path.basename(folder), manifest: readManifest(fs, folder) }];
  } catch {
    return []; // damaged: whoever looks for a checkpoint says so
  }
}

function linkTarget(fs: Fs, link: string): string | undefined {
  return fs.entry(link)?.kind === 'link' ? fs.readLink(link) : undefined;
}

function removeQuietly(fs: Fs, target: string): void {
  try {
    fs.remove(target);
  } catch {
    // the next start removes it
  }
}
