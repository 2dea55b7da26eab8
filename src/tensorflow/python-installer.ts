/**
 * The two programs that can fetch wheels, uv and pip, run so that they keep their own configuration (index, proxy, certificates) and yet
 * fail in time: a program that has opened sockets but connected none of them within five seconds counts as cut off from its index.
 */
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import { nowSeconds } from '../core/clock.js';

export interface Installer {
  /** As a person would type it. */
  readonly name: string;
  readonly command: string;
  readonly arguments: (requirements: string, target: string) => readonly string[];
}

/** pip takes a wheel only for a platform that is named; NVIDIA's and TensorFlow's wheels are for these. All run with glibc 2.28. */
const PLATFORMS = [
  'manylinux_2_28',
  'manylinux_2_27',
  'manylinux_2_25',
  'manylinux_2_24',
  'manylinux_2_17',
  'manylinux2014',
].map((name) => `${name}_x86_64`);

/** uv (fast) first; both install wheels for CPython 3.12 whatever Python runs them: only the libraries inside matter. */
export const INSTALLERS: readonly Installer[] = [
  {
    name: 'uv pip',
    command: 'uv',
    arguments: (requirements, target) =>
      ['pip', 'install', '--no-deps', '--require-hashes', '--only-binary', ':all:', '--target', target].concat([
        '--python-platform',
        'x86_64-manylinux_2_28',
        '--python-version',
        '3.12',
        '-r',
        requirements,
      ]),
  },
  {
    name: 'python3 -m pip',
    command: 'python3',
    arguments: (requirements, target) =>
      ['-m', 'pip', 'install', '--no-deps', '--require-hashes', '--only-binary=:all:', '--target', target].concat([
        ...PLATFORMS.flatMap((platform) => ['--platform', platform]),
        '--python-version',
        '3.12',
        '--implementation',
        'cp',
        '-r',
        requirements,
      ]),
  },
];

export type InstallerFailure =
  | { readonly kind: 'absent' }
  | { readonly kind: 'unreachable' | 'wrongHash' | 'diskFull' | 'other'; readonly output: string };

export interface InstallerRun {
  readonly requirements: string;
  readonly target: string;
  /** For the program's temporary files; on the same disk as `target`. */
  readonly temporaryFolder: string;
  readonly env: NodeJS.ProcessEnv;
  /** Gets the lines of the program that say what it fetches. */
  readonly say: (line: string) => void;
}

const CONNECT_SECONDS = 5;
const LOOK_MILLISECONDS = 200;

