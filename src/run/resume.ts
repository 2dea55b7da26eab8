/**
 * Going on with a run: which one, from which checkpoint, and whether that is allowed.
 *
 * Idea: order, random numbers and learning rates are pure functions of the step, so a checkpoint's tensors, its step and a few counters
 * are all that a run needs to continue bit for bit; what could change the rest of the run must be as it was.
 * Must stay true: a checkpoint that was named is used or refused; one that was found is passed over, with a warning, for the one before.
 */
import fs from 'node:fs';
import path from 'node:path';
import { configEntries, printValue } from '../config/print-config.js';
import type { RunConfig } from '../config/schema.js';
import { DtrainError, ExitCode } from '../core/errors.js';
import { type OpenCheckpoint, openCheckpoint } from '../train/checkpoint.js';
import { newestCheckpoint, setAsideAfter } from '../train/find-checkpoint.js';
import { MANIFEST_FILE, sha256 } from '../train/manifest.js';
import { makeRunFolder, newestRunFolder, type RunPlace } from './run-directory.js';

export interface ResumeRequest {
  /** A run or a checkpoint; null: the one in `runDir`, else in the newest run of the configuration. */
  readonly from: string | null;
}

export interface ResumePlace extends RunPlace {
  /** The checkpoint that was named; null: the newest. */
  readonly checkpoint: string | null;
}

/** Keys that may differ from the run that is gone on with: data are compared by their bytes, first weights are long gone. */
const MAY_DIFFER =
  /^(train\.(epochs|maxSteps)|data\.(path|memoryBytes)|model\.initFrom|evaluation\..*|checkpoint\..*|allReduce\.timeoutSeconds|gpu\..*|cluster\..*)$/;
/** A checkpoint knows these resolved; null means what it knows. */
const RESOLVED: readonly string[] = ['train.logicalShards', 'train.threadsPerWorker'];

/** Where the run is, or will be. @throws DTRAIN_CHECKPOINT_MISSING (exit 6), DTRAIN_STORAGE (exit 7). */
export function placeOfRun(
  resume: ResumeRequest | undefined,
  { runDir, configName }: { readonly runDir: string | null; readonly configName: string },
): ResumePlace {
  const newRun = (folder: string | null): ResumePlace => {
    return { path: folder ?? makeRunFolder(configName), resumes: false, checkpoint: null };
  };
  if (resume === undefined) return newRun(runDir);
  if (resume.from !== null) return namedPlace(resume.from);
  const found = runDir ?? newestRunFolder(configName);
  return found === undefined ? newRun(null) : { path: found, resumes: true, checkpoint: null };
}

function namedPlace(given: string): ResumePlace {
  if (!fs.existsSync(given)) {
    const text = `${given}: nothing there to resume. Expected a run folder or one of its checkpoints.`;
    throw new DtrainError('DTRAIN_CHECKPOINT_MISSING', ExitCode.checkpoint, text);
  }
  if (!fs.existsSync(path.join(given, MANIFEST_FILE))) return { path: given, resumes: true, checkpoint: null };
  const folder = fs.realpathSync(given);
  const checkpoints = path.dirname(folder);
  if (path.basename(checkpoints) !== 'checkpoints') {
    const text = `${given}: expected a checkpoint inside the folder of its run (RUN/checkpoints/step-N), got one elsewhere. To begin a new run with its weights, export it and set model.initFrom.`;
    throw new DtrainError('DTRAIN_CHECKPOINT_MISSING', ExitCode.checkpoint, text);
  }
  const relative = path.relative(process.cwd(), path.dirname(checkpoints));
  const runDir = relative.startsWith('..') ? path.dirname(checkpoints) : relative || '.';
  return { path: runDir, resumes: true, checkpoint: folder };
}

/**
 * The checkpoint to go on from; undefined: from the beginning. Under the run's lock. A named one that is not the newest becomes the newest:
 * later ones are set aside once `config` is known to fit.
 * @throws DTRAIN_CHECKPOINT_* (exit 6).
 */
export function checkpointToResume(
  { path: runDir, resumes, checkpoint }: ResumePlace,
  warn: (line: string) => void,
): OpenCheckpoint | undefined {
  if (!resumes) return undefined;
  const checkpoints = path.join(runDir, 'checkpoints');
  return checkpoint === null ? newestCheckpoint(checkpoints, warn) : openCheckpoint(checkpoint);
}

/** Makes the checkpoint that a run goes on from its newest. */
export function setLaterAside({ path: runDir }: ResumePlace, step: number, warn: (line: string) => void): void {
  const later = setAsideAfter(path.join(runDir, 'checkpoints'), step);
  if (later.length === 0) return;
  warn(`${runDir}: going on from step ${step}; later checkpoints are set aside: ${later.join(', ')}.`);
}

/**
 * The configuration to go on with: the given one, with generated images where the run fell back to them.
 * @throws DTRAIN_RESUME_DIFFERS (exit 6) with a table of all differences.
 */
