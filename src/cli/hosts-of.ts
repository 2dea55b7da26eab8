/** The hosts of a command: `--hosts`, `--host-rank`, the configuration and the launchers' variables, as the run layer takes them. */
import os from 'node:os';
import type { ClusterSpec } from '../cluster/cluster-spec.js';
import type { RunConfig } from '../config/schema.js';
import type { Context } from './context.js';
import type { Flags } from './flags.js';

const MAX_RANK = 1023;

export interface HostWords {
  readonly hosts: string | undefined;
  readonly hostRank: number | undefined;
}

export function hostWords(flags: Flags): HostWords {
  return { hosts: flags.text('hosts'), hostRank: flags.count('host-rank', undefined, { min: 0, max: MAX_RANK }) };
}

/** Undefined on one host. @throws DTRAIN_CLUSTER_INVALID, DTRAIN_UNTRUSTED_NETWORK (exit 3). */
export async function hostsOf(
  words: HostWords,
  config: RunConfig,
  { console, env }: Context,
): Promise<ClusterSpec | undefined> {
  const { clusterSpec } = await import('../cluster/cluster-spec.js');
  return clusterSpec({ ...words, config, env, hostname: os.hostname(), say: (line) => console.say(line) });
}
