/**
 * From a file and KEY=VALUE overrides to one checked, frozen RunConfig.
 *
 * Idea: both sources become settings, each a key, a value and the words that name its place; the last setting of a key wins, the schema checks
 * what is left, and every mistake is named by the place where it was made. All mistakes are found, and thrown once.
 * Must stay true: precedence is defaults < file < overrides; a key that is not in the schema is a mistake wherever it stands; what a user wrote
 * enters a message only in printable form; a message fits one screen.
 */
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { DtrainError, ExitCode, internalError } from '../core/errors.js';
import { nearestWord } from '../core/suggest.js';
import { noteOrigins } from './origin.js';
import { CONFIG_KEYS, CONFIG_SECTIONS, type KeyFacts, type RunConfig, runConfigSchema } from './schema.js';
import { MAX_BYTES, type MappingNode, parseYaml, type ScalarNode, type TextPlace, type YamlNode } from './yaml-tree.js';

export interface ConfigSource {
  /** A path, or the name of a configuration that ships with dtrain, with or without `.yaml`. Left out: defaults alone. */
  readonly file?: string;
  /** `KEY=VALUE`, the value in YAML. The last one for a key wins. */
  readonly overrides?: readonly string[];
}

/** The folder of the configurations that ship with dtrain. */
const SHIPPED_FOLDER = fileURLToPath(new URL('../../../configs/', import.meta.url));

const keysByPath = new Map(CONFIG_KEYS.map((facts) => [facts.path, facts]));
const sectionPaths = new Set(CONFIG_SECTIONS.map((section) => section.path));

/** Throws DTRAIN_CONFIG_NOT_FOUND, DTRAIN_CONFIG_UNREADABLE or DTRAIN_CONFIG_INVALID, all with exit code 3. */
export function loadConfig({ file, overrides = [] }: ConfigSource): RunConfig {
  const settings = new Settings();
  if (file !== undefined) readFileInto(settings, findConfigFile(file));
  for (const override of overrides) readOverrideInto(settings, override);
  const checked = runConfigSchema.safeParse(settings.toObject());
  for (const issue of checked.error?.issues ?? []) settings.refuse(issue.path);
  const mistakes = settings.mistakes();
  if (mistakes.length > 0) throw invalid(mistakes);
  if (!checked.success) throw internalError(`the schema refused a key that was not set: ${checked.error.message}`);
  const config: RunConfig = deepFreeze(checked.data);
  noteOrigins(config, settings.origins());
  return config;
}

/** The names of the configurations that ship with dtrain, without `.yaml`, sorted. */
export function shippedConfigs(): string[] {
  const names = fs.readdirSync(SHIPPED_FOLDER).filter((name) => name.endsWith('.yaml'));
  return names.map((name) => configName(name)).sort();
}

/** The last part of a configuration's path or name, without its ending: what its runs are named by. */
export function configName(file: string): string {
  return path.basename(file).replace(/\.ya?ml$/i, '');
}

/** A path that exists wins over a shipped name, unless it is a folder. */
function findConfigFile(file: string): string {
  const isFolder = statOf(file)?.isDirectory();
  if (isFolder === false) return file;
  const names = shippedConfigs();
  const name = file.replace(/\.yaml$/, '');
  if (names.includes(name)) return nearPath(path.join(SHIPPED_FOLDER, `${name}.yaml`));
  if (isFolder) throw unreadable(file, 'expected a file, got a folder');
  const hint = didYouMean(nearestWord(configName(file), names));
  throw new DtrainError(
    'DTRAIN_CONFIG_NOT_FOUND',
    ExitCode.configuration,
    `${printable(file)}: no such file, and no configuration of that name ships with dtrain${hint}. These do: ${names.join(', ')}.`,
  );
}

/** Relative where the file lies in the working folder, else absolute. */
function nearPath(file: string): string {
  const relative = path.relative(process.cwd(), file);
  return relative.startsWith('..') ? file : relative;
}

