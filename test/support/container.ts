/**
 * A container of a root, without an engine: processes of their own, a network of its own with nothing in it, a root that cannot be written, the
 * image's user without any privilege, and the folders that an engine would mount. As `docker run --read-only --network none --cap-drop ALL
 * --security-opt no-new-privileges --tmpfs /tmp`. Needs root, `unshare` and `nsenter`.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import type { ImageSettings } from './dockerfile.js';

export interface ContainerOptions {
  readonly root: string;
  readonly settings: ImageSettings;
  /** A folder of this machine, mounted as /workspace/runs. */
  readonly runs: string;
  /** Beside what the image has. */
  readonly env?: Readonly<Record<string, string>>;
  /** A network of this machine instead of none: its namespace. */
  readonly network?: string;
}

/** Words: root, uid, folder of the runs; then the command. /dev/shm has what Docker gives. */
const MOUNTS = `
root=$1 user=$2 runs=$3; shift 3
own="uid=$user,gid=$user"
mount --bind "$root" "$root"
mount -t tmpfs -o mode=755 none "$root/dev"
for device in null zero full random urandom tty; do touch "$root/dev/$device"; mount --bind "/dev/$device" "$root/dev/$device"; done
ln -s /proc/self/fd "$root/dev/fd"
mkdir "$root/dev/shm"; mount -t tmpfs -o mode=1777,size=64m none "$root/dev/shm"
touch "$root/etc/hosts"; mount --bind /etc/hosts "$root/etc/hosts"
mount -o remount,bind,ro "$root"
mount -t proc none "$root/proc"
mount -t tmpfs -o mode=1777 none "$root/tmp"
mount -t tmpfs -o "$own" none "$root/cache"
mount --bind "$runs" "$root/workspace/runs"
exec chroot "$root" /usr/bin/setpriv --reuid "$user" --regid "$user" --clear-groups --no-new-privs --bounding-set -all --inh-caps -all "$@"
`;

export interface EndedContainer {
  readonly exitCode: number | null;
  readonly output: string;
}

export class Container {
  readonly ended: Promise<EndedContainer>;
  readonly #child: ChildProcess;
  readonly #environment: readonly string[];
  readonly #user: string;
  readonly #workdir: string;
  #output = '';

  /** Runs the image's entry with the words of `command`. */
  constructor({ root, settings, runs, env = {}, network }: ContainerOptions, command: readonly string[]) {
    this.#user = settings.user.split(':')[0]!;
    this.#workdir = settings.workdir;
    this.#environment = Object.entries({
      PATH: '/usr/local/bin:/usr/bin:/bin',
      HOME: settings.workdir,
      ...settings.env,
      ...env,
    }).map(([name, value]) => `${name}=${value}`);
    const inside = [
      '/usr/bin/env',
      '-i',
      '-C',
      settings.workdir,
      ...this.#environment,
      ...settings.entrypoint,
      ...command,
    ];
    const spaces = [
      'unshare',
      '--mount',
      '--pid',
      '--ipc',
      '--uts',
      '--fork',
      '--kill-child',
      ...(network ? [] : ['--net']),
    ];
    const words = [...spaces, '/bin/sh', '-ec', MOUNTS, 'sh', root, this.#user, runs, ...inside];
    const [file, ...rest] = network ? ['ip', 'netns', 'exec', network, ...words] : words;
    this.#child = spawn(file!, rest);
    for (const stream of [this.#child.stdout!, this.#child.stderr!])
      stream.on('data', (chunk: Buffer) => (this.#output += chunk.toString()));
    this.ended = once(this.#child, 'close').then(([exitCode]) => ({
      exitCode: exitCode as number | null,
      output: this.#output,
    }));
    process.once('exit', () => this.end());
  }

  get output(): string {
    return this.#output;
  }

  /** Process 1 of the container, by its number out here; undefined before it is there. */
  #first(): string | undefined {
    const { pid } = this.#child;
    try {
      return fs.readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ')[0] || undefined;
    } catch {
      return undefined;
    }
  }

  /** Of process 1. */
  get commandLine(): string {
    const first = this.#first();
    return first === undefined ? '' : fs.readFileSync(`/proc/${first}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
  }

  /** As `docker stop` begins, and `docker kill -s`: to process 1 alone. */
  signal(name: NodeJS.Signals): void {
    process.kill(Number(this.#first()), name);
  }

  /** As `docker exec`: a command beside what runs. */
  run(words: readonly string[]): { status: number | null; output: string } {
    const spaces = ['--target', this.#first()!, '--mount', '--pid', '--net', '--root'];
    const user = ['--setuid', this.#user, '--setgid', this.#user];
    const inside = ['/usr/bin/env', '-i', '-C', this.#workdir, ...this.#environment, ...words];
    const { status, stdout, stderr } = spawnSync('nsenter', [...spaces, ...user, ...inside], { encoding: 'utf8' });
    return { status, output: stdout + stderr };
  }

  /** When its own process 1 runs, and no more the shell that makes the container. */
  async begun(): Promise<void> {
    while (!this.commandLine.startsWith('tini ')) {
      if (this.#child.exitCode !== null) throw new Error(this.#output);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  /** Kills all of it. */
  end(): void {
    this.#child.kill('SIGKILL');
  }

  /** When the output holds `text`. @throws where the container ends before. */
  async tells(text: string): Promise<void> {
    while (!this.#output.includes(text)) {
      const isOver = await Promise.race([
        this.ended.then(() => true),
        new Promise((resolve) => setTimeout(resolve, 50, false)),
      ]);
      if (isOver && !this.#output.includes(text)) throw new Error(`ended before "${text}":\n${this.#output}`);
    }
  }
}
