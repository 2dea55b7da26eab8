/**
 * What launchers say of several hosts, in environment variables. Pure: the environment is an argument.
 *
 * Idea: one function a launcher, in the order in which they are asked; each gives the hosts with their source, or undefined where the launcher
 * did not start us, or started us alone. A launcher that started several hosts but does not say where they are is an error with the cure, never
 * a silent run of one.
 */
import { checkedHosts, clusterError, expandNodeList } from './host-list.js';

type Environment = Readonly<Record<string, string | undefined>>;

export interface FoundHosts {
  readonly addresses: readonly string[];
  readonly rank: number;
  /** Who said so: `TF_CONFIG`. */
  readonly source: string;
}

/** Where launchers that name no port are met. */
export const DEFAULT_PORT = 8888;

/** The hosts that the first launcher in the environment names. @throws DTRAIN_CLUSTER_INVALID (exit 3). */
export function hostsOfLauncher(env: Environment): FoundHosts | undefined {
  for (const launcher of [tfConfig, indexedJob, trainer, slurm]) {
    const found = launcher(env);
    if (found) return found.addresses.length > 1 ? found : undefined;
  }
  refuseUnknownAddresses(env);
  return undefined;
}

/** This host's rank by a launcher, where the addresses were given otherwise. */
export function rankOfLauncher(env: Environment): { readonly rank: number; readonly source: string } | undefined {
  for (const source of ['JOB_COMPLETION_INDEX', 'PET_NODE_RANK', 'SLURM_NODEID', 'OMPI_COMM_WORLD_RANK']) {
    const rank = wholeNumber(env[source]);
    if (rank !== undefined) return { rank, source };
  }
  return undefined;
}

/** Kubeflow TFJob, Vertex AI: {"cluster": {"chief": [...], "worker": [...]}, "task": {"type": "worker", "index": 0}}; a chief is host 0. */
function tfConfig(env: Environment): FoundHosts | undefined {
  const text = env['TF_CONFIG'];
  if (!text) return undefined;
  const source = 'TF_CONFIG';
  const { cluster = {}, task } = parsed(text, source);
  const others = Object.keys(cluster).filter((job) => !['chief', 'master', 'worker', 'evaluator'].includes(job));
  if (others.length > 0)
    throw clusterError(source, 'the jobs chief and worker', others.join(', '), 'dtrain has no parameter servers.');
  const chiefs = cluster['chief'] ?? cluster['master'] ?? [];
  const addresses = checkedHosts([...chiefs, ...(cluster['worker'] ?? [])], source);
  if (addresses.length === 0) return undefined;
  const type = task?.type ?? '';
  const offset = { chief: 0, master: 0, worker: chiefs.length }[type];
  if (offset === undefined) throw clusterError(source, 'a task of type chief or worker', JSON.stringify(type));
  const rank = offset + Number(task?.index ?? 0);
  return { addresses, rank: checkedRank(rank, addresses, `${source}: task.index`), source };
}

interface TfConfig {
  readonly cluster?: Readonly<Record<string, readonly string[]>>;
  readonly task?: { readonly type?: string; readonly index?: number | string };
}

function parsed(text: string, source: string): TfConfig {
  try {
    const value = JSON.parse(text) as TfConfig | null;
    const lists = Object.values(value?.cluster ?? {});
    const isWhole = lists.every((list) => Array.isArray(list) && list.every((item) => typeof item === 'string'));
    if (typeof value === 'object' && value !== null && isWhole) return value;
  } catch {
    // said below
  }
  throw clusterError(
    source,
    'JSON with cluster {"worker": ["a:8888", ...]} and task',
    JSON.stringify(text.slice(0, 60)),
  );
}

/**
 * An Indexed Job of Kubernetes: pod i is JOB-i.SERVICE. Kubernetes sets JOB_COMPLETION_INDEX and the host name; configs/cluster sets
 * JOB_COMPLETIONS and JOB_SERVICE. Without these two it is a job of independent runs.
 */
