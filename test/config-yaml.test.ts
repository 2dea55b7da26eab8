import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { MAX_BYTES, parseYaml, type YamlNode } from '../src/config/yaml-tree.js';
import { nowSeconds } from '../src/core/clock.js';

const parse = (text: string | Uint8Array, comments = true) => parseYaml(Buffer.from(text as string), { comments });
const told = (text: string | Uint8Array) =>
  parse(text).mistakes.map(({ place: { line, column }, text: what }) => `${line}:${column} ${what}`);

/** The payloads of the advisories and their relatives (faults.md, row 24). */
const REFUSED: readonly (readonly [title: string, text: string | Uint8Array, mistakes: readonly string[]])[] = [
  [
    'anchor and alias',
    'a: &x 1\nb: *x\n',
    [
      '1:4 anchors (&) are not allowed: write the value out',
      '2:4 aliases (*) are not allowed: write the value out, or put it in quotes',
    ],
  ],
  [
    'laughs',
    `a: &a [1,1]\nb: &b [*a,*a]\n`,
    [
      '1:4 anchors (&) are not allowed: write the value out',
      '2:4 anchors (&) are not allowed: write the value out',
      '2:8 aliases (*) are not allowed: write the value out, or put it in quotes',
      '2:11 aliases (*) are not allowed: write the value out, or put it in quotes',
    ],
  ],
  ['tag', 'a: !!js/function "x"\n', ['1:4 tags (!) are not allowed: write the plain value, or put it in quotes']],
  ['directive', '%YAML 1.1\n---\na: 1\n', ['1:1 directives (%) are not allowed: remove the line']],
  ['a second document after one without a mark', 'a: 1\n---\nb: 1\n', ['2:1 a second document (---) is not allowed']],
  ['a second document after an end', '{}\n...\n{}\n', ['3:1 a second document (---) is not allowed']],
  ['two documents', '---\na: 1\n---\nb: 1\n', ['3:1 a second document (---) is not allowed']],
  ['brackets', '['.repeat(100_000), ['1:33 nested deeper than 32 levels']],
  ['braces', '{a: '.repeat(50_000), ['1:129 nested deeper than 32 levels']],
  ['mixed', 'a: '.concat('[{a: '.repeat(40)), ['1:80 nested deeper than 32 levels']],
  ['dashes', '- '.repeat(100_000), ['1:65 nested deeper than 32 levels']],
  ['question marks', '? '.repeat(100_000), ['1:65 nested deeper than 32 levels']],
  [
    'indents',
    Array.from({ length: 500 }, (_, i) => `${' '.repeat(i)}a:`).join('\n'),
    ['33:33 nested deeper than 32 levels'],
  ],
  ['too long', 'a'.repeat(MAX_BYTES + 1), [`1:1 expected at most 262144 bytes, got 262145`]],
  ['too many words', 'a: 1\n'.repeat(50_000), ['4001:1 longer than 20000 words, signs and line ends']],
  ['NUL', 'a: 1\nb\0: 1\n', ['2:2 control character U+0000 is not allowed']],
  [
    'escape',
    'a: \x1b[31m\x01\n',
    ['1:4 control character U+001B is not allowed', '1:9 control character U+0001 is not allowed'],
  ],
  ['C1', 'a: \x9b\n', ['1:4 control character U+009B is not allowed']],
  ['not a character', 'a: \uffff\n', ['1:4 control character U+FFFF is not allowed']],
  ['invalid UTF-8', Uint8Array.of(0x61, 0x3a, 0x20, 0xff, 0x0a), ['1:4 expected UTF-8, got the byte 0xff']],
  ['half a character', Uint8Array.of(0x61, 0x0a, 0x62, 0xe2, 0x82), ['2:2 expected UTF-8, got the byte 0xe2']],
  ['overlong', Uint8Array.of(0xc0, 0xaf), ['1:1 expected UTF-8, got the byte 0xc0']],
  ['surrogate', Uint8Array.of(0x61, 0xed, 0xa0, 0x80), ['1:2 expected UTF-8, got the byte 0xed']],
  ['tab as indent', 'a:\n\tb: 1\n', ['2:1 not valid YAML: Tabs are not allowed as indentation']],
  [
    'open bracket',
    'a: [1\n',
    ['2:1 not valid YAML: Flow sequence in block collection must be sufficiently indented and end with a ]'],
  ],
  ['list as key', '[a]: 1\n', ['1:1 a key must be a plain word']],
  ['mapping as key', '? {a: 1}\n: 1\n', ['1:3 a key must be a plain word']],
  ['open quote', 'a: "b\n', ['2:1 not valid YAML: Missing closing "quote']],
  ['two values', 'a: 1 2\nb: 1: 2\n', ['2:4 not valid YAML: Nested mappings are not allowed in compact mappings']],
];

