/**
 * A configuration as YAML: complete, in the order of the schema, the same text for the same configuration.
 * Must stay true: a configuration's own order is the schema's, whose parser made it, so the schema need not be loaded; loadConfig reads it back to an equal configuration (a property test), so a run's config.yaml starts the run again.
 */
import type { RunConfig } from './schema.js';

export function printConfig(config: RunConfig): string {
  return `${sectionLines(config, '').join('\n')}\n`;
}

function sectionLines(section: object, indent: string): string[] {
  return Object.entries(section).flatMap(([name, value]: [string, unknown]) =>
    isSection(value)
      ? [`${indent}${name}:`, ...sectionLines(value, `${indent}  `)]
      : [`${indent}${name}: ${printValue(value)}`],
  );
}

/** Each key by its dotted path, in the same order. */
export function configEntries(config: RunConfig): readonly (readonly [key: string, value: unknown])[] {
  const entriesOf = (section: object, prefix: string): [string, unknown][] =>
    Object.entries(section).flatMap(([name, value]: [string, unknown]) =>
      isSection(value) ? entriesOf(value, `${prefix}${name}.`) : [[`${prefix}${name}`, value]],
    );
  return entriesOf(config, '');
}

function isSection(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
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