export async function resumedConfig(
  given: RunConfig,
  opened: OpenCheckpoint,
  fallsBackToSynthetic: boolean,
): Promise<RunConfig> {
  const { loadConfig } = await import('../config/load.js'); // a run that begins has no use for it
  const saved = loadConfig({ file: opened.configFile });
  const config = fallsBackToSynthetic ? withSavedFallback(given, saved) : given;
  const { shards, threadsPerWorker } = opened.state.progress;
  const known: Readonly<Record<string, number>> = {
    'train.logicalShards': shards / saved.train.accumulate,
    'train.threadsPerWorker': threadsPerWorker,
  };
  const savedValues = new Map(configEntries(saved));
  const differences = configEntries(config).flatMap(([key, now]): Difference[] => {
    if (MAY_DIFFER.test(key)) return [];
    const before = RESOLVED.includes(key) ? known[key] : savedValues.get(key);
    const isSame = printValue(before) === printValue(now) || (RESOLVED.includes(key) && now === null);
    return isSame ? [] : [{ key, before: printValue(before), now: printValue(now) }];
  });
  if (differences.length > 0) throw differs(opened.folder, differences);
  return config;
}

/** SHA-256 of the configuration, without the keys that may differ. */
export function configurationHash(config: RunConfig): string {
  const counted = configEntries(config).filter(([key]) => !MAY_DIFFER.test(key) && !RESOLVED.includes(key));
  return sha256(counted.map(([key, value]) => `${key}=${printValue(value)}`).join('\n'));
}

/** @throws DTRAIN_RESUME_DIFFERS (exit 6) where the data are not those of the checkpoint. */
export function checkDataSet({ folder, manifest }: OpenCheckpoint, fingerprint: string): void {
  if (manifest.hashes.dataSet === fingerprint) return;
  throw differs(folder, [{ key: 'data set', before: shortHash(manifest.hashes.dataSet), now: shortHash(fingerprint) }]);
}

/** @throws DTRAIN_RESUME_DIFFERS (exit 6) where the file of model.module is not that of the checkpoint. */
export function checkModule({ folder, manifest }: OpenCheckpoint, codeHash: string | undefined): void {
  const saved = manifest.hashes.module;
  if (saved === undefined || codeHash === undefined || saved === codeHash) return;
  throw differs(folder, [{ key: 'code of model.module', before: shortHash(saved), now: shortHash(codeHash) }]);
}

function shortHash(hash: string): string {
  return `${hash.slice(0, 12)}…`;
}

/** @throws DTRAIN_RESUME_DIFFERS (exit 6) where the workers cannot share the shards of the checkpoint. */
export function checkWorkers({ folder, state }: OpenCheckpoint, shards: number, workers: number): void {
  if (shards % workers === 0) return;
  const fitting = Array.from({ length: shards }, (_, i) => i + 1).filter((n) => shards % n === 0);
  const text =
    `${folder}: expected a number of workers that divides its ${shards} logical ${shards === 1 ? 'shard' : 'shards'} (${fitting.join(', ')}), got ${workers}. ` +
    `Resume step ${state.step} with one of these.`;
  throw new DtrainError('DTRAIN_RESUME_DIFFERS', ExitCode.checkpoint, text);
}

interface Difference {
  readonly key: string;
  readonly before: string;
  readonly now: string;
}

/** One screen is 24 lines. */
const SHOWN = 16;
const SHOWN_CHARACTERS = 40;

function differs(folder: string, differences: readonly Difference[]): DtrainError {
  const cut = (text: string) => (text.length > SHOWN_CHARACTERS ? `${text.slice(0, SHOWN_CHARACTERS - 1)}…` : text);
  const rows = differences.slice(0, SHOWN).map(({ key, before, now }) => [key, cut(before), cut(now)] as const);
  const table = [['key', 'then', 'now'] as const, ...rows];
  const width = (column: 0 | 1) => Math.max(...table.map((row) => row[column].length));
  const lines = table.map(([key, before, now]) => `  ${key.padEnd(width(0))}  ${before.padEnd(width(1))}  ${now}`);
  if (differences.length > SHOWN) lines.push(`  and ${differences.length - SHOWN} more`);
  const text = `${folder}: cannot be resumed with another configuration:\n${lines.join('\n')}\nUse the values of then, or begin a new run without --resume.`;
  return new DtrainError('DTRAIN_RESUME_DIFFERS', ExitCode.checkpoint, text);
}

/** A quickstart that fell back to generated images goes on with them. */
function withSavedFallback(config: RunConfig, saved: RunConfig): RunConfig {
  const fellBack = saved.data.name === 'synthetic' && config.data.name === 'cifar10' && config.data.path === null;
  if (!fellBack) return config;
  const data = { ...config.data, name: saved.data.name };
  return { ...config, data, train: { ...config.train, epochs: saved.train.epochs } };
}
