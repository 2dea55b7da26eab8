/** Several hosts on this machine: one dtrain process each, on ports of the loopback interface. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import { fileURLToPath } from 'node:url';
import { nowSeconds } from '../../src/core/clock.js';
import { temporaryFolder } from './train-run.js';

export const DTRAIN_MAIN = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));

/** Of the all-reduce. */
export const KINDS = ['shared-memory', 'tensorflow'] as const;

/** What a record says of hosts behind "two hosts". */
export function groupText(kind: (typeof KINDS)[number]): string {
  return kind === 'tensorflow' ? ' that are one group of TensorFlow' : '';
}

/** Leaders of process groups: a supervisor and its engine. */
const children = new Set<ChildProcess>();
process.once('exit', () => {
  for (const child of children) signalGroup(child, 'SIGKILL');
});

function signalGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  try {
    process.kill(-child.pid!, signal);
  } catch {
    // it has ended
  }
}

export interface EndedHost {
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;
  /** Seconds of the test's clock. */
  readonly endedAt: number;
}

export class HostProcess {
  readonly child: ChildProcess;
  readonly ended: Promise<EndedHost>;
  #stdout = '';
  #stderr = '';
  readonly #waiting: { text: string; told: () => void }[] = [];

  /** `launcher`: words before the command, such as `ip netns exec NAME`; `program`: another command than dtrain. */
  constructor(
    words: readonly string[],
    env: NodeJS.ProcessEnv = {},
    launcher: readonly string[] = [],
    program: readonly string[] = [process.execPath, DTRAIN_MAIN],
  ) {
    const [file, ...more] = [...launcher, ...program, ...words];
    this.child = spawn(file!, more, { env: { ...process.env, ...env }, cwd: temporaryFolder(), detached: true });
    this.child.stdout!.on('data', (chunk: Buffer) => this.#heard(chunk.toString(), ''));
    this.child.stderr!.on('data', (chunk: Buffer) => this.#heard('', chunk.toString()));
    this.ended = once(this.child, 'close').then(([exitCode]) => {
      const output = { stdout: this.#stdout, stderr: this.#stderr };
      return { exitCode: exitCode as number | null, ...output, endedAt: nowSeconds() };
    });
    children.add(this.child);
  }

  /** A signal to supervisor and engine, as to a machine. */
  signalAll(signal: NodeJS.Signals): void {
    signalGroup(this.child, signal);
  }

  /** The process that trains. */
  enginePid(): number {
    const pid = this.child.pid!;
    return Number(fs.readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ')[0]);
  }

  /** When either output holds `text`. @throws where the process ends before. */
  async tells(text: string): Promise<void> {
    const told = new Promise<void>((resolve) => this.#waiting.push({ text, told: resolve }));
    this.#heard('', '');
    const early = this.ended.then(({ exitCode, stdout, stderr }) => {
      throw new Error(`exit ${exitCode} before "${text}":\n${stdout}${stderr}`);
    });
    await Promise.race([told, early]);
  }

  #heard(stdout: string, stderr: string): void {
    this.#stdout += stdout;
    this.#stderr += stderr;
    for (const { text, told } of this.#waiting) {
      if (this.#stdout.includes(text) || this.#stderr.includes(text)) told();
    }
  }
}

/** Ports that nobody holds now. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => net.createServer().listen(0, '127.0.0.1'));
  await Promise.all(servers.map((server) => once(server, 'listening')));
  const ports = servers.map((server) => (server.address() as net.AddressInfo).port);
  await Promise.all(servers.map((server) => once(server.close(), 'close')));
  return ports;
}

/** `127.0.0.1:p,127.0.0.1:q`. */
export async function loopbackHosts(count: number): Promise<string> {
  return (await freePorts(count)).map((port) => `127.0.0.1:${port}`).join(',');
}

/** Starts host `rank` with what all hosts share; with one worker, where the words do not say. */
export function startHost(
  hosts: string,
  rank: number,
  words: readonly string[],
  launcher: readonly string[] = [],
  env: NodeJS.ProcessEnv = {},
): HostProcess {
  const place = ['--hosts', hosts, '--host-rank', `${rank}`];
  const workers = words.includes('--cpus') ? [] : ['--cpus', '1'];
  return new HostProcess(['--config', 'resnet20', ...workers, ...place, ...words], env, launcher);
}

/** Starts all hosts. */
export async function startHosts(count: number, words: readonly string[]): Promise<HostProcess[]> {
  const hosts = await loopbackHosts(count);
  return Array.from({ length: count }, (_, rank) => startHost(hosts, rank, words));
}

/** All ended, by rank. */
export async function endsOf(hosts: readonly HostProcess[]): Promise<EndedHost[]> {
  return Promise.all(hosts.map(({ ended }) => ended));
}
