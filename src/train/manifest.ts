/**
 * manifest.json of a checkpoint: what the checkpoint is and of which files it is made, written last.
 *
 * Idea: canonical JSON (keys sorted, no spaces) with the SHA-256 of itself, so that any change of any byte of a checkpoint is found.
 * Must stay true: nothing of a manifest is used before all of it has been checked: it may come from somebody else.
 */
import { createHash } from 'node:crypto';
import { DtrainError, ExitCode } from '../core/errors.js';

export interface FileFacts {
  readonly bytes: number;
  /** Hexadecimal. */
  readonly sha256: string;
}

export interface TensorFacts {
  readonly file: string;
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly number[];
  /** CRC-32 of its bytes: names the damaged tensor. */
  readonly crc32: number;
}

/** SHA-256 of what must be the same to go on. */
export interface ManifestHashes {
  /** The configuration, without the keys that may differ. */
  readonly configuration: string;
  /** name:shape:dtype of every parameter and statistic, sorted. */
  readonly modelSignature: string;
  readonly dataSet: string;
  /** The file of model.module; left out where the model is one of the catalogue. */
  readonly module?: string;
}

export interface Manifest {
  readonly magic: string;
  readonly formatVersion: number;
  /** Last part of the run folder's path. */
  readonly run: string;
  /** Lives of the engine in this run, from 1. */
  readonly generation: number;
  readonly step: number;
  readonly epoch: number;
  readonly model: string;
  /** Whether no earlier evaluation of the run was better. */
  readonly best: boolean;
  readonly world: number;
  readonly shards: number;
  readonly globalBatch: number;
  readonly precision: string;
  readonly threadsPerWorker: number;
  readonly hashes: ManifestHashes;
  readonly versions: { readonly dtrain: string; readonly tensorflow: string; readonly node: string };
  /** The checkpoint before this one. */
  readonly parent: string | null;
  /** For people only: the clock may have been wrong. */
  readonly createdAt: string;
  readonly files: Readonly<Record<string, FileFacts>>;
  readonly tensors: readonly TensorFacts[];
}

export const MANIFEST_FILE = 'manifest.json';
export const FORMAT_VERSION = 2;
export const MAGIC = 'dtrain-checkpoint';
/** More than a manifest of ten thousand tensors has. */
export const MAX_MANIFEST_BYTES = 16 * 2 ** 20;
const MAX_FILES = 16;
/** A tensor's shape is four levels down. Known before anything descends: JSON of a hundred thousand brackets is read, and then overflows the stack. */
const MAX_LEVELS = 4;

export function encodeManifest(manifest: Manifest): Uint8Array {
  const hash = sha256(canonical(manifest));
  return Buffer.from(`${canonical({ ...manifest, hash })}\n`);
}

/**
 * The manifest that `bytes` hold. `where` names the file in errors.
 * @throws DTRAIN_CHECKPOINT_DAMAGED, DTRAIN_CHECKPOINT_VERSION (exit 6).
 */
export function decodeManifest(bytes: Uint8Array, where: string): Manifest {
  if (bytes.length > MAX_MANIFEST_BYTES) {
    throw damaged(where, `expected at most ${MAX_MANIFEST_BYTES} bytes, got ${bytes.length}`);
  }
  const value = parsed(bytes);
  if (!isObject(value) || value['magic'] !== MAGIC) throw damaged(where, `expected a manifest of ${MAGIC}`);
  if (isDeeper(value, MAX_LEVELS)) throw damaged(where, `expected at most ${MAX_LEVELS} levels of objects and arrays`);
  const { hash, ...rest } = value;
  const { formatVersion } = rest;
  // The first format had no hash; those after this one are to keep it, so that a changed version is damage and no other version.
  const isFirst = formatVersion === 1 && hash === undefined;
  const isWhole = hash === sha256(canonical(rest)) && Buffer.from(`${canonical(value)}\n`).equals(bytes);
  if (!isFirst && !isWhole) throw damaged(where, 'its own SHA-256 does not hold');
  if (formatVersion !== FORMAT_VERSION) throw otherVersion(where, formatVersion);
  const problem = problemOf(rest);
  if (problem !== undefined) throw damaged(where, problem);
  return rest as unknown as Manifest;
}

