/**
 * Where the value of a key came from, for messages about a configuration that was loaded long before.
 *
 * Idea: a note beside the configuration, not in it, so that RunConfig stays plain data. It does not cross to another thread; there a key is
 * named by its path alone.
 */
import type { RunConfig } from './schema.js';

const origins = new WeakMap<RunConfig, ReadonlyMap<string, string>>();

/** Notes, for each key that was set, the words that name its place. */
export function noteOrigins(config: RunConfig, places: ReadonlyMap<string, string>): void {
  origins.set(config, places);
}

/** `configs/resnet50.yaml:14:16 train.globalBatch`, `override train.globalBatch=250`, or the path alone for a default. */
export function originOf(config: RunConfig, path: string): string {
  return origins.get(config)?.get(path) ?? path;
}
