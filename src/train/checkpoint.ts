/**
 * Checkpoints: one folder each, whole or not there.
 *
 *   RUN/checkpoints/step-1200/
 *     weights.safetensors     parameters and running statistics, named and laid out as torchvision's
 *     optimizer.safetensors   momenta, named after their parameters, and what else training goes on with (state-transfer.ts)
 *     state.msgpack           step, epoch, best accuracy, classes, normalisation
 *     config.yaml             the resolved configuration
 *     manifest.json           written last: size and SHA-256 of each file
 *   RUN/checkpoints/last, best    links
 *
 * Idea: everything is written into a temporary folder, synced, and the folder renamed; a reader checks sizes and hashes first.
 * Must stay true: a folder named step-N is complete; it is never changed again.
 */
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { DtrainError, ExitCode } from '../core/errors.js';
import type { Normalization } from '../core/events.js';
import { storageError, syncFolder } from '../core/files.js';
import { decodeSafetensors, encodeSafetensors } from '../core/safetensors.js';
import type { Model } from '../model/catalogue.js';
import { fromTorch, toTorch, type Weights } from '../model/torch-layout.js';
import { decodeState, encodeState, type StateValue } from './state-file.js';

/** What a checkpoint says beside its tensors. */
export interface CheckpointState {
  readonly step: number;
  /** Passes over the training images, a fraction. */
  readonly epoch: number;
  readonly testAccuracy: number | null;
  readonly bestTestAccuracy: number | null;
  /** Evaluation was due at this step and has not been done: the run was stopped. */
  readonly evaluationDue: boolean;
  /** Logical shards of a global batch. */
  readonly shards: number;
  readonly classes: readonly string[];
  readonly imageSize: readonly [height: number, width: number];
  readonly normalization: Normalization;
}

export interface CheckpointContent {
  readonly state: CheckpointState;
  readonly configYaml: string;
  readonly weights: Weights;
  /** Momenta in the order and layout of the model's parameters. */
  readonly momenta: readonly Float32Array[];
  /** Further tensors of the optimizer's file, per prefix of their names: in the order and layout of the model. */
  readonly extra?: ReadonlyMap<string, Weights>;
}

const FORMAT_VERSION = 1;
const MAGIC = 'dtrain-checkpoint';
const FILES = ['weights.safetensors', 'optimizer.safetensors', 'state.msgpack', 'config.yaml'] as const;
type FileName = (typeof FILES)[number];

interface Manifest {
  readonly magic: string;
  readonly formatVersion: number;
  readonly model: string;
  readonly step: number;
  readonly files: Readonly<Record<string, { readonly bytes: number; readonly sha256: string }>>;
}

/**
 * Writes `RUN/checkpoints/step-N` and moves `last` (and `best`) to it. Returns its path.
 * @throws DTRAIN_STORAGE (exit 7); what was there before stays.
 */
export function saveCheckpoint(checkpoints: string, model: Model, content: CheckpointContent, isBest: boolean): string {
  const name = `step-${content.state.step}`;
  const folder = path.join(checkpoints, name);
  const temporary = path.join(checkpoints, `.tmp-${name}-${process.pid}`);
  try {
    fs.rmSync(temporary, { recursive: true, force: true });
    fs.mkdirSync(temporary, { recursive: true });
    const files = encoded(model, content);
    const manifest = manifestOf(model, content, files);
    for (const file of FILES) writeSynced(path.join(temporary, file), files[file]);
    writeSynced(path.join(temporary, 'manifest.json'), Buffer.from(`${JSON.stringify(manifest, null, 2)}\n`));
    syncFolder(temporary);
    fs.rmSync(folder, { recursive: true, force: true }); // of a run that was told to begin anew in the same place
    fs.renameSync(temporary, folder);
    syncFolder(checkpoints);
    pointTo(checkpoints, 'last', name);
    if (isBest) pointTo(checkpoints, 'best', name);
    return folder;
  } catch (cause) {
    fs.rmSync(temporary, { recursive: true, force: true });
    throw storageError(folder, cause);
  }
}

