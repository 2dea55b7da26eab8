/** Node's cache of compiled modules, from version 22 on; before that there is none. */
import module from 'node:module';
import path from 'node:path';
import { cacheFolder } from './home.js';

/** Modules that this process loads from now on are compiled once for all processes. Where the folder cannot be written nothing changes. */
export function useCompileCache(): void {
  const { enableCompileCache } = module as { enableCompileCache?: (folder: string) => unknown };
  enableCompileCache?.(path.join(cacheFolder(), 'compiled'));
}
