/** The source files as a graph of imports, and what is forbidden in it; plain functions over texts, so that they can be tested with small ones. */
import fs from 'node:fs';
import path from 'node:path';

/** Path below src (`run/train.ts`) → text without comments. */
export type Sources = ReadonlyMap<string, string>;

export function readSources(src: string): Sources {
  const files = fs
    .readdirSync(src, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts') && !file.includes(`assembly${path.sep}`));
  return new Map(files.sort().map((file) => [file, withoutComments(fs.readFileSync(path.join(src, file), 'utf8'))]));
}

/** Comments blanked out; what looks like one inside a string goes too, which no rule here minds. */
export function withoutComments(text: string): string {
  return text.replace(/\/\*[\s\S]*?\*\//g, ' ').replace(/(^|[^:])\/\/.*$/gm, '$1');
}

/** What a file imports, exports from, imports dynamically or requires: module names as written. */
export function importsOf(text: string): string[] {
  return [...staticImportsOf(text), ...namesIn(text, [/\b(?:import|require)\(\s*'([^']+)'\s*\)/g])];
}

/** What is loaded, or needed by types, before the file itself. */
export function staticImportsOf(text: string): string[] {
  return namesIn(text, [/\b(?:import|export)\b[^'";]*?\bfrom\s*'([^']+)'/g, /\bimport\s*'([^']+)'/g]);
}

function namesIn(text: string, patterns: readonly RegExp[]): string[] {
  return patterns.flatMap((pattern) => Array.from(text.matchAll(pattern), (match) => match[1]!));
}

/** For each file the files of ours that it imports. */
export function importGraph(sources: Sources, namesOf = importsOf): ReadonlyMap<string, readonly string[]> {
  return new Map(
    Array.from(sources, ([file, text]) => {
      const own = namesOf(text).filter((name) => name.startsWith('.'));
      return [file, own.map((name) => path.join(path.dirname(file), name).replace(/\.js$/, '.ts'))];
    }),
  );
}

/** The packages that a file imports, `@scope/name` or `name`. */
export function packagesOf(text: string): string[] {
  const foreign = importsOf(text).filter((name) => !name.startsWith('.') && !name.startsWith('node:'));
  return foreign.map((name) => name.split('/', name.startsWith('@') ? 2 : 1).join('/'));
}

/** Files that import each other in a circle, `a.ts > b.ts > a.ts`; one a circle found. */
export function findCycles(graph: ReadonlyMap<string, readonly string[]>): string[] {
  const cycles: string[] = [];
  const done = new Set<string>();
  const visit = (file: string, trail: readonly string[]): void => {
    const at = trail.indexOf(file);
    if (at >= 0) cycles.push([...trail.slice(at), file].join(' > '));
    if (at >= 0 || done.has(file)) return;
    for (const next of graph.get(file) ?? []) visit(next, [...trail, file]);
    done.add(file);
  };
  for (const file of graph.keys()) visit(file, []);
  return cycles;
}

/** Imports that go up or across: `data/a.ts imports model/b.ts`. `layers` from the lowest; folders of one layer never see each other. */
export function findWrongDirections(
  graph: ReadonlyMap<string, readonly string[]>,
  layers: readonly (readonly string[])[],
): string[] {
  const levelOf = (folder: string) => layers.findIndex((folders) => folders.includes(folder));
  const wrong: string[] = [];
  for (const [file, imports] of graph) {
    for (const imported of imports) {
      const [from, to] = [folderOf(file), folderOf(imported)];
      if (from !== to && levelOf(from) <= levelOf(to)) wrong.push(`${file} imports ${imported}`);
    }
  }
  return wrong;
}

/** `data` of `data/sampler.ts`; `.` for a file in src itself. */
export function folderOf(file: string): string {
  return file.includes('/') ? file.slice(0, file.indexOf('/')) : '.';
}

/** The files in which `pattern` occurs. */
export function filesWith(sources: Sources, pattern: RegExp): string[] {
  return Array.from(sources).flatMap(([file, text]) => (pattern.test(text) ? [file] : []));
}