/** Removes all but the newest `keep` checkpoints, and never the one that `best` points to. */
export function removeOldCheckpoints(checkpoints: string, keep: number): void {
  const best = linkTarget(path.join(checkpoints, 'best'));
  const old = stepFolders(checkpoints)
    .slice(0, -keep || undefined)
    .filter((name) => name !== best);
  for (const name of old) fs.rmSync(path.join(checkpoints, name), { recursive: true, force: true });
}

/** Whether a run folder holds a checkpoint. */
export function hasCheckpoints(runDir: string): boolean {
  return stepFolders(path.join(runDir, 'checkpoints')).length > 0;
}

/** `step-N` folders, oldest first. */
export function stepFolders(checkpoints: string): string[] {
  if (!fs.existsSync(checkpoints)) return [];
  const names = fs.readdirSync(checkpoints).filter((name) => /^step-\d+$/.test(name));
  return names.sort((a, b) => Number(a.slice(5)) - Number(b.slice(5)));
}

/** An opened checkpoint: verified, its state read, its tensors still bytes, since the model is made from the configuration first. */
export interface OpenCheckpoint {
  readonly folder: string;
  readonly state: CheckpointState;
  /** Path of the resolved configuration. */
  readonly configFile: string;
  readonly weightsFile: string;
  readonly optimizerFile: string;
}

/**
 * Opens a checkpoint: its folder, `RUN/checkpoints/last`, `RUN/checkpoints/best`, or RUN (its last).
 * @throws DTRAIN_CHECKPOINT_* (exit 6) when it is missing, incomplete or altered.
 */
export function openCheckpoint(given: string): OpenCheckpoint {
  const folder = checkpointFolder(given);
  verify(folder);
  const file = (name: FileName) => path.join(folder, name);
  return {
    folder,
    state: readState(file('state.msgpack')),
    configFile: file('config.yaml'),
    weightsFile: file('weights.safetensors'),
    optimizerFile: file('optimizer.safetensors'),
  };
}

/** Weights from a safetensors file with torchvision's names: a checkpoint's, an export, or PyTorch's. @throws exit 6. */
export function readWeights(file: string, model: Model): Weights {
  return fromTorch(model, decodeSafetensors(readFile(file), file), file);
}

/** Momenta of a checkpoint, in the order of the model's parameters. @throws exit 6. */
export function readMomenta(file: string, model: Model): readonly Float32Array[] {
  const all = decodeSafetensors(readFile(file), file);
  const plain = new Map([...all].filter(([name]) => !name.includes('/')));
  return fromTorch({ parameters: model.parameters, statistics: [] }, plain, file).parameters;
}

/** The tensors `PREFIX/NAME` of an optimizer's file: parameters, and statistics where there are some. @throws exit 6. */
export function readExtra(file: string, model: Model, prefix: string, withStatistics: boolean): Weights {
  const all = decodeSafetensors(readFile(file), file);
  const own = [...all].filter(([name]) => name.startsWith(`${prefix}/`));
  const tensors = new Map(own.map(([name, tensor]) => [name.slice(prefix.length + 1), tensor]));
  const statistics = withStatistics ? model.statistics : [];
  return fromTorch({ parameters: model.parameters, statistics }, tensors, `${file}: ${prefix}/`);
}

function encoded(
  model: Model,
  { state, configYaml, weights, momenta, extra = new Map() }: CheckpointContent,
): Record<FileName, Uint8Array> {
  const withoutStatistics = { parameters: model.parameters, statistics: [] };
  const optimizerTensors = toTorch(withoutStatistics, { parameters: momenta, means: [], variances: [] });
  for (const [prefix, tensors] of extra) {
    const described = tensors.means.length > 0 ? model : withoutStatistics;
    for (const [name, tensor] of toTorch(described, tensors)) optimizerTensors.set(`${prefix}/${name}`, tensor);
  }
  return {
    'weights.safetensors': encodeSafetensors(toTorch(model, weights)),
    'optimizer.safetensors': encodeSafetensors(optimizerTensors),
    'state.msgpack': encodeState(state as unknown as StateValue),
    'config.yaml': Buffer.from(configYaml),
  };
}