function readFileInto(settings: Settings, file: string): void {
  const name = printable(file);
  const where: PlaceNamer = ({ line, column }, key) =>
    `${name}:${line}:${column}${key === undefined ? '' : ` ${key}:`}`;
  const { node, mistakes } = parseYaml(readConfigFile(file), { comments: true });
  for (const { place, text } of mistakes) settings.addMistake(place, `${where(place)} ${printable(text)}.`);
  if (node?.kind === 'mapping') settings.addMapping('', node, where);
  else if (node !== undefined)
    settings.addMistake(node.place, `${where(node.place)} expected keys such as "model:", got ${shown(node)}.`);
  else if (mistakes.length === 0)
    settings.addMistake(START, `${name}: expected keys, got an empty file. A file of {} takes every default.`);
}

function readConfigFile(file: string): Uint8Array {
  const stat = statOf(file);
  if (!stat?.isFile()) throw unreadable(file, 'expected a regular file'); // a pipe or a device may have no end
  if (stat.size > MAX_BYTES) throw unreadable(file, `expected at most ${MAX_BYTES} bytes, got ${stat.size}`);
  try {
    return fs.readFileSync(file);
  } catch (cause) {
    throw unreadable(file, failureText(cause));
  }
}

/** Undefined where there is no such file. */
function statOf(file: string): fs.Stats | undefined {
  try {
    return fs.statSync(file, { throwIfNoEntry: false });
  } catch (cause) {
    throw unreadable(file, failureText(cause));
  }
}

function failureText(cause: unknown): string {
  return `cannot be read (${(cause as NodeJS.ErrnoException).code ?? 'unknown error'})`;
}

function unreadable(file: string, problem: string): DtrainError {
  const message = `${printable(file)}: ${problem}. --config takes a YAML file, or the name of a shipped configuration.`;
  return new DtrainError('DTRAIN_CONFIG_UNREADABLE', ExitCode.configuration, message);
}

function readOverrideInto(settings: Settings, override: string): void {
  settings.nextSource();
  const equals = override.indexOf('=');
  const key = override.slice(0, equals);
  const text = override.slice(equals + 1);
  const name = `override ${printable(override)}:`;
  const where: PlaceNamer = (_place, inner) => (inner === undefined || inner === key ? name : `${name} ${inner}:`);
  if (equals < 1) settings.addMistake(START, `${name} expected KEY=VALUE.`);
  else if (!keysByPath.has(key) && !sectionPaths.has(key)) settings.addMistake(START, `${name} ${unknownKey(key)}`);
  else if (keysByPath.get(key)?.isText && !isYamlText(text)) settings.add(key, scalar(text), where);
  else {
    const { node, mistakes } = parseYaml(Buffer.from(text), { comments: false });
    for (const mistake of mistakes) settings.addMistake(mistake.place, `${name} ${printable(mistake.text)}.`);
    if (node !== undefined) settings.add(key, node, where);
    else if (mistakes.length === 0) settings.add(key, scalar(null), where);
  }
}

/** Whether the value of a key that takes any text is YAML all the same: in quotes, or null. Otherwise it is taken as it stands. */
function isYamlText(text: string): boolean {
  return /^(".*"|'.*'|~|null|)$/s.test(text);
}

const START: TextPlace = { line: 1, column: 1 };

function scalar(value: string | null): ScalarNode {
  return { kind: 'scalar', place: START, value, source: value ?? '' };
}

/** Names a place of one source, ready to stand before a mistake; `key` is the dotted path of the key whose value stands there. */
type PlaceNamer = (place: TextPlace, key?: string) => string;

interface Setting {
  readonly facts: KeyFacts;
  readonly node: YamlNode;
  readonly where: string;
  /** Counts the file and the overrides in the order in which they are read. */
  readonly source: number;
}

/** The last setting of each key, and the mistakes so far. */
class Settings {
  readonly #byPath = new Map<string, Setting>();
  readonly #refused = new Set<string>();
  readonly #found: { readonly source: number; readonly place: TextPlace; readonly text: string }[] = [];
  #source = 0;

  nextSource(): void {
    this.#source++;
  }

