/** The pods of configs/cluster as Kubernetes would start them: words and environment. */
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseAllDocuments } from 'yaml';

export const CLUSTER_FOLDER = fileURLToPath(new URL('../../../configs/cluster/', import.meta.url));

export interface PodTemplate {
  /** What follows the image's entry. */
  readonly args: readonly string[];
  /** Of pod `index`: what the file says, and what Kubernetes adds. */
  readonly envOf: (index: number) => Readonly<Record<string, string>>;
  readonly healthCheck: readonly string[];
  /** Exit codes after which the job fails. */
  readonly fatalCodes: readonly number[];
}

interface JobSpec {
  readonly template: { readonly spec: { readonly containers: readonly ContainerSpec[] } };
  readonly podFailurePolicy: { readonly rules: readonly { readonly onExitCodes?: { readonly values: number[] } }[] };
}
interface ContainerSpec {
  readonly args: readonly string[];
  readonly env: readonly { readonly name: string; readonly value: string }[];
  readonly livenessProbe: { readonly exec: { readonly command: readonly string[] } };
}

/** The objects of a file, by kind. */
export function objectsOf(file: string): ReadonlyMap<string, Record<string, unknown>> {
  const text = fs.readFileSync(path.join(CLUSTER_FOLDER, file), 'utf8');
  const objects = parseAllDocuments(text).map((document) => document.toJS() as Record<string, unknown>);
  return new Map(objects.map((object) => [object['kind'] as string, object]));
}

/** Pods of a Job are NAME-INDEX, those of a JobSet NAME-JOB-0-INDEX. */
export function podOf(file: string): PodTemplate {
  const objects = objectsOf(file);
  const owner = (objects.get('Job') ?? objects.get('JobSet')) as { metadata: { name: string }; spec: unknown };
  const set = owner.spec as { replicatedJobs?: readonly { name: string; template: { spec: JobSpec } }[] };
  const [replicated] = set.replicatedJobs ?? [];
  const spec = replicated ? replicated.template.spec : (owner.spec as JobSpec);
  const prefix = replicated ? `${owner.metadata.name}-${replicated.name}-0` : owner.metadata.name;
  const [{ args, env, livenessProbe }] = spec.template.spec.containers as [ContainerSpec];
  const own = Object.fromEntries(env.map(({ name, value }) => [name, value]));
  return {
    args,
    envOf: (index) => ({ ...own, JOB_COMPLETION_INDEX: `${index}`, HOSTNAME: `${prefix}-${index}` }),
    healthCheck: livenessProbe.exec.command,
    fatalCodes: spec.podFailurePolicy.rules.flatMap(({ onExitCodes }) => onExitCodes?.values ?? []),
  };
}
