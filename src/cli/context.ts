/** What a command may touch of the world around it; a test hands it a small one. */
import type { Console } from './console.js';
import type { RunLayer } from './run-layer.js';

export interface Context {
  readonly console: Console;
  readonly run: RunLayer;
  readonly env: NodeJS.ProcessEnv;
}
