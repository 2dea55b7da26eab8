/** Hosts of their own on this machine: network namespaces, a line between them, and names. Needs Linux, `ip` and root. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import { after } from 'node:test';
import { fileURLToPath } from 'node:url';

const SLOW_LINE = fileURLToPath(new URL('../../../test/support/slow_line.py', import.meta.url));

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
 * Two hosts with a line between their devices `eth`, known to each other by `names` (of one host several, with spaces between); undefined where this machine cannot. Removed after the
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

/** A second line between two hosts, slow and lossy; it has other addresses. */
export class SlowLine {
  readonly addresses: readonly string[];
  readonly #child: ChildProcess;
  #output = '';

  private constructor(child: ChildProcess, addresses: readonly string[]) {
    this.#child = child;
    this.addresses = addresses;
    child.stdout!.on('data', (chunk: Buffer) => (this.#output += chunk.toString()));
  }

  /** Undefined where this machine cannot. `loss`: the share of frames that do not arrive. */
  static async between(
    hosts: readonly NetworkHost[],
    milliseconds: number,
    loss: number,
  ): Promise<SlowLine | undefined> {
    const names = hosts.map(({ namespace }) => namespace);
    const words = [SLOW_LINE, ...names, `${milliseconds}`, `${loss}`, '1'];
    const child = spawn('python3', words, { stdio: ['pipe', 'pipe', 'inherit'] });
    after(() => child.kill('SIGKILL'));
    const line = new SlowLine(child, ['10.213.78.1', '10.213.78.2']);
    const ended = once(child, 'close');
    const isReady = await Promise.race([once(child.stdout!, 'data').then(() => true), ended.then(() => false)]);
    const isMade =
      isReady && line.addresses.every((address, i) => did(`ip -n ${names[i]} address add ${address}/24 dev slow`));
    return isMade ? line : undefined;
  }

  /** Removes it; gives the frames that were sent and how many of them were lost. */
  async end(): Promise<{ frames: number; lost: number }> {
    this.#child.stdin!.end();
    await once(this.#child, 'close');
    const [, frames, lost] = /(\d+) frames, (\d+) lost/.exec(this.#output) ?? [];
    return { frames: Number(frames), lost: Number(lost) };
  }
}
