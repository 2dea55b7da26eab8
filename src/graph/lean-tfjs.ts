/**
 * tfjs without the backends that it brings along for browsers, `cpu` and `webgl`: a third of its loading time, and nothing here computes on them.
 *
 * Idea: their places among the loaded modules are taken while tfjs loads, and given back; who asks for one of them afterwards gets it.
 * Only for a process of our own, before anything else there has loaded tfjs.
 */
import { createRequire } from 'node:module';

const require = createRequire(import.meta.url);

export function loadLeanTfjs(): void {
  const tfjs = require.resolve('@tensorflow/tfjs');
  const fromTfjs = createRequire(tfjs);
  const backends = ['@tensorflow/tfjs-backend-cpu', '@tensorflow/tfjs-backend-webgl'].map((name) =>
    fromTfjs.resolve(name),
  );
  const { cache } = require;
  for (const file of backends) cache[file] ??= { id: file, filename: file, loaded: true, exports: {} } as NodeJS.Module;
  try {
    require(tfjs);
  } finally {
    for (const file of backends) if (Object.keys(cache[file]!.exports as object).length === 0) delete cache[file];
  }
}
