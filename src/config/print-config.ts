/**
 * A configuration as YAML: complete, in the order of the schema, the same text for the same configuration.
 * Must stay true: loadConfig reads it back to an equal configuration (a property test), so a run's config.yaml starts the run again.
 */
import { CONFIG_KEYS, type RunConfig } from './schema.js';

export function printConfig(config: RunConfig): string {
  const lines: string[] = [];
  let open: readonly string[] = [];
  for (const { path } of CONFIG_KEYS) {
    const names = path.split('.');
    const sections = names.slice(0, -1);
    sections.forEach((name, depth) => {
      if (open[depth] !== name) lines.push(`${'  '.repeat(depth)}${name}:`);
    });
    open = sections;
    lines.push(`${'  '.repeat(sections.length)}${names.at(-1)}: ${printValue(valueAt(config, names))}`);
  }
  return `${lines.join('\n')}\n`;
}

/** A value in YAML on one line. */
export function printValue(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(printValue).join(', ')}]`;
  return typeof value === 'string' ? printString(value) : String(value);
}

/** Words stand bare; everything else, and the words that YAML reads as something else, in quotes, with the escapes that JSON and YAML share. */
function printString(text: string): string {
  const isWord = /^[a-z][a-z0-9-]*$/i.test(text) && !/^(null|true|false|yes|no|on|off|y|n)$/i.test(text);
  return isWord ? text : JSON.stringify(text);
}

function valueAt(config: RunConfig, names: readonly string[]): unknown {
  return names.reduce<unknown>((value, name) => (value as Readonly<Record<string, unknown>>)[name], config);
}
