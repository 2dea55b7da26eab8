/**
 * YAML text as a small tree in which every value knows its line and column. The one file that touches the YAML library.
 *
 * Idea: a configuration needs mappings, lists and scalars, and nothing else that YAML can do. So the text is measured and read through token
 * by token first, by a loop that cannot recurse, and only then parsed; anchors, aliases, tags, directives, merge keys and a second document
 * are mistakes, not features. A bad file gives a list of mistakes, in order; it never makes the parser work without bound.
 * Must stay true: nothing reaches the parser that is longer than MAX_BYTES or nested deeper than MAX_DEPTH (the library recurses, and an
 * overflow there ends the process); the tree is plain data without any object of the library.
 */
import { CST, isMap, isScalar, isSeq, Lexer, LineCounter, type Node, type Pair, parseDocument } from 'yaml';

export const MAX_BYTES = 256 * 1024;
export const MAX_DEPTH = 32;
/** Words, signs, spaces and line ends; a complete configuration has some 300. */
const MAX_TOKENS = 20_000;

/** Both count from 1; columns count UTF-16 units. */
export interface TextPlace {
  readonly line: number;
  readonly column: number;
}

export interface ScalarNode {
  readonly kind: 'scalar';
  readonly place: TextPlace;
  readonly value: string | number | boolean | null;
  /** As written, without quotes. */
  readonly source: string;
}
export interface ListNode {
  readonly kind: 'list';
  readonly place: TextPlace;
  readonly items: readonly YamlNode[];
}
export interface MappingNode {
  readonly kind: 'mapping';
  readonly place: TextPlace;
  /** In order, each key once. */
  readonly entries: readonly MappingEntry[];
}
export interface MappingEntry {
  readonly key: string;
  readonly keyPlace: TextPlace;
  readonly value: YamlNode;
}
export type YamlNode = ScalarNode | ListNode | MappingNode;

export interface Mistake {
  readonly place: TextPlace;
  readonly text: string;
}

export interface YamlOptions {
  /** False: a comment is a mistake, for a text of one value, in which # is more likely part of it. */
  readonly comments: boolean;
}

export interface ParsedYaml {
  /** Undefined where the text could not be read, and where it has no content. */
  readonly node?: YamlNode;
  /** In the order of the text. Keys that are there twice are mistakes beside a node; all others leave none. */
  readonly mistakes: readonly Mistake[];
}

/** Never throws. */
export function parseYaml(bytes: Uint8Array, options: YamlOptions): ParsedYaml {
  const { text, mistakes: badText } = decode(bytes);
  if (badText.length > 0) return { mistakes: badText };
  const badTokens = checkTokens(text, options);
  if (badTokens.length > 0) return { mistakes: badTokens };

  const lines = new LineCounter();
  const document = parseDocument(text, {
    schema: 'core',
    merge: false,
    strict: true,
    stringKeys: true,
    uniqueKeys: false, // quadratic in the library; TreeBuilder finds duplicates itself
    prettyErrors: false,
    logLevel: 'silent',
    lineCounter: lines,
  });
  const placeAt = (offset: number): TextPlace => {
    const { line, col } = lines.linePos(offset);
    return { line, column: col };
  };
  const problems = [...document.errors, ...document.warnings];
  if (problems.length > 0) {
    const wording = (code: string, message: string) =>
      code === 'NON_STRING_KEY' ? 'a key must be a plain word' : `not valid YAML: ${message}`;
    return {
      mistakes: problems.map(({ pos, code, message }) => ({ place: placeAt(pos[0]), text: wording(code, message) })),
    };
  }
  if (document.contents === null) return { mistakes: [] };
  const builder = new TreeBuilder(placeAt);
  const node = builder.build(document.contents, 0, '');
  return { node, mistakes: builder.mistakes };
}

/** Strict UTF-8 without control characters, within MAX_BYTES. A byte order mark at the start is dropped. */
function decode(bytes: Uint8Array): { text: string; mistakes: readonly Mistake[] } {
  const start: TextPlace = { line: 1, column: 1 };
  if (bytes.length > MAX_BYTES) {
    return { text: '', mistakes: [{ place: start, text: `expected at most ${MAX_BYTES} bytes, got ${bytes.length}` }] };
  }
  const valid = validPrefix(bytes);
  const text = new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(0, valid));
  if (valid < bytes.length) {
    const byte = bytes[valid]!.toString(16).padStart(2, '0');
    return { text, mistakes: [{ place: placeIn(text, text.length), text: `expected UTF-8, got the byte 0x${byte}` }] };
  }
  const mistakes = [...text.matchAll(/[^\t\n\r\x20-\x7e\x85\u{a0}-\u{fffd}\u{10000}-\u{10ffff}]/gu)].map(
    ({ 0: character, index }) => {
      const code = character.codePointAt(0)!.toString(16).toUpperCase().padStart(4, '0');
      return { place: placeIn(text, index), text: `control character U+${code} is not allowed` };
    },
  );
  return { text, mistakes: mistakes.slice(0, 100) };
}

/** The length of the longest prefix that is whole, valid UTF-8. */
function validPrefix(bytes: Uint8Array): number {
  const isValid = (length: number, stream: boolean): boolean => {
    try {
      new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(0, length), { stream });
      return true;
    } catch {
      return false;
    }
  };
  if (isValid(bytes.length, false)) return bytes.length;
  let low = 0;
  let high = bytes.length;
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (isValid(middle, true)) low = middle;
    else high = middle - 1;
  }
  while (!isValid(low, false)) low--; // the start of a character whose rest is missing
  return low;
}

function placeIn(text: string, offset: number): TextPlace {
  const before = text.slice(0, offset);
  return { line: before.split('\n').length, column: offset - before.lastIndexOf('\n') };
}