  addMistake(place: TextPlace, text: string, source = this.#source): void {
    this.#found.push({ source, place, text });
  }

  addMapping(section: string, mapping: MappingNode, where: PlaceNamer): void {
    for (const { key, keyPlace, value } of mapping.entries) {
      const full = section === '' ? key : `${section}.${key}`;
      const isKnown = !key.includes('.') && (keysByPath.has(full) || sectionPaths.has(full));
      if (isKnown) this.add(full, value, where);
      else this.addMistake(keyPlace, `${where(keyPlace)} ${unknownKey(full)}`);
    }
  }

  /** `key` is in the schema: a key, or a section whose keys are set one by one. */
  add(key: string, node: YamlNode, where: PlaceNamer): void {
    const facts = keysByPath.get(key);
    const place = where(node.place, key);
    if (facts !== undefined) this.#byPath.set(key, { facts, node, where: place, source: this.#source });
    else if (node.kind === 'mapping') this.addMapping(key, node, where);
    else this.addMistake(node.place, `${place} expected keys (${namesIn(key).join(', ')}), got ${shown(node)}.`);
  }

  /** The schema refused what stands at `issuePath`: the path of a key, or of a part of its value. One mistake a key is enough. */
  refuse(issuePath: readonly PropertyKey[]): void {
    for (let length = issuePath.length; length > 0; length--) {
      const key = issuePath.slice(0, length).join('.');
      const setting = this.#byPath.get(key);
      if (setting === undefined || this.#refused.has(key)) continue;
      this.#refused.add(key);
      this.addMistake(setting.node.place, `${setting.where} ${refusal(setting)}`, setting.source);
    }
  }

  /** Nested as the schema has it. */
  toObject(): Record<string, unknown> {
    const root: Record<string, unknown> = {};
    for (const [key, { node }] of this.#byPath) {
      const names = key.split('.');
      let section = root;
      for (const name of names.slice(0, -1)) section = (section[name] ??= {}) as Record<string, unknown>;
      section[names.at(-1)!] = plainValue(node);
    }
    return root;
  }

  /** In the order of the text they are in. */
  mistakes(): string[] {
    const inOrder = this.#found.toSorted(
      (a, b) => a.source - b.source || a.place.line - b.place.line || a.place.column - b.place.column,
    );
    return inOrder.map(({ text }) => text);
  }