function indexedJob(env: Environment): FoundHosts | undefined {
  const rank = wholeNumber(env['JOB_COMPLETION_INDEX']);
  const count = wholeNumber(env['JOB_COMPLETIONS']);
  const service = env['JOB_SERVICE'];
  if (rank === undefined || count === undefined || !service) return undefined;
  const source = 'JOB_COMPLETION_INDEX';
  const ending = `-${rank}`;
  const pod = env['HOSTNAME'] ?? '';
  if (!pod.endsWith(ending)) {
    throw clusterError(
      'HOSTNAME',
      `the name of pod ${rank} of an Indexed Job, JOB${ending}`,
      JSON.stringify(pod),
      'Or set --hosts.',
    );
  }
  const job = pod.slice(0, -ending.length);
  return derived(count, rank, portOf(env, 'JOB_PORT'), source, (i) => `${job}-${i}.${service}`);
}

/** Kubeflow Trainer (torch policy), JobSet: node i is NAME-i.SERVICE, like the master, whose index is 0. */
function trainer(env: Environment): FoundHosts | undefined {
  const count = wholeNumber(env['PET_NNODES']);
  const rank = wholeNumber(env['PET_NODE_RANK']);
  if (count === undefined || rank === undefined || count < 2) return undefined;
  const [, head, tail] = /^(.*)-0(\..*)?$/.exec(env['PET_MASTER_ADDR'] ?? '') ?? [];
  if (head === undefined) {
    const got = JSON.stringify(env['PET_MASTER_ADDR'] ?? '');
    throw clusterError('PET_MASTER_ADDR', 'the name of node 0, NAME-0.SERVICE', got, 'Or set --hosts.');
  }
  return derived(count, rank, portOf(env, 'PET_MASTER_PORT'), 'PET_NNODES', (i) => `${head}-${i}${tail ?? ''}`);
}

/** `srun --ntasks-per-node=1`. */
function slurm(env: Environment): FoundHosts | undefined {
  const count = wholeNumber(env['SLURM_STEP_NUM_NODES'] ?? env['SLURM_NNODES']);
  const rank = wholeNumber(env['SLURM_PROCID']);
  if (count === undefined || rank === undefined || count < 2) return undefined;
  const tasks = wholeNumber(env['SLURM_STEP_NUM_TASKS'] ?? env['SLURM_NTASKS']) ?? count;
  if (tasks !== count) {
    const got = `${tasks} tasks on ${count} nodes`;
    throw clusterError('SLURM_NTASKS', 'one task a node', got, 'Start it with srun --ntasks-per-node=1.');
  }
  const source = env['SLURM_STEP_NODELIST'] ? 'SLURM_STEP_NODELIST' : 'SLURM_JOB_NODELIST';
  const names = expandNodeList(env[source] ?? '', source);
  if (names.length !== count) throw clusterError(source, `${count} nodes`, `${names.length}`);
  return derived(count, rank, DEFAULT_PORT, source, (i) => names[i]!);
}

/** Open MPI and torchrun say how many there are and not where. */
function refuseUnknownAddresses(env: Environment): void {
  for (const name of ['OMPI_COMM_WORLD_SIZE', 'WORLD_SIZE']) {
    const count = wholeNumber(env[name]) ?? 1;
    if (count > 1) {
      throw clusterError(
        name,
        'the addresses of all hosts beside it',
        `${count} and no addresses`,
        'Give them with --hosts A:PORT,B:PORT --host-rank I, one dtrain a host.',
      );
    }
  }
}

function derived(count: number, rank: number, port: number, source: string, name: (i: number) => string): FoundHosts {
  const addresses = checkedHosts(
    Array.from({ length: count }, (_, i) => `${name(i)}:${port}`),
    source,
  );
  return { addresses, rank: checkedRank(rank, addresses, source), source };
}

/** @throws DTRAIN_CLUSTER_INVALID (exit 3). */
export function checkedRank(rank: number, addresses: readonly string[], source: string): number {
  if (Number.isInteger(rank) && rank >= 0 && rank < addresses.length) return rank;
  throw clusterError(source, `a rank from 0 to ${addresses.length - 1}`, `${rank}`);
}

function portOf(env: Environment, name: string): number {
  return wholeNumber(env[name]) ?? DEFAULT_PORT;
}

function wholeNumber(text: string | undefined): number | undefined {
  return text !== undefined && /^[0-9]{1,9}$/.test(text) ? Number(text) : undefined;
}
