/**
 * The environment of a process that decodes images: libuv's pool, on which they are decoded, has four threads unless the process is
 * started with another number.
 */
import os from 'node:os';

const NODE_DEFAULT = 4;
const MAX_THREADS = 32;

/** This process's environment with one thread a core in that pool, where the user has not said another number. */
export function decodingEnvironment(): NodeJS.ProcessEnv {
  const threads = Math.max(NODE_DEFAULT, Math.min(MAX_THREADS, os.availableParallelism()));
  return { UV_THREADPOOL_SIZE: `${threads}`, ...process.env };
}
