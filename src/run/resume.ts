/**
 * `--resume`: which checkpoint a run goes on from, and whether it may.
 *
 * Idea: order, random numbers and learning rates are pure functions of the step, so a checkpoint's tensors and its step are all that a
 * run needs to continue bit for bit; what could change the rest of the run must be as it was.
 * Must stay true: a checkpoint that was named is used or refused; one that was found is passed over, with a warning, for the one before.
 */
import fs from 'node:fs';
import path from 'node:path';
import { loadConfig } from '../config/load.js';
import { printValue } from '../config/print-config.js';
import { CONFIG_KEYS, type RunConfig } from '../config/schema.js';
import { DtrainError, ExitCode } from '../core/errors.js';
import { type OpenCheckpoint, openCheckpoint, stepFolders } from '../train/checkpoint.js';

export interface ResumeRequest {
  /** A run or a checkpoint; null: the one in `runDir`, else in the newest run of the configuration. */
  readonly from: string | null;
}

export interface ResumePoint {
  /** The folder in which the run goes on; null: a new one. */
  readonly runDir: string | null;
  readonly checkpoint: OpenCheckpoint | null;
}

export interface RunPlace {
  readonly runDir: string | null;
  readonly configName: string;
}

/** Where to go on. @throws exit 6 when a checkpoint that was named is missing or damaged. */
export function findResumePoint({ from }: ResumeRequest, place: RunPlace, say: (line: string) => void): ResumePoint {
  if (from !== null) {
    const checkpoint = openCheckpoint(from);
    return { runDir: path.dirname(path.dirname(checkpoint.folder)), checkpoint };
  }
  const runDir = place.runDir ?? newestRun(place.configName);
  const checkpoint = runDir === null ? null : newestCheckpoint(runDir, say);
  if (checkpoint === null) say('resume: no checkpoint yet: starting from the beginning');
  return { runDir: checkpoint === null ? place.runDir : runDir, checkpoint };
}

/** `runs/NAME-TIME`, the one with the latest time. */
function newestRun(configName: string): string | null {
  if (!fs.existsSync('runs')) return null;
  const names = fs.readdirSync('runs').filter((name) => {
    return name.startsWith(`${configName}-`) && /^\d{8}-\d{6}(-\d+)?$/.test(name.slice(configName.length + 1));
  });
  const newest = names.sort().at(-1);
  return newest === undefined ? null : path.join('runs', newest);
}

/** The latest checkpoint that is whole. */
function newestCheckpoint(runDir: string, say: (line: string) => void): OpenCheckpoint | null {
  const checkpoints = path.join(runDir, 'checkpoints');
  for (const name of stepFolders(checkpoints).reverse()) {
    try {
      return openCheckpoint(path.join(checkpoints, name));
    } catch (error) {
      if (!(error instanceof DtrainError)) throw error;
      say(`warning: ${error.message}\nresume: taking the checkpoint before it`);
    }
  }
  return null;
}

/** Keys that may differ from the run that is gone on with. */
const MAY_DIFFER =
  /^(train\.(epochs|maxSteps)|data\.path|model\.initFrom|evaluation\..*|checkpoint\..*|allReduce\.timeoutSeconds|cluster\..*)$/;

/**
 * Refuses to go on with another run than the checkpoint's. `shards` is the number of logical shards now.
 * @throws DTRAIN_RESUME_DIFFERS (exit 6) with a table of the differences.
 */
export function checkSameRun(checkpoint: OpenCheckpoint, config: RunConfig, shards: number): void {
  const saved = loadConfig({ file: checkpoint.configFile });
  const rows = CONFIG_KEYS.flatMap(({ path: key }) => {
    if (MAY_DIFFER.test(key) || key === 'train.logicalShards') return [];
    const [before, now] = [printValue(valueAt(saved, key)), printValue(valueAt(config, key))];
    return before === now ? [] : [`  ${key}: ${before} then, ${now} now`];
  });
  const { shards: savedShards } = checkpoint.state;
  if (savedShards !== shards)
    rows.push(`  logical shards: ${savedShards} then, ${shards} now (set train.logicalShards=${savedShards})`);
  if (rows.length === 0) return;
  const text = `${checkpoint.folder}: cannot be resumed with another configuration:\n${rows.join('\n')}\nUse the values of then, or begin a new run without --resume.`;
  throw new DtrainError('DTRAIN_RESUME_DIFFERS', ExitCode.checkpoint, text);
}

function valueAt(config: RunConfig, key: string): unknown {
  return key.split('.').reduce<unknown>((value, name) => (value as Readonly<Record<string, unknown>>)[name], config);
}
