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

export class RunDirectory {
  readonly path: string;
  readonly checkpoints: string;
  readonly #metrics: number;

  /**
   * Makes the folder (`given`, or a new one under runs/) and writes config.yaml.
   * @throws DTRAIN_STORAGE, DTRAIN_RUN_EXISTS (exit 7).
   */
  constructor(given: string | null, configName: string, config: RunConfig) {
    this.path = given ?? freshName(configName);
    if (hasCheckpoints(this.path)) throw runExists(this.path);
    this.checkpoints = path.join(this.path, 'checkpoints');
    try {
      fs.mkdirSync(this.checkpoints, { recursive: true });
      this.#metrics = fs.openSync(path.join(this.path, 'metrics.jsonl'), 'w');
    } catch (cause) {
      throw storageError(this.path, cause);
    }
    writeFileAtomic(path.join(this.path, 'config.yaml'), printConfig(config));
  }

  /** Appends an event to metrics.jsonl. */
  record(event: TrainEvent): void {
    try {
      fs.writeSync(this.#metrics, `${JSON.stringify(event)}\n`);
    } catch (cause) {
      throw storageError(path.join(this.path, 'metrics.jsonl'), cause);
    }
  }

  [Symbol.dispose](): void {
    fs.closeSync(this.#metrics);
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