export function damaged(where: string, what: string): DtrainError {
  const text = `${where}: the checkpoint is damaged: ${what}. Take another one of the run's checkpoints.`;
  return new DtrainError('DTRAIN_CHECKPOINT_DAMAGED', ExitCode.checkpoint, text);
}

export function sha256(bytes: Uint8Array | string): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** JSON with sorted keys and no spaces: the same text for the same value. */
export function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`;
  if (!isObject(value)) return JSON.stringify(value);
  const members = Object.keys(value).sort();
  return `{${members.map((key) => `${JSON.stringify(key)}:${canonical(value[key])}`).join(',')}}`;
}

/** Undefined where it is not JSON in UTF-8. */
function parsed(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch {
    return undefined;
  }
}

/** Whether objects and arrays lie within each other more than `levels` times. */
function isDeeper(value: unknown, levels: number): boolean {
  if (typeof value !== 'object' || value === null) return false;
  return levels === 0 || Object.values(value).some((member) => isDeeper(member, levels - 1));
}

type Check = (value: unknown) => boolean;

const isCount: Check = (value) => Number.isSafeInteger(value) && (value as number) >= 0;
const isText: Check = (value) => typeof value === 'string' && value.length <= 4096;
const isHash: Check = (value) => typeof value === 'string' && /^[0-9a-f]{64}$/.test(value);
const isFlag: Check = (value) => typeof value === 'boolean';
const isAmount: Check = (value) => typeof value === 'number' && Number.isFinite(value) && value >= 0;
const isName: Check = (value) => typeof value === 'string' && /^[a-z0-9][a-z0-9._-]{0,63}$/.test(value);

const HASHES = { configuration: isHash, modelSignature: isHash, dataSet: isHash };

const MEMBERS: Readonly<Record<keyof Manifest, Check>> = {
  magic: isText,
  formatVersion: isCount,
  run: isText,
  generation: isCount,
  step: isCount,
  epoch: isAmount,
  model: isText,
  best: isFlag,
  world: isCount,
  shards: isCount,
  globalBatch: isCount,
  precision: isText,
  threadsPerWorker: isCount,
  hashes: (value) => has(HASHES)(value) || has({ ...HASHES, module: isHash })(value),
  versions: has({ dtrain: isText, tensorflow: isText, node: isText }),
  parent: (value) => value === null || isName(value),
  createdAt: isText,
  files: (value) =>
    isObject(value) &&
    Object.keys(value).length <= MAX_FILES &&
    Object.entries(value).every(([name, facts]) => isName(name) && has({ bytes: isCount, sha256: isHash })(facts)),
  tensors: (value) =>
    Array.isArray(value) &&
    value.every(has({ file: isName, name: isText, dtype: isText, shape: isCounts, crc32: isCount })),
};

function isCounts(value: unknown): boolean {
  return Array.isArray(value) && value.every(isCount);
}

/** An object with exactly these members. */
function has(members: Readonly<Record<string, Check>>): Check {
  return (value) =>
    isObject(value) &&
    Object.keys(value).length === Object.keys(members).length &&
    Object.entries(members).every(([key, check]) => Object.hasOwn(value, key) && check(value[key]));
}

function problemOf(value: Readonly<Record<string, unknown>>): string | undefined {
  const unknown = Object.keys(value).find((key) => !Object.hasOwn(MEMBERS, key));
  if (unknown !== undefined) return `expected no member ${JSON.stringify(unknown.slice(0, 60))}`;
  const wrong = Object.entries(MEMBERS).find(([key, check]) => !Object.hasOwn(value, key) || !check(value[key]));
  return wrong === undefined ? undefined : `its member ${wrong[0]} is not what it should be`;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function otherVersion(where: string, got: unknown): DtrainError {
  const shown = typeof got === 'number' ? String(got) : 'none';
  const newer = typeof got === 'number' && got > FORMAT_VERSION;
  const cure = newer ? 'Use a newer dtrain.' : 'Export it with the version of dtrain that wrote it.';
  const text = `${where}: expected checkpoint format ${FORMAT_VERSION}, got ${shown}. ${cure}`;
  return new DtrainError('DTRAIN_CHECKPOINT_VERSION', ExitCode.checkpoint, text);
}
