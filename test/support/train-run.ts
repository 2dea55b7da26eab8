/** Short training runs for tests: the product's own `train`, on generated images, in a temporary folder. */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { loadConfig } from '../../src/config/load.js';
import type { TrainEvent } from '../../src/core/events.js';
import { encodePng } from '../../src/core/png.js';
import { type TrainOptions, train } from '../../src/run/train.js';
import { SeededRandom } from './seeded-random.js';

/** A small and quick run: ResNet-20, 32 images a step, 6 steps. Words of the test come after these and win. */
export const SMALL_RUN: readonly string[] = [
  'data.name=synthetic',
  'data.augment={crop: 4, flip: true, cutout: 8}',
  'train={epochs: 16, maxSteps: 6, globalBatch: 32, precision: float32, seed: 1}',
  'optimizer={momentum: 0.9, weightDecay: 0.0005}',
  'schedule={name: constant, learningRate: 0.05}',
];

export interface FinishedRun {
  readonly events: readonly TrainEvent[];
  readonly runDir: string;
  /** Lines for people. */
  readonly said: readonly string[];
}

const temporaryFolders: string[] = [];

/** A new folder that is removed when the process ends. */
export function temporaryFolder(): string {
  if (temporaryFolders.length === 0) process.once('exit', removeTemporaryFolders);
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'dtrain-test-'));
  temporaryFolders.push(folder);
  return folder;
}

function removeTemporaryFolders(): void {
  for (const folder of temporaryFolders) fs.rmSync(folder, { recursive: true, force: true });
}

/** 120 images to train on and 40 to test on, 8×8 noise in two classes: `data.name=image-folder` makes an epoch of ResNet-20 take a second. */
export function tinyImages(): string {
  const folder = path.join(temporaryFolder(), 'images');
  const random = new SeededRandom(7);
  for (const [split, count] of [
    ['train', 60],
    ['test', 20],
  ] as const) {
    for (const kind of ['dark', 'light']) {
      fs.mkdirSync(path.join(folder, split, kind), { recursive: true });
      for (let i = 0; i < count; i++) {
        const pixels = Uint8Array.from({ length: 8 * 8 * 3 }, () => random.below(128) + (kind === 'light' ? 127 : 0));
        fs.writeFileSync(path.join(folder, split, kind, `${i}.png`), encodePng(pixels, 8, 8));
      }
    }
  }
  return folder;
}

/** Trains to the end; what it throws is thrown. */
export async function runTraining(
  workers: number,
  overrides: readonly string[] = [],
  options: Partial<TrainOptions> & { signal?: AbortSignal; onEvent?: (event: TrainEvent) => void } = {},
): Promise<FinishedRun> {
  const { signal, onEvent, ...rest } = options;
  const runDir = options.runDir ?? path.join(temporaryFolder(), 'run');
  const said: string[] = [];
  const events: TrainEvent[] = [];
  const config = loadConfig({ overrides: [...SMALL_RUN, ...overrides] });
  const devices = { kind: 'cpu', count: workers } as const;
  const say = (line: string) => said.push(line);
  for await (const event of train({ config, devices, configName: 'test', say, ...rest, runDir }, signal)) {
    events.push(event);
    onEvent?.(event);
  }
  return { events, runDir, said };
}

/** A file of the run's last checkpoint. */
export function lastCheckpointFile(runDir: string, name: string): Buffer {
  return fs.readFileSync(path.join(runDir, 'checkpoints', 'last', name));
}
