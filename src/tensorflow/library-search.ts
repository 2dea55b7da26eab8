/**
 * Where TensorFlow's C library is: the first of DTRAIN_TENSORFLOW_LIB, the cache folder (dtrain setup), the active Python environment, and
 * what python3 itself would import. Opens nothing: whether the library works is shown by loading it.
 */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { DtrainError, ExitCode } from '../core/errors.js';
import { cacheFolder } from '../core/home.js';
import {
  installFolder,
  LIBRARY_NAME,
  type LibraryVariant,
  libraryPath,
  readInstallation,
  stagingFolders,
  TENSORFLOW_VERSION,
  takenParts,
} from './install-manifest.js';

export interface FoundLibrary {
  /** Absolute path of libtensorflow_cc.so.2; libtensorflow_framework.so.2 lies beside it. */
  readonly path: string;
  readonly variant: LibraryVariant;
  /** For people: what led to it. */
  readonly source: string;
}

/** One place of the search: a library, or why there is none. */
type Place = FoundLibrary | { readonly source: string; readonly why: string };

/**
 * The library to load. Throws DTRAIN_LIBRARY_MISSING (exit 4) that lists the places searched. With neither variable nor cache it starts
 * python3 once, for at most three seconds.
 */
export function findLibrary(env: NodeJS.ProcessEnv, hasDriver: boolean = hasNvidiaDriver()): FoundLibrary {
  const searched: { source: string; why: string }[] = [];
  for (const place of places(env, hasDriver)) {
    if ('path' in place) return place;
    searched.push(place);
  }
  const lines = searched.map(({ source, why }) => `  ${source}: ${why}`);
  const message =
    `TensorFlow: expected the C library ${LIBRARY_NAME} of version ${TENSORFLOW_VERSION}, found none. Install it: dtrain setup, or without a network: dtrain setup --from-bundle DIR\n` +
    `Searched:\n${lines.join('\n')}`;
  throw new DtrainError('DTRAIN_LIBRARY_MISSING', ExitCode.environment, message);
}

/** Whether the kernel has loaded NVIDIA's driver. */
export function hasNvidiaDriver(): boolean {
  return fs.existsSync('/proc/driver/nvidia/version') || fs.existsSync('/dev/nvidiactl');
}

function* places(env: NodeJS.ProcessEnv, hasDriver: boolean): Generator<Place> {
  const asked = env['DTRAIN_TENSORFLOW_LIB'];
  if (asked) {
    yield askedPlace(asked);
  } else {
    yield { source: 'DTRAIN_TENSORFLOW_LIB', why: 'not set' };
  }
  // Without a driver the GPU build runs too, but loads more.
  const variants: LibraryVariant[] = hasDriver ? ['gpu', 'cpu'] : ['cpu', 'gpu'];
  for (const variant of variants) yield cachePlace(cacheFolder(env), variant);
  for (const name of ['VIRTUAL_ENV', 'CONDA_PREFIX']) {
    const prefix = env[name];
    if (prefix) yield* environmentPlaces(name, prefix);
  }
  yield pythonPlace(env);
}

/** A file, or the folder that holds the library. Throws DTRAIN_LIBRARY_MISSING: where one is asked for, no other will do. */
function askedPlace(asked: string): FoundLibrary {
  const stat = fs.statSync(asked, { throwIfNoEntry: false });
  const file = path.resolve(stat?.isDirectory() ? path.join(asked, LIBRARY_NAME) : asked);
  if (fs.existsSync(file)) return { path: file, variant: variantBeside(file), source: 'DTRAIN_TENSORFLOW_LIB' };
  const message =
    `DTRAIN_TENSORFLOW_LIB: expected ${LIBRARY_NAME} of version ${TENSORFLOW_VERSION} or a folder that holds it, got ${asked}, ` +
    `${stat === undefined ? 'which does not exist' : 'which holds none'}. Correct the variable, or unset it and run dtrain setup.`;
  throw new DtrainError('DTRAIN_LIBRARY_MISSING', ExitCode.environment, message);
}

function cachePlace(cache: string, variant: LibraryVariant): Place {
  const source = installFolder(cache, variant);
  if (readInstallation(source) !== null) return { path: libraryPath(source), variant, source };
  const coming = stagingFolders(path.dirname(source), variant).map(takenParts)[0];
  if (coming) {
    const { bundle, parts, taken } = coming;
    return { source, why: `${taken.length} of ${parts} parts of bundle ${bundle.slice(0, 8)} were taken` };
  }
  return { source, why: fs.existsSync(source) ? 'incomplete' : 'not installed' };
}

function* environmentPlaces(name: string, prefix: string): Generator<Place> {
  const lib = path.join(prefix, 'lib');
  const pythons = fs.existsSync(lib) ? fs.readdirSync(lib).filter((entry) => /^python3\.\d+$/.test(entry)) : [];
  const folders = pythons.map((python) => path.join(lib, python, 'site-packages'));
  if (folders.length === 0) yield { source: `${name}=${prefix}`, why: 'no lib/python3.*/site-packages' };
  for (const folder of folders) yield sitePackagesPlace(name, folder);
}

/** TensorFlow as pip installs it, if it is the right version. */
function sitePackagesPlace(name: string, folder: string): Place {
  const source = `${name}: ${folder}`;
  const file = path.join(folder, 'tensorflow', LIBRARY_NAME);
  if (!fs.existsSync(file)) return { source, why: 'no TensorFlow' };
  const version = installedVersion(folder);
  if (version !== TENSORFLOW_VERSION) return { source, why: `TensorFlow ${version}, expected ${TENSORFLOW_VERSION}` };
  return { path: file, variant: variantBeside(file), source };
}

function pythonPlace(env: NodeJS.ProcessEnv): Place {
  const source = 'python3';
  const program =
    "import importlib.util as u; s = u.find_spec('tensorflow'); print(s.submodule_search_locations[0] if s else '')";
  try {
    const folder = execFileSync('python3', ['-c', program], {
      env,
      encoding: 'utf8',
      timeout: 3000,
      stdio: ['ignore', 'pipe', 'ignore'],
    }).trim();
    return folder === '' ? { source, why: 'has no TensorFlow' } : sitePackagesPlace(source, path.dirname(folder));
  } catch {
    return { source, why: 'does not run' };
  }
}

/** The version in `tensorflow-2.21.0.dist-info` (or tensorflow_cpu-…) of a site-packages folder. */
function installedVersion(folder: string): string {
  const versions = fs.readdirSync(folder).map((entry) => /^tensorflow(?:_cpu)?-(.+)\.dist-info$/.exec(entry)?.[1]);
  return versions.find((version) => version !== undefined) ?? 'of unknown version';
}

/** A GPU build has NVIDIA's libraries beside it. */
function variantBeside(file: string): LibraryVariant {
  return fs.existsSync(path.join(path.dirname(file), '..', 'nvidia')) ? 'gpu' : 'cpu';
}
