/**
 * What the pods of configs/cluster/kubernetes-job.yaml and the tasks of slurm.sh would run, as processes of this machine: their words and
 * environment, each in a network namespace with the names that Kubernetes or Slurm would give. Only what makes the job small is added.
 */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { parseAllDocuments } from 'yaml';
import { loadConfig } from '../../src/config/load.js';
import { openCheckpoint } from '../../src/train/checkpoint.js';
import { endsOf, HostProcess } from '../support/host-processes.js';
import { networkHosts } from '../support/network-namespaces.js';
import { lastCheckpointFile, runTraining, SMALL_RUN, temporaryFolder } from '../support/train-run.js';
import { recordProof } from './record.js';

const MANIFEST = fileURLToPath(new URL('../../../configs/cluster/kubernetes-job.yaml', import.meta.url));
const SHARDS = ['train.logicalShards=2', 'train.threadsPerWorker=1'];
const network = networkHosts(['dtrain-0.dtrain', 'dtrain-1.dtrain']);

interface Container {
  readonly args: readonly string[];
  readonly env: readonly { readonly name: string; readonly value: string }[];
}

function containerOfJob(): Container {
  const documents = parseAllDocuments(fs.readFileSync(MANIFEST, 'utf8')).map((document) => document.toJS());
  return documents.find(({ kind }) => kind === 'Job').spec.template.spec.containers[0];
}

/** Pod `index` with `words` added; `runs/main` of its command is in `folder`. */
function pod(index: number, folder: string, words: readonly string[]): HostProcess {
  const { args, env } = containerOfJob();
  const own = Object.fromEntries(env.map(({ name, value }) => [name, value]));
  const given = { ...own, JOB_COMPLETION_INDEX: `${index}`, HOSTNAME: `dtrain-${index}` };
  const placed = args.map((word) => (word === 'runs/main' ? path.join(folder, word) : word));
  const small = ['--cpus', '1', 'model.name=resnet20', ...SMALL_RUN, ...SHARDS, ...words];
  return new HostProcess([...placed, ...small], given, network![index]!.launcher);
}

const needs = { timeout: 240_000, skip: network ? false : 'needs root and ip netns' };

test('the pods of the Job find each other by name, and a pod that is replaced goes on', needs, async () => {
  const folder = temporaryFolder();
  const runDir = path.join(folder, 'runs/main');
  const first = [0, 1].map((index) =>
    pod(index, folder, ['train.maxSteps=5000', 'checkpoint.everySteps=2', '--json', '--max-restarts', '0']),
  );
  await first[0]!.tells('"event":"checkpoint"');
  first[1]!.signalAll('SIGKILL');
  const [lost] = await endsOf(first);
  assert.equal(lost!.exitCode, 12, lost!.stderr);
  const { podFailurePolicy } = parseAllDocuments(fs.readFileSync(MANIFEST, 'utf8'))
    .map((document) => document.toJS())
    .find(({ kind }) => kind === 'Job').spec;
  const fatal = podFailurePolicy.rules.flatMap(
    (rule: { onExitCodes?: { values: number[] } }) => rule.onExitCodes?.values ?? [],
  );
  assert(!fatal.includes(lost!.exitCode), 'Kubernetes makes new pods');

  const last = openCheckpoint(runDir).state.step + 2;
  const ends = await endsOf([0, 1].map((index) => pod(index, folder, [`train.maxSteps=${last}`])));
  for (const { exitCode, stderr } of ends) assert.equal(exitCode, 0, stderr);
  assert.match(ends[1]!.stderr, /cluster: 2 hosts by JOB_COMPLETION_INDEX; this is host 1 \(dtrain-1\.dtrain:8888\)/);
  const overrides = ['model.name=resnet20', ...SMALL_RUN, ...SHARDS, `train.maxSteps=${last}`];
  const one = await runTraining(2, [], { config: loadConfig({ file: 'resnet50', overrides }) });
  for (const file of ['weights.safetensors', 'optimizer.safetensors']) {
    assert(lastCheckpointFile(runDir, file).equals(lastCheckpointFile(one.runDir, file)), file);
  }
  recordProof({
    name: 'pods of configs/cluster/kubernetes-job.yaml as processes in network namespaces, one killed and replaced',
    goal: 'they find each other by name; an exit code that Kubernetes retries; then the bytes of an undisturbed process',
    observed: 'as asked',
    pass: true,
  });
});
