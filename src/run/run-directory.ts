/**
 * The folder of a run: `runs/<name>-<time>/` with config.yaml, metrics.jsonl and checkpoints/.
 * Owns the open metrics file until disposed.
 */
import fs from 'node:fs';
import path from 'node:path';
import { printConfig } from '../config/print-config.js';
import type { RunConfig } from '../config/schema.js';
import { DtrainError, ExitCode } from '../core/errors.js';
import type { TrainEvent } from '../core/events.js';
import { storageError, writeFileAtomic } from '../core/files.js';
import { hasCheckpoints } from '../train/checkpoint.js';

export interface RunDirectoryOptions {
  /** Null: a new one under runs/. */
  readonly runDir: string | null;
  readonly configName: string;
  /** The run goes on from a checkpoint in the folder. */
  readonly isResumed: boolean;
}

export class RunDirectory {
  readonly path: string;
  readonly checkpoints: string;
  #metrics: number | undefined;

  /**
   * Makes the folder, or finds the one to go on in. What is in it stays as it is until `begin`.
   * @throws DTRAIN_STORAGE, DTRAIN_RUN_EXISTS (exit 7).
   */
  constructor({ runDir, configName, isResumed }: RunDirectoryOptions) {
    this.path = runDir ?? freshName(configName);
    if (!isResumed && hasCheckpoints(this.path)) throw runExists(this.path);
    this.checkpoints = path.join(this.path, 'checkpoints');
    try {
      fs.mkdirSync(this.checkpoints, { recursive: true });
    } catch (cause) {
      throw storageError(this.path, cause);
    }
  }

  /** Writes config.yaml and opens metrics.jsonl: anew, or after the events until step `resumedStep`. @throws DTRAIN_STORAGE (exit 7). */
  begin(config: RunConfig, resumedStep: number | null): void {
    const metrics = path.join(this.path, 'metrics.jsonl');
    writeFileAtomic(path.join(this.path, 'config.yaml'), printConfig(config));
    writeFileAtomic(metrics, resumedStep === null ? '' : eventsUntil(metrics, resumedStep));
    try {
      this.#metrics = fs.openSync(metrics, 'a');
    } catch (cause) {
      throw storageError(metrics, cause);
    }
  }

  /** Appends an event to metrics.jsonl. */
  record(event: TrainEvent): void {
    try {
      fs.writeSync(this.#metrics!, `${JSON.stringify(event)}\n`);
    } catch (cause) {
      throw storageError(path.join(this.path, 'metrics.jsonl'), cause);
    }
  }

  [Symbol.dispose](): void {
    if (this.#metrics !== undefined) fs.closeSync(this.#metrics);
  }
}

/** The lines of metrics.jsonl up to the checkpoint at `step`: what came after it happens again. */
function eventsUntil(file: string, step: number): string {
  if (!fs.existsSync(file)) return '';
  const lines = fs
    .readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => line !== '');
  const kept = lines.filter((line) => isKept(parsed(line), step));
  return kept.map((line) => `${line}\n`).join('');
}

function isKept(event: TrainEvent | undefined, step: number): boolean {
  if (event === undefined || event.event === 'end' || event.event === 'error') return false;
  return event.event === 'run' || event.step <= step;
}

/** A line that a crash cut short is none. */
function parsed(line: string): TrainEvent | undefined {
  try {
    return JSON.parse(line) as TrainEvent;
  } catch {
    return undefined;
  }
}

/** `runs/resnet20-20261124-081530`, with a number where that is taken. */
function freshName(configName: string): string {
  const time = new Date().toISOString().slice(0, 19).replace(/[-:]/g, '').replace('T', '-');
  const base = path.join('runs', `${configName}-${time}`);
  let name = base;
  for (let i = 2; fs.existsSync(name); i++) name = `${base}-${i}`;
  return name;
}

function runExists(runDir: string): DtrainError {
  const text = `${runDir}: expected a new or empty folder, got one that holds checkpoints of an earlier run. Choose another with --run-dir, or remove it.`;
  return new DtrainError('DTRAIN_RUN_EXISTS', ExitCode.storage, text);
}