for (const [title, text, mistakes] of REFUSED) {
  test(`refused: ${title}`, () => {
    const start = nowSeconds();
    assert.deepEqual(told(text), mistakes);
    assert.ok(nowSeconds() - start < 5, 'five times the bound of a second');
  });
}

test('a deep but allowed nesting is read', () => {
  assert.deepEqual(told(`a: ${'['.repeat(31)}${']'.repeat(31)}\n`), []);
});

test('a comment is refused where it is asked', () => {
  assert.equal(parse('1 # one').mistakes.length, 0);
  assert.equal(parse('1 # one', false).mistakes.length, 1);
});

test('a tree: values with their places', () => {
  assert.deepEqual(parse('\ufeff# first\na: 1\nb: [x, "y z", ~]\nc:\n  d: true\n').node, {
    kind: 'mapping',
    place: { line: 2, column: 1 },
    entries: [
      {
        key: 'a',
        keyPlace: { line: 2, column: 1 },
        value: { kind: 'scalar', place: { line: 2, column: 4 }, value: 1, source: '1' },
      },
      {
        key: 'b',
        keyPlace: { line: 3, column: 1 },
        value: {
          kind: 'list',
          place: { line: 3, column: 4 },
          items: [
            { kind: 'scalar', place: { line: 3, column: 5 }, value: 'x', source: 'x' },
            { kind: 'scalar', place: { line: 3, column: 8 }, value: 'y z', source: 'y z' },
            { kind: 'scalar', place: { line: 3, column: 15 }, value: null, source: '~' },
          ],
        },
      },
      {
        key: 'c',
        keyPlace: { line: 4, column: 1 },
        value: {
          kind: 'mapping',
          place: { line: 5, column: 3 },
          entries: [
            {
              key: 'd',
              keyPlace: { line: 5, column: 3 },
              value: { kind: 'scalar', place: { line: 5, column: 6 }, value: true, source: 'true' },
            },
          ],
        },
      },
    ],
  });
});

function plain(node: YamlNode): unknown {
  if (node.kind === 'list') return node.items.map(plain);
  return node.kind === 'scalar' ? node.value : node.entries.map(({ key, value }) => [key, plain(value)]);
}

test('JSON is read as JSON is meant', () => {
  const values = fc.letrec((tie) => ({
    value: fc.oneof(
      { depthSize: 'small' },
      fc.string(),
      fc.integer(),
      fc.boolean(),
      fc.constant(null),
      fc.array(tie('value'), { maxLength: 4 }),
    ),
  })).value;
  fc.assert(fc.property(values, (value) => assert.deepEqual(plain(parse(JSON.stringify([value])).node!), [value])));
});

test('any text gives a tree or mistakes with places in it, and never throws', () => {
  const piece = fc.constantFrom(
    'a',
    ': ',
    '- ',
    '? ',
    '\n',
    '  ',
    '[',
    ']',
    '{',
    '}',
    ', ',
    '"',
    "'",
    '#',
    '&',
    '*',
    '!',
    '|',
    '>',
    '%',
    '---',
    '\t',
    '\0',
    '\\',
    '0x1',
    '~',
    '\r',
  );
  const text = fc.oneof(
    fc.array(piece, { maxLength: 60 }).map((pieces) => pieces.join('')),
    fc.string({ unit: 'binary', maxLength: 60 }),
  );
  fc.assert(
    fc.property(text, fc.uint8Array({ maxLength: 4 }), (start, end) => {
      const bytes = Buffer.concat([Buffer.from(start), end]);
      const { mistakes } = parseYaml(bytes, { comments: true });
      const numLines = bytes.toString('latin1').split('\n').length;
      for (const { place } of mistakes) assert.ok(place.line >= 1 && place.line <= numLines && place.column >= 1);
    }),
    { numRuns: 5000 },
  );
});
