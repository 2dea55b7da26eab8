/** docs/errors.md has every error code of the source and no other, with the exit code that the source gives it. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { ExitCode } from '../src/core/errors.js';
import { readSources } from './support/source-graph.js';

const root = fileURLToPath(new URL('../../', import.meta.url));
const sources = [...readSources(path.join(root, 'src')).values()];
const ENVIRONMENT = [
  'DTRAIN_DATA',
  'DTRAIN_DEBUG',
  'DTRAIN_FAULT',
  'DTRAIN_HEARTBEAT',
  'DTRAIN_HOME',
  'DTRAIN_TENSORFLOW_LIB',
];

const rows = [
  ...fs
    .readFileSync(path.join(root, 'docs/errors.md'), 'utf8')
    .matchAll(/^\| `(DTRAIN_\w+)` \| (\d+) \| (.+) \| (.+) \|$/gm),
];

test('every code is there once, in order, with a meaning and a cure', () => {
  const codes = new Set(sources.flatMap((text) => [...text.matchAll(/'(DTRAIN_[A-Z_]+)'/g)].map(([, code]) => code!)));
  for (const name of ENVIRONMENT) codes.delete(name);
  assert.deepEqual(
    rows.map(([, code]) => code),
    [...codes].sort(),
  );
});

test('with the exit codes of the source', () => {
  const exits = new Map(rows.map(([, code, exit]) => [code, Number(exit)]));
  let checked = 0;
  for (const text of sources) {
    for (const [, code, name] of text.matchAll(/'(DTRAIN_[A-Z_]+)',\s*ExitCode\.(\w+)/g)) {
      if (code === 'DTRAIN_UNSUPPORTED' && name === 'usage') continue; // of a command's words
      assert.equal(exits.get(code), ExitCode[name as keyof typeof ExitCode], code);
      checked += 1;
    }
  }
  assert(checked > 30, `${checked} codes`);
});
