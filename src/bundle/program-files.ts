/**
 * The files of the running dtrain and of the packages that it imports, as they lie in a bundle: `app/…`.
 *
 * Idea: the packages are found as Node finds them, from the package that needs each, and laid out anew: as high as possible, nested only
 * where two versions of one name are needed. So it does not matter who installed them (npm, pnpm, yarn), nor what else lies beside them.
 * Must stay true: in the new layout every package finds the same packages as in the old one.
 */
import fs from 'node:fs';
import path from 'node:path';
import { DtrainError, ExitCode, internalError } from '../core/errors.js';

export interface ProgramFile {
  /** In the bundle, with forward slashes. */
  readonly path: string;
  /** Absolute. */
  readonly source: string;
  readonly isExecutable: boolean;
}

interface PackageJson {
  readonly name: string;
  readonly version: string;
  readonly main?: string;
  readonly files?: readonly string[];
  readonly os?: readonly string[];
  readonly cpu?: readonly string[];
  readonly libc?: readonly string[];
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
  readonly peerDependencies?: Readonly<Record<string, string>>;
}

/** A package at its place in the bundle. */
interface Placed {
  /** Real path of its folder. */
  readonly source: string;
  /** `app`, or `app/node_modules/zod`. */
  readonly place: string;
}

/**
 * `root` is the folder of dtrain's own package.json. Sorted by path.
 * @throws DTRAIN_BUNDLE_PROGRAM (exit 4) where a package that it needs is not installed.
 */
export function programFiles(root: string): readonly ProgramFile[] {
  const own = fs.realpathSync(root);
  const files = placePackages(own).flatMap(({ source, place }) => {
    const inside = source === own ? publishedFiles(own) : filesUnder(source, '').filter(wantedOf(source));
    return inside.map((file) => programFile(path.join(source, file), `${place}/${file}`));
  });
  return files.sort((a, b) => (a.path < b.path ? -1 : 1));
}

export function programFile(source: string, inBundle: string): ProgramFile {
  return { path: inBundle, source, isExecutable: (fs.statSync(source).mode & 0o100) !== 0 };
}

/** dtrain's version. */
export function programVersion(root: string): string {
  return packageJson(root).version;
}

/** All packages that are needed, each at its place; `own` is the first. */
function placePackages(own: string): readonly Placed[] {
  const taken = new Map<string, string>([['app', own]]);
  const placed: Placed[] = [{ source: own, place: 'app' }];
  for (const { source, place } of placed) {
    for (const [name, dependency] of dependenciesOf(source)) {
      const seen = lookUp(taken, place, name);
      if (seen === dependency) continue;
      const at = `${seen === undefined ? 'app' : place}/node_modules/${name}`;
      taken.set(at, dependency);
      placed.push({ source: dependency, place: at });
    }
  }
  for (const { source, place } of placed) {
    for (const [name, dependency] of dependenciesOf(source)) {
      if (lookUp(taken, place, name) !== dependency)
        throw internalError(`${place} would find another ${name} than ${dependency}`);
    }
  }
  return placed;
}

/** What `name` means for the package at `place`: as Node does it, in the nearest node_modules above. */
function lookUp(taken: ReadonlyMap<string, string>, place: string, name: string): string | undefined {
  for (let folder = place; folder !== '.'; folder = path.posix.dirname(folder)) {
    const found = taken.get(`${folder}/node_modules/${name}`);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** Name and folder of each package that the one in `source` needs and that runs here; types are not needed. */
function dependenciesOf(source: string): readonly (readonly [name: string, folder: string])[] {
  const { dependencies = {}, optionalDependencies = {}, peerDependencies = {} } = packageJson(source);
  const names = new Set([dependencies, optionalDependencies, peerDependencies].flatMap(Object.keys));
  return [...names].sort().flatMap((name) => {
    if (name.startsWith('@types/') || name === '@webgpu/types') return [];
    const folder = findPackage(name, source);
    if (folder !== undefined) return runsHere(packageJson(folder)) ? [[name, folder] as const] : [];
    if (!(name in dependencies) || name in optionalDependencies) return [];
    const message = `${source}: expected the package ${name}, which it needs, and found none. Install dtrain anew: npm install`;
    throw new DtrainError('DTRAIN_BUNDLE_PROGRAM', ExitCode.environment, message);
  });
}

function findPackage(name: string, from: string): string | undefined {
  for (let folder = from; ; folder = path.dirname(folder)) {
    const found = path.join(folder, 'node_modules', name);
    if (fs.existsSync(path.join(found, 'package.json'))) return fs.realpathSync(found);
    if (folder === path.dirname(folder)) return undefined;
  }
}

/** Packages with native code say for which machines they are. */
function runsHere({ os, cpu, libc }: PackageJson): boolean {
  const allows = (list: readonly string[] | undefined, value: string) =>
    list === undefined ||
    (!list.includes(`!${value}`) && (list.includes(value) || list.every((x) => x.startsWith('!'))));
  return allows(os, 'linux') && allows(cpu, 'x64') && allows(libc, 'glibc');
}

/** What npm would publish of dtrain, without what only tools read. */
function publishedFiles(own: string): readonly string[] {
  const { files = [] } = packageJson(own);
  const all = ['package.json', ...files].flatMap((name) =>
    fs.statSync(path.join(own, name), { throwIfNoEntry: false })?.isDirectory() ? filesUnder(own, name) : [name],
  );
  return all.filter((file) => fs.existsSync(path.join(own, file)) && !FOR_TOOLS.test(file));
}

/** For debuggers, compilers and readers; and the C sources of koffi, which is there as a binary. */
const FOR_TOOLS = /(\.map|\.[cm]?ts|\.tsbuildinfo|\.html|\.md|\.cc?|\.hh?|\.inc|\.S|\.asm)$/;
const LICENCE = /(^|\/)(licen[cs]e|notice|copying)[^/]*$/i;

/** Which files of the package in `source`. tfjs's packages hold eight builds each: only the one that Node loads goes in. */
function wantedOf(source: string): (file: string) => boolean {
  const { name, main = 'index.js' } = packageJson(source);
  const isWanted = name.startsWith('@tensorflow/tfjs')
    ? (file: string) => file === 'package.json' || file === path.posix.normalize(main)
    : (file: string) => !FOR_TOOLS.test(file);
  return (file) => LICENCE.test(file) || isWanted(file);
}

/** Regular files of `folder` below `inside`, without packages that lie nested in it. */
function filesUnder(folder: string, inside: string): readonly string[] {
  return fs
    .readdirSync(path.join(folder, inside), { withFileTypes: true })
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .flatMap((entry) => {
      const file = path.posix.join(inside, entry.name);
      if (entry.isFile()) return [file];
      return entry.isDirectory() && !isNestedPackages(file) ? filesUnder(folder, file) : [];
    });
}

/** Packages of a dependency have places of their own; the kernels in dist/node_modules are dtrain's. */
function isNestedPackages(folder: string): boolean {
  return folder === 'node_modules';
}

const manifests = new Map<string, PackageJson>();

function packageJson(folder: string): PackageJson {
  const known = manifests.get(folder);
  if (known !== undefined) return known;
  const manifest = JSON.parse(fs.readFileSync(path.join(folder, 'package.json'), 'utf8')) as PackageJson;
  manifests.set(folder, manifest);
  return manifest;
}
