/**
 * Saves that are killed by SIGKILL at chosen points, each in a process of its own, and what the next start finds; shared by the tests of
 * test/faults and test/long.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { openCheckpoint } from '../../src/train/checkpoint.js';
import { newestCheckpoint } from '../../src/train/find-checkpoint.js';
import { saveCheckpoint, tidyCheckpoints } from '../../src/train/save-checkpoint.js';
import { saveOptions } from './checkpoints.js';
import { KILLED_MODEL, type KillPoint, saveAndRemove } from './killed-save.js';
import { temporaryFolder } from './train-run.js';

const CHILD = fileURLToPath(new URL('./killed-save.js', import.meta.url));
const TENSOR_FILES = ['weights.safetensors', 'optimizer.safetensors'] as const;

/** Bits of a step: its tensors' files and its state. */
type Bits = readonly Buffer[];

export interface KillResult {
  readonly points: number;
  readonly old: number;
  readonly new: number;
}

/**
 * Before every call of a save, and in each write after 0, 1 and all but one byte, around the edges of a safetensors header and every
 * `stride` bytes, each ± `around`.
 */
export function killPoints(stride: number, around: readonly number[]): KillPoint[] {
  const points: KillPoint[] = [];
  const checkpoints = temporaryFolder();
  saveCheckpoint({ ...saveOptions(checkpoints, KILLED_MODEL, 1), isBest: true });
  let call = 0;
  saveAndRemove(checkpoints, 2, (name, words) => {
    const places = name === 'write' ? bytePlaces(words[1] as Uint8Array, stride, around) : [0];
    points.push(...places.map((bytes) => ({ call, bytes })));
    call++;
  });
  return points;
}

function bytePlaces(bytes: Uint8Array, stride: number, around: readonly number[]): number[] {
  const headerBytes =
    bytes.length > stride ? Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true)) : 0;
  const edges = [8, 8 + headerBytes, bytes.length];
  const strides = Array.from({ length: Math.floor(bytes.length / stride) }, (_, i) => (i + 1) * stride);
  const places = [
    0,
    ...edges.flatMap((at) => [at - 1, at, at + 1]),
    ...strides.flatMap((at) => around.map((by) => at + by)),
  ];
  return [...new Set(places)].filter((at) => at >= 0 && at <= bytes.length).sort((a, b) => a - b);
}

/** Kills at each point; throws at the first that leaves anything but the old or the new state, bit for bit. */
export async function killAtAll(points: readonly KillPoint[]): Promise<KillResult> {
  const expected = [1, 2].map(bitsOfStep);
  const queue = points.entries();
  const count = { old: 0, new: 0 };
  const work = async () => {
    const base = temporaryFolder();
    saveCheckpoint({ ...saveOptions(path.join(base), KILLED_MODEL, 1), isBest: true });
    for (const [i, point] of queue) {
      const checkpoints = path.join(base, '..', `${path.basename(base)}-${i}`);
      cloneFolder(base, checkpoints);
      try {
        assert.equal(await signalOfSave(checkpoints, point), 'SIGKILL');
        const step = checkAfterKill(checkpoints, expected, JSON.stringify(point));
        count[step === 1 ? 'old' : 'new']++;
      } finally {
        fs.rmSync(checkpoints, { recursive: true });
      }
    }
  };
  await Promise.all(Array.from({ length: os.availableParallelism() }, work));
  return { points: points.length, ...count };
}

export function bitsOfStep(step: number): Bits {
  const checkpoints = temporaryFolder();
  const folder = saveCheckpoint(saveOptions(checkpoints, KILLED_MODEL, step));
  return [...TENSOR_FILES, 'state.msgpack'].map((file) => fs.readFileSync(path.join(folder, file)));
}

/** The same tree, its files as hard links: nothing writes into a file of a checkpoint. */
function cloneFolder(from: string, to: string): void {
  fs.mkdirSync(to);
  for (const entry of fs.readdirSync(from, { withFileTypes: true })) {
    const [source, target] = [path.join(from, entry.name), path.join(to, entry.name)];
    if (entry.isDirectory()) cloneFolder(source, target);
    else if (entry.isSymbolicLink()) fs.symlinkSync(fs.readlinkSync(source), target);
    else fs.linkSync(source, target);
  }
}

/** Saves step 2 in a process of its own, after the words of `before` (a tracer). The signal that it died by. */
export function signalOfSave(
  checkpoints: string,
  point: KillPoint | null,
  before: readonly string[] = [],
): Promise<string | number | null> {
  const [program, ...words] = [...before, process.execPath, CHILD, checkpoints, '2', JSON.stringify(point)];
  const child = spawn(program!, words, { stdio: ['ignore', 'ignore', 'inherit'] });
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code, signal) => resolve(signal ?? code));
  });
}

/** What the next start does and finds; gives the step. */
export function checkAfterKill(checkpoints: string, expected: readonly Bits[], where: string): number {
  tidyCheckpoints(checkpoints);
  const newest = newestCheckpoint(checkpoints, (line) => assert.fail(`${where}: ${line}`));
  assert(newest !== undefined, `${where}: no checkpoint is left`);
  const { step } = newest.state;
  for (const name of fs.readdirSync(checkpoints)) {
    assert(!name.startsWith('.'), `${where}: ${name} stays`);
    if (name.startsWith('step-')) openCheckpoint(path.join(checkpoints, name));
  }
  const found = [...TENSOR_FILES, 'state.msgpack'].map((file) => fs.readFileSync(path.join(newest.folder, file)));
  assert(
    expected[step - 1]!.every((bytes, i) => bytes.equals(found[i]!)),
    `${where}: step ${step} has other bits`,
  );
  for (const link of ['last', 'best']) {
    assert(fs.existsSync(path.join(checkpoints, link)), `${where}: ${link} leads nowhere`);
  }
  return step;
}
