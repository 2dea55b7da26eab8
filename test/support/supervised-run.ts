/**
 * The built command as a process, to be hurt: its supervisor and its engine by process id, what both print, and what is left of them.
 * Every process of a run carries a mark in its environment, so that none can be overlooked.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import fs from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { nowSeconds } from '../../src/core/clock.js';
import { RunLock } from '../../src/run/run-lock.js';
import { openCheckpoint } from '../../src/train/checkpoint.js';

export const MAIN = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));
/** For machines that are busy with other things. */
export const PATIENCE_SECONDS = 600;
const MARK = 'DTRAIN_TEST_MARK';

/** Two workers, small images, a network that steps in some tens of milliseconds. */
export const QUICK_RUN: readonly string[] = [
  '--config',
  'resnet20',
  '--cpus',
  '2',
  'model.name=speednet',
  'data.name=synthetic',
  'train={epochs: 1000, maxSteps: 12, globalBatch: 32, precision: float32, seed: 1}',
  'checkpoint={everyEpochs: 0, everySteps: 2, keep: 3}',
];

/** Behind QUICK_RUN: it goes on until it is stopped. */
export const FOR_EVER = 'train.maxSteps=null';

export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  /** Since the start. */
  readonly seconds: number;
  /** Of the monotonic clock. */
  readonly at: number;
}

export class SupervisedRun {
  readonly child: ChildProcess;
  readonly ended: Promise<Ended>;
  stdout = '';
  stderr = '';
  readonly #mark = randomUUID();

  /** `before` stands before the command: a program that runs it in a world of its own. */
  constructor(words: readonly string[], env: NodeJS.ProcessEnv = {}, before: readonly string[] = []) {
    const line = [...before, process.execPath, MAIN, ...words];
    const begun = nowSeconds();
    this.child = spawn(line[0]!, line.slice(1), {
      env: { ...process.env, [MARK]: this.#mark, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.child.stdout!.on('data', (chunk: Buffer) => (this.stdout += chunk.toString()));
    this.child.stderr!.on('data', (chunk: Buffer) => (this.stderr += chunk.toString()));
    this.ended = once(this.child, 'exit').then(async ([code, signal]) => {
      const at = nowSeconds();
      await Promise.race([once(this.child, 'close'), delay(1000)]);
      return { code: code as number | null, signal: signal as NodeJS.Signals | null, seconds: at - begun, at };
    });
  }

  get pid(): number {
    return this.child.pid!;
  }

  kill(signal: NodeJS.Signals): void {
    this.child.kill(signal);
  }

  /** When `pattern` stands in what was printed, after the first `from` characters of standard error. */
  async says(pattern: RegExp, from = 0): Promise<void> {
    let isOver = false;
    void this.ended.then(() => (isOver = true));
    for (let waited = 0; !pattern.test(`${this.stderr.slice(from)}\n${this.stdout}`); waited += 0.01) {
      assert(!isOver && waited < PATIENCE_SECONDS, `${pattern} was not said:\n${this.stderr}`);
      await delay(10);
    }
  }

  /** The process id of the engine, once there is one that is not `other`. */
  async engine(other?: number): Promise<number> {
    for (let waited = 0; waited < PATIENCE_SECONDS; waited += 0.01) {
      const found = processesWith(this.#mark).find(({ pid, args }) => pid !== other && args.includes('engine-main.js'));
      if (found) return found.pid;
      await delay(10);
    }
    return assert.fail('no engine');
  }

  /** Nothing of the run is left: asserts it, or gives how long that took. */
  async nothingLeft(withinSeconds: number): Promise<number> {
    const begun = nowSeconds();
    for (;;) {
      const left = processesWith(this.#mark);
      if (left.length === 0) return nowSeconds() - begun;
      assert(nowSeconds() - begun < withinSeconds, `left after ${withinSeconds} s: ${JSON.stringify(left)}`);
      await delay(20);
    }
  }
}

/** The folder can be used by another run, and its newest checkpoint holds. Gives its step. */
export async function isUsable(runDir: string): Promise<number> {
  const lock = await RunLock.take(runDir, 0);
  lock[Symbol.dispose]();
  return openCheckpoint(runDir).state.step;
}

/** Whether a process lives, no zombie. */
export function lives(pid: number): boolean {
  try {
    return !/^\d+ \(.*\) Z/s.test(fs.readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return false;
  }
}

/** When the process is gone. */
export async function gone(pid: number): Promise<void> {
  while (lives(pid)) await delay(5);
}

function processesWith(mark: string): { readonly pid: number; readonly args: string }[] {
  return fs.readdirSync('/proc').flatMap((name) => {
    try {
      const isOurs = /^\d+$/.test(name) && fs.readFileSync(`/proc/${name}/environ`, 'utf8').includes(mark);
      if (!isOurs || !lives(Number(name))) return [];
      return [{ pid: Number(name), args: fs.readFileSync(`/proc/${name}/cmdline`, 'utf8').replaceAll('\0', ' ') }];
    } catch {
      return []; // gone meanwhile
    }
  });
}
