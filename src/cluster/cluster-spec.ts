/**
 * Whether this run is on several hosts, which they are, and which one this is.
 *
 * Idea: flags, then the configuration, then the launchers; the first that names hosts wins, and it is said which. One address is one host, so
 * that `--hosts localhost:8888` keeps a launcher's variables out.
 * Must stay true: several hosts only where the user says that the network is trusted, whoever named the hosts.
 */
import type { RunConfig } from '../config/schema.js';
import { DtrainError, ExitCode } from '../core/errors.js';
import { checkedHosts, clusterError, nameOf, parseHosts } from './host-list.js';
import { checkedRank, type FoundHosts, hostsOfLauncher, rankOfLauncher } from './launchers.js';

/** Plain data. */
export interface ClusterSpec {
  /** `host:port`, by rank; two or more. */
  readonly addresses: readonly string[];
  /** Of this host. */
  readonly rank: number;
}

export interface ClusterSources {
  /** `--hosts`. */
  readonly hosts?: string | undefined;
  /** `--host-rank`. */
  readonly hostRank?: number | undefined;
  readonly config: RunConfig;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** The name of this machine. */
  readonly hostname: string;
  readonly say: (line: string) => void;
}

/**
 * Undefined: one host.
 * @throws DTRAIN_CLUSTER_INVALID, DTRAIN_UNTRUSTED_NETWORK (exit 3).
 */
export function clusterSpec(sources: ClusterSources): ClusterSpec | undefined {
  const given = givenHosts(sources);
  const found = given ?? hostsOfLauncher(sources.env);
  if (!found) {
    if (sources.hostRank === undefined) return undefined;
    throw clusterError('--host-rank', '--hosts beside it, or cluster.hosts', 'neither');
  }
  const { addresses, rank, source } = found;
  if (addresses.length === 1) return undefined;
  sources.say(`cluster: ${addresses.length} hosts by ${source}; this is host ${rank} (${addresses[rank]})`);
  if (!sources.config.cluster.trustedNetwork) throw untrusted(addresses[rank]!);
  return { addresses, rank };
}

/** From flags or the configuration. */
function givenHosts(sources: ClusterSources): FoundHosts | undefined {
  const { hosts, config } = sources;
  if (hosts !== undefined) return withRank(parseHosts(hosts, '--hosts'), '--hosts', sources);
  if (config.cluster.hosts === null) return undefined;
  return withRank(checkedHosts(config.cluster.hosts, 'cluster.hosts'), 'cluster.hosts', sources);
}

/** The rank by flag, configuration, launcher, or by this machine's name in the list. */
function withRank(addresses: readonly string[], source: string, sources: ClusterSources): FoundHosts {
  const { hostRank, config, env, hostname } = sources;
  if (addresses.length === 1) return { addresses, rank: 0, source };
  const names = addresses.map(nameOf);
  const own = names.filter((name) => name === hostname || name.startsWith(`${hostname}.`));
  const byName = own.length === 1 ? { rank: names.indexOf(own[0]!), source: 'the name of this machine' } : undefined;
  const chosen =
    (hostRank === undefined ? undefined : { rank: hostRank, source: '--host-rank' }) ??
    (config.cluster.hostRank === null ? undefined : { rank: config.cluster.hostRank, source: 'cluster.hostRank' }) ??
    rankOfLauncher(env) ??
    byName;
  if (!chosen) throw clusterError('--host-rank', `a rank from 0 to ${addresses.length - 1}`, 'nothing');
  const rank = checkedRank(chosen.rank, addresses, chosen.source);
  return { addresses, rank, source: chosen.source.startsWith('--') ? source : `${source} and ${chosen.source}` };
}

function untrusted(address: string): DtrainError {
  const text =
    'cluster.trustedNetwork: expected true, got false. On several hosts TensorFlow listens on port ' +
    `${address.slice(address.lastIndexOf(':') + 1)} of every network interface, with no authentication and no encryption: ` +
    'who reaches that port can run code here. Let only these hosts reach it (docs/cluster.md says how), then add cluster.trustedNetwork=true.';
  return new DtrainError('DTRAIN_UNTRUSTED_NETWORK', ExitCode.configuration, text);
}