function manifestOf(model: Model, { state }: CheckpointContent, files: Record<FileName, Uint8Array>): Manifest {
  const facts = FILES.map((name) => [name, { bytes: files[name].length, sha256: sha256(files[name]) }] as const);
  return {
    magic: MAGIC,
    formatVersion: FORMAT_VERSION,
    model: model.name,
    step: state.step,
    files: Object.fromEntries(facts),
  };
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

function writeSynced(file: string, bytes: Uint8Array): void {
  const descriptor = fs.openSync(file, 'w');
  try {
    fs.writeFileSync(descriptor, bytes);
    fs.fsyncSync(descriptor);
  } finally {
    fs.closeSync(descriptor);
  }
}

/** Replaces the link `name` in one step. */
function pointTo(checkpoints: string, name: 'last' | 'best', target: string): void {
  const temporary = path.join(checkpoints, `.tmp-${name}-${process.pid}`);
  fs.rmSync(temporary, { force: true });
  fs.symlinkSync(target, temporary);
  fs.renameSync(temporary, path.join(checkpoints, name));
  syncFolder(checkpoints);
}

function linkTarget(link: string): string | undefined {
  try {
    return fs.readlinkSync(link);
  } catch {
    return undefined; // there is no best one yet
  }
}

function checkpointFolder(given: string): string {
  const inside = path.join(given, 'checkpoints', 'last');
  const folder = fs.existsSync(path.join(given, 'manifest.json')) ? given : inside;
  if (fs.existsSync(path.join(folder, 'manifest.json'))) return fs.realpathSync(folder);
  const text = `${given}: no checkpoint there. Expected a run folder, RUN/checkpoints/last, RUN/checkpoints/best or RUN/checkpoints/step-N.`;
  throw new DtrainError('DTRAIN_CHECKPOINT_MISSING', ExitCode.checkpoint, text);
}

function verify(folder: string): void {
  const manifest = readManifest(path.join(folder, 'manifest.json'));
  if (manifest.formatVersion !== FORMAT_VERSION) {
    throw damaged(folder, `expected format version ${FORMAT_VERSION}, got ${manifest.formatVersion}`);
  }
  for (const name of FILES) {
    const expected = manifest.files[name];
    const bytes = readFile(path.join(folder, name));
    if (expected?.bytes !== bytes.length)
      throw damaged(path.join(folder, name), `expected ${expected?.bytes} bytes, got ${bytes.length}`);
    if (expected.sha256 !== sha256(bytes))
      throw damaged(path.join(folder, name), 'its SHA-256 is not the one in manifest.json');
  }
}

function readManifest(file: string): Manifest {
  try {
    const manifest = JSON.parse(readFile(file).toString()) as Manifest;
    if (manifest.magic === MAGIC && typeof manifest.files === 'object' && manifest.files !== null) return manifest;
  } catch (error) {
    if (error instanceof DtrainError) throw error;
  }
  throw damaged(file, `expected a manifest of ${MAGIC}`);
}

function readState(file: string): CheckpointState {
  try {
    const state = decodeState(readFile(file)) as unknown as CheckpointState;
    if (Number.isSafeInteger(state.step) && Array.isArray(state.classes)) return state;
  } catch (error) {
    if (error instanceof DtrainError) throw error;
    throw damaged(file, (error as Error).message);
  }
  throw damaged(file, 'expected a step and the classes');
}

function readFile(file: string): Buffer {
  try {
    return fs.readFileSync(file);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    const text = `${file}: cannot be read (${code}). Expected a file of a checkpoint or weights in safetensors format.`;
    throw new DtrainError('DTRAIN_CHECKPOINT_MISSING', ExitCode.checkpoint, text, { cause });
  }
}

function damaged(where: string, what: string): DtrainError {
  const text = `${where}: the checkpoint is damaged: ${what}. Take another one of the run's checkpoints.`;
  return new DtrainError('DTRAIN_CHECKPOINT_DAMAGED', ExitCode.checkpoint, text);
}
