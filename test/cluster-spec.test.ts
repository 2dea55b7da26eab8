/** Which hosts a run is on: flags, configuration, launchers, and what each says when it is wrong. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ClusterSpec, clusterSpec } from '../src/cluster/cluster-spec.js';
import { expandNodeList, parseHosts } from '../src/cluster/host-list.js';
import { loadConfig } from '../src/config/load.js';
import { DtrainError } from '../src/core/errors.js';
import { runCommand } from './support/run-command.js';
import { errorOf } from './support/test-runtime.js';

type Environment = Readonly<Record<string, string>>;

interface Given {
  readonly env?: Environment;
  readonly hosts?: string;
  readonly hostRank?: number;
  readonly overrides?: readonly string[];
  readonly hostname?: string;
}

function resolve({ env = {}, hosts, hostRank, overrides = [], hostname = 'login' }: Given): {
  spec: ClusterSpec | undefined;
  said: string[];
} {
  const said: string[] = [];
  const config = loadConfig({ overrides: ['cluster.trustedNetwork=true', ...overrides] });
  const spec = clusterSpec({ hosts, hostRank, config, env, hostname, say: (line) => said.push(line) });
  return { spec, said };
}

const AB = ['a:8888', 'b:8888'];
const TF = (value: unknown): Environment => ({ TF_CONFIG: JSON.stringify(value) });
const SLURM: Environment = {
  SLURM_NNODES: '3',
  SLURM_NTASKS: '3',
  SLURM_PROCID: '2',
  SLURM_NODEID: '2',
  SLURM_JOB_NODELIST: 'n[1-2,07]',
};
const POD: Environment = {
  JOB_COMPLETION_INDEX: '1',
  JOB_COMPLETIONS: '2',
  JOB_SERVICE: 'dtrain',
  HOSTNAME: 'train-1',
};
const TRAINER: Environment = {
  PET_NNODES: '2',
  PET_NODE_RANK: '1',
  PET_MASTER_ADDR: 'job-node-0-0.job',
  PET_MASTER_PORT: '29500',
};

const FOUND: readonly (readonly [string, Given, ClusterSpec | undefined, string?])[] = [
  ['nothing', {}, undefined],
  ['flags', { hosts: 'a:8888,b:8888', hostRank: 1 }, { addresses: AB, rank: 1 }, '--hosts'],
  [
    'flags win over a launcher',
    { hosts: 'a:8888,b:8888', hostRank: 0, env: SLURM },
    { addresses: AB, rank: 0 },
    '--hosts',
  ],
  ['one address keeps a launcher out', { hosts: 'localhost:1', env: SLURM }, undefined],
  [
    'the configuration',
    { overrides: ['cluster={hosts: [a:8888, b:8888], hostRank: 1, trustedNetwork: true}'] },
    { addresses: AB, rank: 1 },
    'cluster.hosts and cluster.hostRank',
  ],
  [
    'rank by a launcher',
    { hosts: 'a:8888,b:8888', env: { JOB_COMPLETION_INDEX: '1' } },
    { addresses: AB, rank: 1 },
    '--hosts and JOB_COMPLETION_INDEX',
  ],
  [
    'rank by name',
    { hosts: 'a.lan:1,b.lan:1', hostname: 'b' },
    { addresses: ['a.lan:1', 'b.lan:1'], rank: 1 },
    '--hosts and the name of this machine',
  ],
  [
    'TF_CONFIG',
    { env: TF({ cluster: { worker: AB }, task: { type: 'worker', index: 1 } }) },
    { addresses: AB, rank: 1 },
    'TF_CONFIG',
  ],
  [
    'TF_CONFIG with a chief',
    { env: TF({ cluster: { chief: ['c:1'], worker: AB }, task: { type: 'worker', index: '1' } }) },
    { addresses: ['c:1', ...AB], rank: 2 },
    'TF_CONFIG',
  ],
  ['TF_CONFIG of one', { env: TF({ cluster: { worker: ['a:1'] }, task: { type: 'worker', index: 0 } }) }, undefined],
  [
    'an Indexed Job',
    { env: POD },
    { addresses: ['train-0.dtrain:8888', 'train-1.dtrain:8888'], rank: 1 },
    'JOB_COMPLETION_INDEX',
  ],
  ['an Indexed Job of independent runs', { env: { JOB_COMPLETION_INDEX: '1', HOSTNAME: 'train-1' } }, undefined],
  [
    'Kubeflow Trainer',
    { env: TRAINER },
    { addresses: ['job-node-0-0.job:29500', 'job-node-0-1.job:29500'], rank: 1 },
    'PET_NNODES',
  ],
  ['Slurm', { env: SLURM }, { addresses: ['n1:8888', 'n2:8888', 'n07:8888'], rank: 2 }, 'SLURM_JOB_NODELIST'],
  ['Slurm on one node', { env: { ...SLURM, SLURM_NNODES: '1' } }, undefined],
  [
    'a step of a larger Slurm job',
    {
      env: {
        ...SLURM,
        SLURM_STEP_NUM_NODES: '2',
        SLURM_STEP_NUM_TASKS: '2',
        SLURM_STEP_NODELIST: 'n[1-2]',
        SLURM_PROCID: '0',
      },
    },
    { addresses: ['n1:8888', 'n2:8888'], rank: 0 },
    'SLURM_STEP_NODELIST',
  ],
];

for (const [name, given, expected, source] of FOUND) {
  test(`hosts: ${name}`, () => {
    const { spec, said } = resolve(given);
    assert.deepEqual(spec, expected);
    const line =
      expected &&
      `cluster: ${expected.addresses.length} hosts by ${source}; this is host ${expected.rank} (${expected.addresses[expected.rank]})`;
    assert.deepEqual(said, line ? [line] : []);
  });
}

const REFUSED: readonly (readonly [string, Given, string])[] = [
  ['no port', { hosts: 'a,b:1' }, '--hosts: expected host:port of every host, such as a:8888,b:8888, got "a".'],
  ['port 0', { hosts: 'a:0,b:1' }, '--hosts: expected host:port of every host, such as a:8888,b:8888, got "a:0".'],
  [
    'port 65536',
    { hosts: 'a:65536' },
    '--hosts: expected host:port of every host, such as a:8888,b:8888, got "a:65536".',
  ],
  ['twice', { hosts: 'a:1,a:1' }, '--hosts: expected every address once, got a:1 twice.'],
  ['no rank', { hosts: 'a:1,b:1' }, '--host-rank: expected a rank from 0 to 1, got nothing.'],
  ['rank too high', { hosts: 'a:1,b:1', hostRank: 2 }, '--host-rank: expected a rank from 0 to 1, got 2.'],
  ['rank alone', { hostRank: 0 }, '--host-rank: expected --hosts beside it, or cluster.hosts, got neither.'],
  [
    'TF_CONFIG no JSON',
    { env: { TF_CONFIG: '{' } },
    'TF_CONFIG: expected JSON with cluster {"worker": ["a:8888", ...]} and task, got "{".',
  ],
  [
    'TF_CONFIG with ps',
    { env: TF({ cluster: { worker: AB, ps: ['p:1'] }, task: { type: 'ps', index: 0 } }) },
    'TF_CONFIG: expected the jobs chief and worker, got ps. dtrain has no parameter servers.',
  ],
  [
    'TF_CONFIG as evaluator',
    { env: TF({ cluster: { worker: AB }, task: { type: 'evaluator', index: 0 } }) },
    'TF_CONFIG: expected a task of type chief or worker, got "evaluator".',
  ],
  [
    'TF_CONFIG index',
    { env: TF({ cluster: { worker: AB }, task: { type: 'worker', index: 2 } }) },
    'TF_CONFIG: task.index: expected a rank from 0 to 1, got 2.',
  ],
  [
    'Indexed Job without its name',
    { env: { ...POD, HOSTNAME: 'node7' } },
    'HOSTNAME: expected the name of pod 1 of an Indexed Job, JOB-1, got "node7". Or set --hosts.',
  ],
  [
    'Trainer without a master',
    { env: { ...TRAINER, PET_MASTER_ADDR: '' } },
    'PET_MASTER_ADDR: expected the name of node 0, NAME-0.SERVICE, got "". Or set --hosts.',
  ],
  [
    'Slurm with two tasks a node',
    { env: { ...SLURM, SLURM_NTASKS: '6' } },
    'SLURM_NTASKS: expected one task a node, got 6 tasks on 3 nodes. Start it with srun --ntasks-per-node=1.',
  ],
  [
    'Slurm with a short list',
    { env: { ...SLURM, SLURM_JOB_NODELIST: 'n1' } },
    'SLURM_JOB_NODELIST: expected 3 nodes, got 1.',
  ],
  [
    'Open MPI',
    { env: { OMPI_COMM_WORLD_SIZE: '2', OMPI_COMM_WORLD_RANK: '0' } },
    'OMPI_COMM_WORLD_SIZE: expected the addresses of all hosts beside it, got 2 and no addresses. Give them with --hosts A:PORT,B:PORT --host-rank I, one dtrain a host.',
  ],
  [
    'torchrun',
    { env: { WORLD_SIZE: '2', RANK: '0', MASTER_ADDR: 'a' } },
    'WORLD_SIZE: expected the addresses of all hosts beside it, got 2 and no addresses. Give them with --hosts A:PORT,B:PORT --host-rank I, one dtrain a host.',
  ],
];

for (const [name, given, message] of REFUSED) {
  test(`refused: ${name}`, () => {
    const error = errorOf(() => resolve(given));
    assert.deepEqual([error.code, error.exitCode, error.message], ['DTRAIN_CLUSTER_INVALID', 3, message]);
  });
}

test('a network that nobody vouches for is refused, whoever named the hosts', () => {
  const given: Given = { env: SLURM, overrides: ['cluster.trustedNetwork=false'] };
  const error = errorOf(() => resolve(given));
  assert.deepEqual([error.code, error.exitCode], ['DTRAIN_UNTRUSTED_NETWORK', 3]);
  assert.equal(
    error.message,
    'cluster.trustedNetwork: expected true, got false. On several hosts TensorFlow listens on port 8888 of every network interface, with no ' +
      'authentication and no encryption: who reaches that port can run code here. Let only these hosts reach it (docs/cluster.md says how), ' +
      'then add cluster.trustedNetwork=true.',
  );
});

test("Slurm's lists of nodes", () => {
  const expand = (text: string) => expandNodeList(text, 'X');
  assert.deepEqual(expand('n1'), ['n1']);
  assert.deepEqual(expand('a,b3,c'), ['a', 'b3', 'c']);
  assert.deepEqual(expand('n[1-3,7]'), ['n1', 'n2', 'n3', 'n7']);
  assert.deepEqual(expand('gpu[008-011]-ib,login'), ['gpu008-ib', 'gpu009-ib', 'gpu010-ib', 'gpu011-ib', 'login']);
  const refused = (text: string) => errorOf(() => expand(text)).message;
  assert.equal(refused('n[3-1]'), 'X: expected ranges of at most 1024 nodes, such as 1-3, got "3-1".');
  assert.equal(refused('n[1-99999]'), 'X: expected ranges of at most 1024 nodes, such as 1-3, got "1-99999".');
  assert.equal(refused('n[1'), 'X: expected Slurm\'s list of nodes, such as n[1-3,7], got "n[1".');
  assert.equal(refused(''), 'X: expected Slurm\'s list of nodes, such as n[1-3,7], got "".');
});

test('addresses: names, IPv4, IPv6', () => {
  const list = 'node-1.cluster.local:8888,10.0.0.2:1,[fd00::1]:65535';
  assert.deepEqual(parseHosts(list, '--hosts'), list.split(','));
  for (const bad of ['', 'a:1,', 'a b:1', 'a:1x', '-a:1', 'http://a:1']) {
    assert.throws(() => parseHosts(bad, '--hosts'), DtrainError, bad);
  }
});

test('the command says where the hosts came from, and gives them to the run', async () => {
  const words = ['--config', 'resnet20', '--cpus', '2', 'cluster.trustedNetwork=true', '--dry-run'];
  const hosts = ['--hosts', 'a:1,b:1', '--host-rank', '1'];
  const { exitCode, stdout, stderr } = await runCommand([...words, ...hosts]);
  assert.deepEqual([exitCode, stderr], [0, 'cluster: 2 hosts by --hosts; this is host 1 (b:1)\n']);
  assert.match(stdout, /^hosts {4}2, each as above; this is host 1$/m);
  const json = JSON.parse((await runCommand([...words, ...hosts, '--json'])).stdout) as Record<string, unknown>;
  const { world, shards, localBatch, hosts: addresses, hostRank } = json;
  assert.deepEqual(
    { world, shards, localBatch, addresses, hostRank },
    { world: 4, shards: 4, localBatch: 32, addresses: ['a:1', 'b:1'], hostRank: 1 },
  );
});

test('sums in the order of one process need 1, 2, 4, ... shards a host', async () => {
  const words = [
    '--config',
    'resnet20',
    '--cpus',
    '3',
    'train.globalBatch=126',
    'cluster.trustedNetwork=true',
    '--dry-run',
  ];
  const hosts = ['--hosts', 'a:1,b:1', '--host-rank', '0', '--quiet'];
  const { exitCode, stderr } = await runCommand([...words, ...hosts]);
  assert.equal(exitCode, 3);
  assert.equal(
    stderr.replace(/:\d+:\d+ /, ':LINE '),
    'configs/resnet20.yaml:LINE train.logicalShards: expected 1, 2, 4, 8, ... a host, so that sums are those of one host, got 3. Use 4 or 8, or allReduce.exact=false.\n',
  );
  assert.equal((await runCommand([...words, ...hosts, 'allReduce.exact=false'])).exitCode, 0);
});
