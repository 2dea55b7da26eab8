/** Hosts of their own on this machine: network namespaces, a line between them, and names. Needs Linux, `ip` and root. */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { after } from 'node:test';

/** A host: its namespace, and the words before a command that runs in it. */
export interface NetworkHost {
  readonly namespace: string;
  readonly address: string;
  readonly launcher: readonly string[];
}

/** Runs a command of plain words; whether it went well. */
export function did(command: string): boolean {
  const [file, ...words] = command.split(' ');
  return spawnSync(file!, words, { stdio: 'ignore' }).status === 0;
}

/**
 * Two hosts with a line between their devices `eth`, known to each other by `names`; undefined where this machine cannot. Removed after the
 * tests of the file.
 */
export function networkHosts(names: readonly [string, string]): readonly NetworkHost[] | undefined {
  const hosts = names.map((_, i): NetworkHost => {
    const namespace = `dtrain-${process.pid}-${i}`;
    return { namespace, address: `10.213.77.${i + 1}`, launcher: ['ip', 'netns', 'exec', namespace] };
  });
  const table = hosts.map(({ address }, i) => `${address} ${names[i]}\n`).join('');
  after(() => {
    for (const { namespace } of hosts) {
      did(`ip netns delete ${namespace}`);
      fs.rmSync(`/etc/netns/${namespace}`, { recursive: true, force: true });
    }
  });
  const [first, second] = hosts;
  const isMade =
    hosts.every(({ namespace }) => did(`ip netns add ${namespace}`)) &&
    did(`ip -n ${first!.namespace} link add eth type veth peer name eth netns ${second!.namespace}`) &&
    hosts.every(
      ({ namespace, address }) =>
        did(`ip -n ${namespace} address add ${address}/24 dev eth`) &&
        did(`ip -n ${namespace} link set eth up`) &&
        did(`ip -n ${namespace} link set lo up`),
    );
  if (!isMade) return undefined;
  for (const { namespace } of hosts) {
    // `ip netns exec` lays these over /etc.
    fs.mkdirSync(`/etc/netns/${namespace}`, { recursive: true });
    fs.writeFileSync(`/etc/netns/${namespace}/hosts`, `127.0.0.1 localhost\n${table}`);
  }
  return hosts;
}
