/** Addresses of hosts as people and launchers write them. Pure. */
import { DtrainError, ExitCode } from '../core/errors.js';

const MAX_HOSTS = 1024;
const MAX_PORT = 65_535;
/** A name or an IPv4 address, or an IPv6 address in brackets, and a port. */
const ADDRESS = /^([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]):([0-9]{1,5})$/;

/** `a:8888,b:8888` as a list. @throws DTRAIN_CLUSTER_INVALID (exit 3), naming `source`. */
export function parseHosts(text: string, source: string): readonly string[] {
  return checkedHosts(text.split(','), source);
}

/** The same list, checked: every one host:port, none twice. @throws DTRAIN_CLUSTER_INVALID (exit 3). */
export function checkedHosts(addresses: readonly string[], source: string): readonly string[] {
  if (addresses.length > MAX_HOSTS) throw clusterError(source, `at most ${MAX_HOSTS} hosts`, `${addresses.length}`);
  for (const [i, address] of addresses.entries()) {
    const port = Number(ADDRESS.exec(address)?.[2]);
    if (!(port >= 1 && port <= MAX_PORT)) {
      throw clusterError(source, 'host:port of every host, such as a:8888,b:8888', JSON.stringify(address));
    }
    if (addresses.indexOf(address) !== i) throw clusterError(source, 'every address once', `${address} twice`);
  }
  return addresses;
}

/** The name of an address, without its port. */
export function nameOf(address: string): string {
  return address.slice(0, address.lastIndexOf(':'));
}

/**
 * Slurm's short form of node names, `n[1-3,07],login`, as a list: https://slurm.schedmd.com/scontrol.html, "hostlist".
 * One range a name. @throws DTRAIN_CLUSTER_INVALID (exit 3).
 */
export function expandNodeList(text: string, source: string): readonly string[] {
  const parts = text.match(/[^,[]+(\[[^\]]*\])?[^,[]*/g) ?? [];
  if (text === '' || parts.join(',') !== text)
    throw clusterError(source, "Slurm's list of nodes, such as n[1-3,7]", JSON.stringify(text));
  return parts.flatMap((part) => {
    const [, head, ranges, tail] = /^([^[]*)\[([^\]]*)\](.*)$/.exec(part) ?? [];
    if (ranges === undefined) return [part];
    return ranges.split(',').flatMap((range) => numbersOf(range, source).map((number) => `${head}${number}${tail}`));
  });
}

/** `08-11` as 08, 09, 10, 11. */
function numbersOf(range: string, source: string): string[] {
  const [, first, last = first] = /^([0-9]{1,9})(?:-([0-9]{1,9}))?$/.exec(range) ?? [];
  const count = Number(last) - Number(first) + 1;
  if (!(count >= 1 && count <= MAX_HOSTS)) {
    throw clusterError(source, `ranges of at most ${MAX_HOSTS} nodes, such as 1-3`, JSON.stringify(range));
  }
  return Array.from({ length: count }, (_, i) => `${Number(first) + i}`.padStart(first!.length, '0'));
}

/** `source: expected X, got Y.` */
export function clusterError(source: string, expected: string, got: string, cure = ''): DtrainError {
  const text = `${source}: expected ${expected}, got ${got}.${cure === '' ? '' : ` ${cure}`}`;
  return new DtrainError('DTRAIN_CLUSTER_INVALID', ExitCode.configuration, text);
}