/** Runs the installer; null when it has installed all. Never throws for what the program does. */
export async function runInstaller(installer: Installer, run: InstallerRun): Promise<InstallerFailure | null> {
  const child = spawn(installer.command, installer.arguments(run.requirements, run.target), {
    env: { UV_HTTP_RETRIES: '2', ...run.env, ...SETTINGS, TMPDIR: run.temporaryFolder },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  let cutOff = false;
  const watch = watchConnection(
    child.pid,
    () => output,
    (pids) => {
      cutOff = true;
      pids.forEach(killProcess);
    },
  );
  const receive = (text: string) => {
    output += text;
    for (const line of text.split('\n'))
      if (/^\s*(Downloading|Downloaded|Using cached|Processing) /.test(line)) run.say(line.trim());
  };
  child.stdout.setEncoding('utf8').on('data', receive);
  child.stderr.setEncoding('utf8').on('data', receive);
  const status = await new Promise<number | 'absent' | null>((resolve) => {
    child.once('error', () => resolve('absent'));
    child.once('close', resolve);
  });
  clearInterval(watch);
  if (status === 0) return null;
  if (status === 'absent' || /No module named pip/.test(output)) return { kind: 'absent' };
  return { kind: cutOff ? 'unreachable' : failureKind(output), output };
}

/** What would make uv or pip stop and ask, refuse `--target`, or print what nobody reads. */
const SETTINGS = {
  PIP_DISABLE_PIP_VERSION_CHECK: '1',
  PIP_NO_INPUT: '1',
  PIP_PROGRESS_BAR: 'off',
  PIP_REQUIRE_VIRTUALENV: '0',
  PIP_ROOT_USER_ACTION: 'ignore',
  PIP_USER: '0',
  UV_NO_PROGRESS: '1',
  UV_PYTHON_DOWNLOADS: 'never',
};

const FAILURES: readonly (readonly [kind: 'unreachable' | 'wrongHash' | 'diskFull', pattern: RegExp])[] = [
  ['wrongHash', /DO NOT MATCH THE HASHES|Hash mismatch/i],
  ['diskFull', /No space left on device/i],
  [
    'unreachable',
    /establish a new connection|ConnectTimeout|ConnectionReset|name resolution|Name or service not known|unreachable|Connection refused|No route to host|dns error|tcp connect error|error sending request|ProxyError|Tunnel connection failed/i,
  ],
];

function failureKind(output: string): 'unreachable' | 'wrongHash' | 'diskFull' | 'other' {
  return FAILURES.find(([, pattern]) => pattern.test(output))?.[0] ?? 'other';
}

/**
 * Calls `cutOff` once, with the processes of the installer (python3 may be a script that starts the real one), when they have tried for five
 * seconds to connect and no connection stood; stops looking at the first connection.
 */
function watchConnection(
  root: number | undefined,
  output: () => string,
  cutOff: (pids: readonly number[]) => void,
): NodeJS.Timeout {
  let tryingSince: number | undefined;
  const timer = setInterval(() => {
    const pids = root === undefined ? [] : processTree(root);
    const states = pids.map(stateOfSockets);
    if (states.includes('connected')) return clearInterval(timer);
    if (states.includes('connecting') || /Retrying/.test(output())) tryingSince ??= nowSeconds();
    if (tryingSince === undefined || nowSeconds() - tryingSince < CONNECT_SECONDS) return;
    clearInterval(timer);
    cutOff(pids);
  }, LOOK_MILLISECONDS);
  return timer;
}

/** The process and all that it started and they did, from /proc. */
function processTree(root: number): number[] {
  const parents = new Map<number, number>();
  for (const entry of fs.readdirSync('/proc')) {
    if (/^\d+$/.test(entry)) parents.set(Number(entry), parentOf(entry));
  }
  const isBelowRoot = (pid: number | undefined): boolean =>
    pid === root || (pid !== undefined && pid > 1 && isBelowRoot(parents.get(pid)));
  return [...parents.keys()].filter(isBelowRoot);
}

function parentOf(pid: string): number {
  try {
    const stat = fs.readFileSync(`/proc/${pid}/stat`, 'utf8');
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
  } catch {
    return 0; // ended meanwhile
  }
}

function killProcess(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // ended meanwhile
  }
}

const TCP_ESTABLISHED = '01';

/** The network sockets of a process, from /proc: a TCP connection stands, or it waits for one (or for the answer of a name server), or none. */
function stateOfSockets(pid: number): 'connected' | 'connecting' | 'none' {
  try {
    const links = fs.readdirSync(`/proc/${pid}/fd`).map((fd) => readLink(`/proc/${pid}/fd/${fd}`));
    const inodes = new Set(links.map((link) => /^socket:\[(\d+)\]$/.exec(link)?.[1]));
    const own = (table: string) =>
      readSocketTable(`/proc/${pid}/net/${table}`).filter(({ inode }) => inodes.has(inode));
    const tcp = [...own('tcp'), ...own('tcp6')];
    if (tcp.some(({ state }) => state === TCP_ESTABLISHED)) return 'connected';
    return tcp.length + own('udp').length + own('udp6').length > 0 ? 'connecting' : 'none';
  } catch {
    return 'none'; // the process has ended, or /proc is closed to us: then the program's own time limits must do
  }
}

function readLink(file: string): string {
  try {
    return fs.readlinkSync(file);
  } catch {
    return ''; // closed meanwhile
  }
}

/** The columns `st` and `inode` of a table such as /proc/net/tcp. */
function readSocketTable(file: string): { state: string; inode: string }[] {
  const rows = fs.readFileSync(file, 'utf8').trim().split('\n').slice(1);
  return rows.map((row) => {
    const columns = row.trim().split(/\s+/);
    return { state: columns[3]!, inode: columns[9]! };
  });
}
