/**
 * What the pods of configs/cluster's Job and JobSet and the tasks of its slurm.sh would run, as processes of this machine: their words and
 * environment, each in a network namespace with the names that Kubernetes or Slurm would give. Only what makes the job small is added.
 */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { loadConfig } from '../../src/config/load.js';
import { openCheckpoint } from '../../src/train/checkpoint.js';
import { CLUSTER_FOLDER, type PodTemplate, podOf } from '../support/cluster-pods.js';
import { DTRAIN_MAIN, endsOf, HostProcess } from '../support/host-processes.js';
import { networkHosts } from '../support/network-namespaces.js';
import { lastCheckpointFile, runTraining, SMALL_RUN, temporaryFolder } from '../support/train-run.js';
import { recordProof } from './record.js';

const SHARDS = ['train.logicalShards=2', 'train.threadsPerWorker=1'];
const SMALL = ['--cpus', '1', 'model.name=resnet20', ...SMALL_RUN, ...SHARDS];
const ENDLESS = ['train.maxSteps=5000', 'checkpoint.everySteps=2', '--json', '--max-restarts', '0'];
const network = networkHosts([
  'dtrain-0.dtrain dtrain-hosts-0-0.dtrain n1',
  'dtrain-1.dtrain dtrain-hosts-0-1.dtrain n2',
]);
const needs = { timeout: 240_000, skip: network ? false : 'needs root and ip netns' };

/** Pod `index` with `words` added; `runs/main` of its command is in `folder`. */
function start(pod: PodTemplate, index: number, folder: string, words: readonly string[]): HostProcess {
  const placed = pod.args.map((word) => (word === 'runs/main' ? path.join(folder, word) : word));
  return new HostProcess([...placed, ...SMALL, ...words], pod.envOf(index), network![index]!.launcher);
}

/** The checkpoint of `steps` steps in `runDir` has the bytes of one process that nothing disturbed. */
async function assertUndisturbed(runDir: string, steps: number): Promise<void> {
  const overrides = [...SMALL.slice(2), `train.maxSteps=${steps}`];
  const one = await runTraining(2, [], { config: loadConfig({ file: 'resnet50', overrides }) });
  for (const file of ['weights.safetensors', 'optimizer.safetensors']) {
    assert(lastCheckpointFile(runDir, file).equals(lastCheckpointFile(one.runDir, file)), file);
  }
}

for (const [file, name] of [
  ['kubernetes-job.yaml', 'dtrain-1.dtrain'],
  ['kubernetes-jobset.yaml', 'dtrain-hosts-0-1.dtrain'],
] as const) {
  test(`the pods of ${file} find each other by name, and after one was killed they go on`, needs, async () => {
    const pod = podOf(file);
    const folder = temporaryFolder();
    const runDir = path.join(folder, 'runs/main');
    const first = [0, 1].map((index) => start(pod, index, folder, ENDLESS));
    await first[0]!.tells('"event":"checkpoint"');
    first[1]!.signalAll('SIGKILL');
    const [lost] = await endsOf(first);
    assert.equal(lost!.exitCode, 12, lost!.stderr);
    assert(!pod.fatalCodes.includes(lost!.exitCode!), 'Kubernetes makes new pods');

    const last = openCheckpoint(runDir).state.step + 2;
    const ends = await endsOf([0, 1].map((index) => start(pod, index, folder, [`train.maxSteps=${last}`])));
    for (const { exitCode, stderr } of ends) assert.equal(exitCode, 0, stderr);
    const line = `cluster: 2 hosts by JOB_COMPLETION_INDEX; this is host 1 (${name}:8888)`;
    assert(ends[1]!.stderr.includes(line), ends[1]!.stderr);
    await assertUndisturbed(runDir, last);
    recordProof({
      name: `pods of configs/cluster/${file} as processes in network namespaces, one killed and replaced`,
      goal: 'they find each other by name; an exit code that Kubernetes retries; then the bytes of an undisturbed process',
      observed: 'as asked',
      pass: true,
    });
  });
}

/** Commands of Slurm for a job on n1 and n2, which are the two namespaces; `srun` ends with the largest exit code of its tasks, as the real one. */
function slurmCommands(folder: string): void {
  const write = (name: string, text: string) =>
    fs.writeFileSync(path.join(folder, name), `#!/bin/sh\n${text}\n`, { mode: 0o755 });
  write('dtrain', `exec ${process.execPath} ${DTRAIN_MAIN} "$@"`);
  write('scontrol', 'echo "scontrol $*"');
  const task = ({ namespace }: { namespace: string }, rank: number) =>
    `SLURM_PROCID=${rank} SLURM_NODEID=${rank} setsid ip netns exec ${namespace} "$@" & echo $! > ${folder}/task-${rank}`;
  const wait = (_: unknown, rank: number) =>
    `wait "$(cat ${folder}/task-${rank})" || { code=$?; [ $code -le $most ] || most=$code; }`;
  write('srun', ['most=0; shift', ...network!.map(task), ...network!.map(wait), 'exit $most'].join('\n'));
}

test('the tasks of slurm.sh: SIGTERM, a requeue, and the end of an undisturbed process', needs, async () => {
  const folder = temporaryFolder();
  const runDir = path.join(folder, 'runs/dtrain');
  slurmCommands(folder);
  const job = { SLURM_JOB_ID: '42', SLURM_JOB_NAME: 'dtrain', SLURM_NNODES: '2', SLURM_NTASKS: '2' };
  const step = { SLURM_STEP_NUM_NODES: '2', SLURM_STEP_NUM_TASKS: '2', SLURM_STEP_NODELIST: 'n[1-2]' };
  const env = { ...job, ...step, RUN_DIR: runDir, PATH: `${folder}:${process.env['PATH']}` };
  const batch = (...words: string[]) =>
    new HostProcess(
      ['--config', 'resnet50', ...SMALL, ...words],
      env,
      [],
      ['bash', path.join(CLUSTER_FOLDER, 'slurm.sh')],
    );

  const first = batch(...ENDLESS);
  await first.tells('"event":"checkpoint"');
  // As --signal=TERM@180 and a preemption do: to all processes of the tasks.
  for (const rank of [0, 1])
    process.kill(-Number(fs.readFileSync(path.join(folder, `task-${rank}`), 'utf8')), 'SIGTERM');
  const stopped = await first.ended;
  assert.equal(stopped.exitCode, 75, stopped.stdout + stopped.stderr);
  assert.match(stopped.stdout, /^scontrol requeue 42$/m);

  const last = openCheckpoint(runDir).state.step + 2;
  const again = await batch(`train.maxSteps=${last}`).ended;
  assert.equal(again.exitCode, 0, again.stdout + again.stderr);
  assert.doesNotMatch(again.stdout, /scontrol/);
  assert.match(again.stderr, /cluster: 2 hosts by SLURM_STEP_NODELIST; this is host 1 \(n2:8888\)/);
  await assertUndisturbed(runDir, last);
  recordProof({
    name: 'tasks of configs/cluster/slurm.sh as processes in network namespaces, sent SIGTERM, requeued',
    goal: 'exit code 75 and a requeue; then the bytes of an undisturbed process',
    observed: 'as asked',
    pass: true,
  });
});