/** Refuses by the tokens alone what must not reach the parser: too deep nesting, and the parts of YAML that a configuration has no use for. */
function checkTokens(text: string, { comments }: YamlOptions): readonly Mistake[] {
  const mistakes: Mistake[] = [];
  const refused: Readonly<Record<string, string>> = {
    anchor: 'anchors (&) are not allowed: write the value out',
    alias: 'aliases (*) are not allowed: write the value out, or put it in quotes',
    tag: 'tags (!) are not allowed: write the plain value, or put it in quotes',
    'directive-line': 'directives (%) are not allowed: remove the line',
    ...(comments ? {} : { comment: 'a comment is not allowed here: put a value that holds # in quotes' }),
  };
  const depth = new DepthGauge();
  let place: 'before' | 'inside' | 'after' = 'before'; // the one document
  let numTokens = 0;
  let isContent = false; // the token after the mark of a plain or block scalar
  let offset = 0;
  for (const token of new Lexer().lex(text)) {
    const type = isContent ? 'scalar' : CST.tokenType(token);
    isContent = !isContent && token === CST.SCALAR;
    if (isContent || token === CST.DOCUMENT || token === CST.FLOW_END) continue; // marks take no room in the text
    const isSecond = type === 'doc-start' ? place !== 'before' : place === 'after' && !isBlank(type);
    if (type === 'doc-end') place = 'after';
    else if (!isBlank(type)) place = 'inside';
    const end =
      ++numTokens > MAX_TOKENS ? TOO_LONG : isSecond ? TOO_MANY : depth.isTooDeep(type, token) ? TOO_DEEP : undefined;
    const problem = end ?? refused[type ?? ''];
    if (problem !== undefined) mistakes.push({ place: placeIn(text, offset), text: problem });
    if (end !== undefined || mistakes.length === 100) return mistakes;
    offset += token.length;
  }
  return mistakes;
}

/** What may stand outside of a document. */
function isBlank(type: string | null): boolean {
  return (
    type !== null && ['space', 'newline', 'comment', 'byte-order-mark', 'directive-line', 'doc-end'].includes(type)
  );
}

// After one of these three there is no need to read on.
const TOO_DEEP = `nested deeper than ${MAX_DEPTH} levels`;
const TOO_LONG = `longer than ${MAX_TOKENS} words, signs and line ends`;
const TOO_MANY = 'a second document (---) is not allowed';

/** How deep a token lies: open brackets, and outside of brackets the columns at which the lines around it begin. */
class DepthGauge {
  #brackets = 0;
  readonly #columns: number[] = [];
  #column = 0;
  #isLineStart = true;

  isTooDeep(type: string | null, token: string): boolean {
    if (type === 'flow-map-start' || type === 'flow-seq-start') this.#brackets++;
    else if (type === 'flow-map-end' || type === 'flow-seq-end') this.#brackets = Math.max(0, this.#brackets - 1);
    else if (
      type !== 'space' &&
      type !== 'comment' &&
      type !== 'newline' &&
      this.#isLineStart &&
      this.#brackets === 0
    ) {
      while (this.#columns.length > 0 && this.#columns.at(-1)! >= this.#column) this.#columns.pop();
      this.#columns.push(this.#column);
      // After these three the line goes on as if it began there: "- - - a" is three lists deep.
      this.#isLineStart = type === 'seq-item-ind' || type === 'explicit-key-ind' || type === 'map-value-ind';
    }
    const lastNewline = token.lastIndexOf('\n');
    this.#column = lastNewline < 0 ? this.#column + token.length : token.length - lastNewline - 1;
    if (lastNewline >= 0) this.#isLineStart = this.#column === 0;
    return this.#brackets + this.#columns.length > MAX_DEPTH;
  }
}

/** Turns the library's nodes into plain data, and finds keys that are there twice. */
class TreeBuilder {
  readonly mistakes: Mistake[] = [];
  readonly #placeAt: (offset: number) => TextPlace;

  constructor(placeAt: (offset: number) => TextPlace) {
    this.#placeAt = placeAt;
  }

  build(node: Node | null, fallbackOffset: number, path: string): YamlNode {
    const place = this.#placeAt(node?.range?.[0] ?? fallbackOffset);
    if (isMap<Node, Node | null>(node)) return { kind: 'mapping', place, entries: this.#entries(node.items, path) };
    if (isSeq<Node>(node))
      return { kind: 'list', place, items: node.items.map((item) => this.build(item, fallbackOffset, path)) };
    if (!isScalar(node)) return { kind: 'scalar', place, value: null, source: '' };
    const { value, source } = node;
    const isPlain =
      value === null || typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean';
    return { kind: 'scalar', place, value: isPlain ? value : String(value), source: source ?? '' };
  }

  #entries(pairs: readonly Pair<Node, Node | null>[], path: string): MappingEntry[] {
    const firstPlaces = new Map<string, TextPlace>();
    const entries: MappingEntry[] = [];
    for (const pair of pairs) {
      const offset = pair.key.range?.[0] ?? 0;
      const key = isScalar(pair.key) ? String(pair.key.value) : '';
      const keyPlace = this.#placeAt(offset);
      const keyPath = path === '' ? key : `${path}.${key}`;
      const first = firstPlaces.get(key);
      if (first === undefined) {
        firstPlaces.set(key, keyPlace);
        entries.push({ key, keyPlace, value: this.build(pair.value, offset, keyPath) });
      } else {
        this.mistakes.push({ place: keyPlace, text: `duplicate key ${keyPath}, first at line ${first.line}` });
      }
    }
    return entries;
  }
}