  origins(): ReadonlyMap<string, string> {
    return new Map([...this.#byPath].map(([key, { where }]) => [key, where.replace(/:$/, '')]));
  }
}

/** Numbers that YAML reads otherwise than people do become text that no key of numbers takes: 010, 0o10, 0x10. */
function plainValue(node: YamlNode): unknown {
  if (node.kind === 'list') return node.items.map(plainValue);
  if (node.kind === 'mapping')
    return Object.fromEntries(node.entries.map(({ key, value }) => [key, plainValue(value)]));
  return isOddNumber(node) ? node.source : node.value;
}

function isOddNumber(node: YamlNode): boolean {
  return node.kind === 'scalar' && typeof node.value === 'number' && /^[-+]?0[0-9ox]/.test(node.source);
}

function refusal({ facts, node }: Setting): string {
  const value = plainValue(node);
  const cure = cureOf(facts, node);
  const isTypo = cure === undefined && typeof value === 'string' && value.length > 2; // shorter words are all alike
  const hint = isTypo ? didYouMean(nearestWord(value, facts.choices)) : '';
  return `expected ${facts.expected}, got ${shown(node)}${hint}.${cure === undefined ? '' : ` ${cure}`}`;
}

function cureOf(facts: KeyFacts, node: YamlNode): string | undefined {
  if (node.kind !== 'scalar') return undefined;
  if (facts.isText && typeof node.value !== 'string') return 'Put it in quotes.';
  if (isOddNumber(node)) return 'Write numbers in decimal, without leading zeros.';
  const boolean = typeof facts.default === 'boolean' ? booleanMeant(node.value) : undefined;
  return boolean === undefined ? undefined : `Write ${boolean}.`;
}

/** Older YAML read these words as true and false. */
function booleanMeant(value: unknown): boolean | undefined {
  if (typeof value !== 'string') return undefined;
  if (/^(yes|on|y|true)$/i.test(value)) return true;
  return /^(no|off|n|false)$/i.test(value) ? false : undefined;
}

function unknownKey(key: string): string {
  const name = printable(key, 60);
  const section = key.slice(0, Math.max(0, key.lastIndexOf('.')));
  if (key.split('.').at(-1) === '<<') return 'merge keys (<<) are not allowed: write the keys out.';
  if (keysByPath.has(key)) return `unknown key "${name}": write ${key.split('.').at(-1)} under ${section}.`;
  const hint = didYouMean(nearestKey(key));
  if (hint !== '') return `unknown key ${name}${hint}`;
  if (!sectionPaths.has(section)) return `unknown key ${name}. Sections: ${namesIn('').join(', ')}.`;
  return `unknown key ${name}. Keys of ${section}: ${namesIn(section).join(', ')}.`;
}

/** A neighbour of a similar name, else a key of this name elsewhere, else, where the section is wrong too, a similar whole path. */
function nearestKey(key: string): string | undefined {
  const dot = key.lastIndexOf('.');
  const [section, name] = [key.slice(0, Math.max(0, dot)), key.slice(dot + 1)];
  const neighbour = nearestWord(name, namesIn(section));
  if (neighbour !== undefined) return section === '' ? neighbour : `${section}.${neighbour}`;
  const elsewhere = CONFIG_KEYS.find(
    ({ path: known }) => known.slice(known.lastIndexOf('.') + 1).toLowerCase() === name.toLowerCase(),
  );
  if (elsewhere !== undefined) return elsewhere.path;
  return section === '' || sectionPaths.has(section) ? undefined : nearestWord(key, [...keysByPath.keys()]);
}

/** The names of keys and sections right in `section`, which is empty for the whole. */
function namesIn(section: string): string[] {
  const prefix = section === '' ? '' : `${section}.`;
  const inner = [...keysByPath.keys()].filter((key) => key.startsWith(prefix));
  return [...new Set(inner.map((key) => key.slice(prefix.length).split('.')[0]!))];
}

function didYouMean(word: string | undefined): string {
  return word === undefined ? '' : ` (did you mean ${word}?)`;
}

/** A value as the user wrote it, short. */
function shown(node: YamlNode): string {
  if (node.kind === 'mapping') return 'a mapping';
  if (node.kind === 'list') return printable(`[${node.items.map(shown).join(', ')}]`, 60);
  if (typeof node.value === 'string') return `"${printable(node.value, 60)}"`;
  return node.source === '' ? 'nothing' : printable(node.source, 60);
}

/** What a terminal would not show as itself is escaped; what is too long is cut. */
function printable(text: string, maxLength = 240): string {
  const escaped = text.replace(
    /[\p{C}\p{Zl}\p{Zp}]/gu,
    (character) => `\\u{${character.codePointAt(0)!.toString(16)}}`,
  );
  return escaped.length <= maxLength ? escaped : `${escaped.slice(0, maxLength - 1)}…`;
}

const SCREEN_COLUMNS = 80;
/** One screen is 24 lines: what is left after the command itself, the last line of this message and the prompt. */
const MESSAGE_ROWS = 21;

function invalid(mistakes: readonly string[]): DtrainError {
  let rows = 0;
  const fits = mistakes.filter((mistake) => (rows += Math.ceil(mistake.length / SCREEN_COLUMNS)) <= MESSAGE_ROWS);
  const more = mistakes.length - fits.length;
  const lines = more === 0 ? fits : [...fits, `… and ${more} more ${more === 1 ? 'mistake' : 'mistakes'}.`];
  return new DtrainError('DTRAIN_CONFIG_INVALID', ExitCode.configuration, lines.join('\n'));
}

function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null) Object.values(Object.freeze(value)).forEach(deepFreeze);
  return value;
}
