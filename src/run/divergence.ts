/** What a run leaves behind when it diverges: `diverged.json`, with the images of the step and the largest gradient of each parameter. */
import path from 'node:path';
import { lastResult } from '../collective/gradient-arena.js';
import { writeFileAtomic } from '../core/files.js';
import { sizeOf } from '../core/shape.js';
import { sampleIds } from '../data/sampler.js';
import type { Assembly } from './assemble.js';

/** Reads the last mean row, which all ranks decided on. Returns the file's path. @throws DTRAIN_STORAGE (exit 7). */
export function writeDivergence(folder: string, { arena, config, data, model }: Assembly, step: number): string {
  const { globalBatch, seed } = config.train;
  const order = { seed, count: data.train.count, shuffle: config.data.shuffle };
  const { ids } = sampleIds(order, (step - 1) * globalBatch, globalBatch);
  const row = lastResult(arena);
  let at = 0;
  const gradients = model.parameters.map(({ name, shape }) => {
    const values = row.subarray(at, (at += sizeOf(shape)));
    return { name, ...extentOf(values) };
  });
  const file = path.join(folder, 'diverged.json');
  writeFileAtomic(file, `${JSON.stringify({ step, images: [...ids], gradients }, null, 1)}\n`);
  return file;
}

/** The largest finite magnitude, and how many values are not finite. */
function extentOf(values: Float32Array): { largest: number; notFinite: number } {
  let [largest, notFinite] = [0, 0];
  for (const value of values) {
    if (Number.isFinite(value)) largest = Math.max(largest, Math.abs(value));
    else notFinite++;
  }
  return { largest, notFinite };
}
