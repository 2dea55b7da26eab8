/**
 * A Dockerfile as data: its stages with their instructions, in order. Of the language only what ours uses; anything else is an error, so that
 * no instruction goes unread.
 */

export interface Instruction {
  readonly name: string;
  /** All after the name, its lines joined, with the file's arguments put in. */
  readonly text: string;
}

export interface Stage {
  readonly name: string;
  /** An earlier stage, or an image of somebody else. */
  readonly from: string;
  readonly instructions: readonly Instruction[];
}

const KNOWN = new Set('RUN COPY LABEL ENV USER WORKDIR VOLUME STOPSIGNAL HEALTHCHECK ENTRYPOINT CMD'.split(' '));

/** @throws Error for what is not understood. */
export function parseDockerfile(text: string): readonly Stage[] {
  const values = new Map<string, string>();
  const stages: (Stage & { readonly instructions: Instruction[] })[] = [];
  for (const line of logicalLines(text)) {
    const [, name = '', rest = ''] = /^(\S+)\s+(.*)$/.exec(line) ?? [];
    const filled = rest.replace(/\$\{(\w+)\}/g, (_, key: string) => values.get(key) ?? fail(`no argument ${key}`));
    if (name === 'ARG' && stages.length === 0) {
      const [key = '', value] = rest.split('=');
      values.set(key, value ?? fail(`no default of ${key}`));
    } else if (name === 'FROM') {
      const [, from, stage] = /^(\S+) AS (\S+)$/.exec(filled) ?? fail(line);
      stages.push({ name: stage!, from: from!, instructions: [] });
    } else if (KNOWN.has(name)) {
      (stages.at(-1) ?? fail(`before FROM: ${line}`)).instructions.push({ name, text: filled });
    } else {
      fail(line);
    }
  }
  return stages;
}

/** Without comments; a backslash at the end of a line joins the next. */
function logicalLines(text: string): string[] {
  const lines = text.split('\n').filter((line) => !/^\s*#/.test(line));
  return lines
    .join('\n')
    .replace(/\\\n\s*/g, '')
    .split('\n')
    .map((line) => line.trim())
    .filter(Boolean);
}

/** `a=b c="d e"`, of ENV and LABEL. */
export function pairs(text: string): Readonly<Record<string, string>> {
  const found = [...text.matchAll(/([\w.]+)=(?:"([^"]*)"|(\S+))\s*/g)];
  if (found.map(([whole]) => whole).join('') !== text) fail(text);
  return Object.fromEntries(found.map(([, key, quoted, plain]) => [key!, quoted ?? plain!]));
}

/** `["a", "b"]`, of what runs. */
export function list(text: string): readonly string[] {
  const value = JSON.parse(text) as unknown;
  if (!Array.isArray(value) || !value.every((word) => typeof word === 'string')) fail(text);
  return value as string[];
}

export interface Copy {
  /** A stage; undefined: the folder of the build. */
  readonly from: string | undefined;
  readonly sources: readonly string[];
  readonly target: string;
}

export function copyOf(text: string): Copy {
  const words = text.split(/\s+/);
  const from = words[0]!.startsWith('--from=') ? words.shift()!.slice('--from='.length) : undefined;
  if (words.length < 2 || words.some((word) => word.startsWith('--'))) fail(text);
  return { from, sources: words.slice(0, -1), target: words.at(-1)! };
}

/** What a container of a stage gets, its parents' first. */
export interface ImageSettings {
  readonly env: Readonly<Record<string, string>>;
  readonly labels: Readonly<Record<string, string>>;
  readonly user: string;
  readonly workdir: string;
  readonly volumes: readonly string[];
  readonly stopSignal: string;
  /** The words of the health check. */
  readonly healthCheck: readonly string[];
  readonly entrypoint: readonly string[];
  readonly command: readonly string[];
}

/** The stages from the first image to `target`, each based on the one before. */
export function lineage(stages: readonly Stage[], target: string): readonly Stage[] {
  const stage = stages.find(({ name }) => name === target);
  return stage ? [...lineage(stages, stage.from), stage] : [];
}

export function settingsOf(stages: readonly Stage[], target: string): ImageSettings {
  const all = lineage(stages, target).flatMap(({ instructions }) => instructions);
  const texts = (name: string) => all.filter((instruction) => instruction.name === name).map(({ text }) => text);
  const last = (name: string) => texts(name).at(-1) ?? fail(`no ${name} in ${target}`);
  return {
    env: Object.assign({}, ...texts('ENV').map(pairs)) as Record<string, string>,
    labels: Object.assign({}, ...texts('LABEL').map(pairs)) as Record<string, string>,
    user: last('USER'),
    workdir: last('WORKDIR'),
    volumes: texts('VOLUME').flatMap(list),
    stopSignal: last('STOPSIGNAL'),
    healthCheck: list(last('HEALTHCHECK').replace(/^.*?CMD /, '')),
    entrypoint: list(last('ENTRYPOINT')),
    command: list(last('CMD')),
  };
}

/** Whether a file goes to the build: the last pattern of .dockerignore that fits decides. Of its language `*`, and `!` before a path. */
export function isInContext(file: string, dockerignore: string): boolean {
  const patterns = dockerignore.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  let isIn = true;
  for (const pattern of patterns) {
    const name = pattern.replace(/^!/, '');
    if (name !== '*' && /[*?[]/.test(name)) fail(pattern);
    if (name === '*' || file === name || file.startsWith(`${name}/`)) isIn = pattern.startsWith('!');
  }
  return isIn;
}

function fail(text: string): never {
  throw new Error(`Dockerfile: not understood: ${text}`);
}
