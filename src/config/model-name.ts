/** What a configuration's model is called: by its module's file where it has one, else by its name. */
import path from 'node:path';
import type { RunConfig } from './schema.js';

export function modelName({ name, module }: RunConfig['model']): string {
  return module === null ? name : path.basename(module).replace(/\.[cm]?js$/, '');
}
