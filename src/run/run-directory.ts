/**
 * The folder of a run: `runs/<name>-<time>/` with config.yaml, metrics.jsonl and checkpoints/.
 *
 * Idea: what can be known to fail later is tried before the first step: the lock, writing, syncing, renaming, removing.
 * Owns the lock and the open metrics file until disposed.
 * Must stay true: metrics.jsonl holds whole lines; one that cannot be written ends no run, only the metrics.
 */
import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { printConfig } from '../config/print-config.js';
import type { RunConfig } from '../config/schema.js';
import { DtrainError, ExitCode } from '../core/errors.js';
import type { TrainEvent } from '../core/events.js';
import { type Fs, makeFolders, realFs, syncPath, writeNewFile } from '../core/file-system.js';
import { storageError, writeFileAtomic } from '../core/files.js';
import { hasCheckpoints } from '../train/checkpoint.js';
import { tidyCheckpoints } from '../train/save-checkpoint.js';
import { RunLock } from './run-lock.js';

/** How long a resumed run waits for the lock of an engine that is dying. */
const RESUME_WAIT_SECONDS = 10;

export interface RunPlace {
  readonly path: string;
  /** Whether a run that is there goes on. */
  readonly resumes: boolean;
}

export class RunDirectory implements Disposable {
  readonly path: string;
  readonly checkpoints: string;
  readonly metricsFile: string;
  readonly lock: RunLock;
  readonly #warn: (line: string) => void;
  #metrics: number | undefined;
  #bytes = 0;

  /**
   * Makes the folder if need be, takes its lock, tries it, and removes what a dead writer left. What the run has stays until `begin`.
   * `warn` takes a line for people.
   * @throws DTRAIN_RUN_EXISTS, DTRAIN_RUN_IN_USE, DTRAIN_STORAGE (exit 7).
   */
  static async open({ path: runDir, resumes }: RunPlace, warn: (line: string) => void): Promise<RunDirectory> {
    if (!resumes && hasCheckpoints(runDir)) throw runExists(runDir);
    const checkpoints = path.join(runDir, 'checkpoints');
    try {
      makeFolders(realFs, checkpoints);
    } catch (cause) {
      throw storageError(runDir, cause);
    }
    const lock = await RunLock.take(runDir, resumes ? RESUME_WAIT_SECONDS : 0);
    try {
      if (!resumes && hasCheckpoints(runDir)) throw runExists(runDir);
      probeFolder(checkpoints);
      tidyCheckpoints(checkpoints);
      return new RunDirectory(runDir, lock, warn);
    } catch (error) {
      lock[Symbol.dispose]();
      throw error;
    }
  }

  private constructor(runDir: string, lock: RunLock, warn: (line: string) => void) {
    this.path = runDir;
    this.checkpoints = path.join(runDir, 'checkpoints');
    this.metricsFile = path.join(runDir, 'metrics.jsonl');
    this.lock = lock;
    this.#warn = warn;
  }

  /** Writes config.yaml and opens metrics.jsonl, of which the first `bytes` bytes stay. @throws DTRAIN_STORAGE (exit 7). */
  begin(config: RunConfig, bytes: number): void {
    writeFileAtomic(path.join(this.path, 'config.yaml'), printConfig(config));
    try {
      this.#metrics = fs.openSync(this.metricsFile, fs.constants.O_RDWR | fs.constants.O_CREAT, 0o644);
      this.#bytes = Math.min(bytes, fs.fstatSync(this.#metrics).size);
      fs.ftruncateSync(this.#metrics, this.#bytes);
    } catch (cause) {
      this.#giveUpMetrics(cause);
    }
  }

  /** Length of metrics.jsonl. */
  get metricsBytes(): number {
    return this.#bytes;
  }

  /** Appends an event to metrics.jsonl. Where that fails it is said once, and the run goes on without. */
  record(event: TrainEvent): void {
    if (this.#metrics === undefined) return;
    const line = Buffer.from(`${JSON.stringify(event)}\n`);
    try {
      for (let at = 0; at < line.length; ) {
        at += fs.writeSync(this.#metrics, line, at, line.length - at, this.#bytes + at);
      }
      this.#bytes += line.length;
    } catch (cause) {
      this.#giveUpMetrics(cause);
    }
  }

  [Symbol.dispose](): void {
    if (this.#metrics !== undefined) fs.closeSync(this.#metrics);
    this.#metrics = undefined;
    this.lock[Symbol.dispose]();
  }

  #giveUpMetrics(cause: unknown): void {
    if (this.#metrics !== undefined) {
      try {
        fs.ftruncateSync(this.#metrics, this.#bytes); // no half of a line
        fs.closeSync(this.#metrics);
      } catch {
        // the disk takes nothing at all
      }
    }
    this.#metrics = undefined;
    this.#warn(`${storageError(this.metricsFile, cause).message} Training goes on without it.`);
  }
}

/** Makes a new folder under runs/: `runs/resnet20-20261124-081530`, with a number where that is taken. @throws DTRAIN_STORAGE (exit 7). */
export function makeRunFolder(configName: string): string {
  const time = new Date().toISOString().slice(0, 19).replace(/[-:]/g, '').replace('T', '-');
  const base = path.join('runs', `${configName}-${time}`);
  try {
    makeFolders(realFs, 'runs');
    for (let i = 1; ; i++) {
      const name = i === 1 ? base : `${base}-${i}`;
      if (!madeFolder(name)) continue;
      syncPath(realFs, 'runs');
      return name;
    }
  } catch (cause) {
    throw storageError(base, cause);
  }
}

/** The newest folder under runs/ that makeRunFolder made for this name, by its name. */
export function newestRunFolder(configName: string): string | undefined {
  if (!fs.existsSync('runs')) return undefined;
  const found = fs.readdirSync('runs').flatMap((name) => {
    if (!name.startsWith(`${configName}-`)) return [];
    const match = /^(\d{8}-\d{6})(?:-(\d+))?$/.exec(name.slice(configName.length + 1));
    return match ? [{ name, time: match[1]!, number: Number(match[2] ?? 1) }] : [];
  });
  found.sort((a, b) => (a.time === b.time ? a.number - b.number : a.time < b.time ? -1 : 1));
  const newest = found.at(-1);
  return newest && path.join('runs', newest.name);
}

/** Does what a save does: create, sync, rename, remove. @throws DTRAIN_STORAGE (exit 7). */
export function probeFolder(folder: string, files: Fs = realFs): void {
  const [first, second] = [randomUUID(), randomUUID()].map((id) => path.join(folder, `.tmp-probe-${id}`));
  try {
    writeNewFile(files, first!, Buffer.from('dtrain'));
    files.rename(first!, second!);
    syncPath(files, folder);
    files.remove(second!);
  } catch (cause) {
    for (const file of [first!, second!]) {
      try {
        files.remove(file);
      } catch {
        // the first failure is the one to tell
      }
    }
    throw storageError(folder, cause);
  }
}

/** False where it is there already. */
function madeFolder(name: string): boolean {
  try {
    fs.mkdirSync(name);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

function runExists(runDir: string): DtrainError {
  const text = `${runDir}: expected a new or empty folder, got one that holds checkpoints of an earlier run. Go on with it by --resume, choose another with --run-dir, or remove it.`;
  return new DtrainError('DTRAIN_RUN_EXISTS', ExitCode.storage, text);
}
