/** The cache folder: the TensorFlow library, downloaded and decoded data. `${DTRAIN_HOME:-${XDG_CACHE_HOME:-~/.cache}/dtrain}`. */
import os from 'node:os';
import path from 'node:path';

export function cacheFolder(env: NodeJS.ProcessEnv = process.env): string {
  if (env['DTRAIN_HOME']) return path.resolve(env['DTRAIN_HOME']);
  return path.join(env['XDG_CACHE_HOME'] || path.join(os.homedir(), '.cache'), 'dtrain');
}
