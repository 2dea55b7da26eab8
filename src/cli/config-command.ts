/** `dtrain config`: the resolved configuration, its JSON Schema, its documentation. */
import { configurationPage } from '../config/docs.js';
import { loadConfig } from '../config/load.js';
import { printConfig } from '../config/print-config.js';
import { jsonSchema } from '../config/schema.js';
import type { Context } from './context.js';
import type { Flags } from './flags.js';
import { wordMeant } from './word-meant.js';

export async function configPrintCommand(flags: Flags, { console }: Context): Promise<number> {
  const overrides = flags.overrides(wordMeant);
  const file = flags.text('config');
  console.out(printConfig(loadConfig(file === undefined ? { overrides } : { file, overrides })).trimEnd());
  return 0;
}

export async function configSchemaCommand({ console }: Context): Promise<number> {
  console.out(JSON.stringify(jsonSchema(), null, 2));
  return 0;
}

export async function configDocsCommand({ console }: Context): Promise<number> {
  console.out(configurationPage().trimEnd());
  return 0;
}
