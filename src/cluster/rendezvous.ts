/** The comparison of what hosts brought to their meeting: version, data, workers, configuration; or why one cannot take part. Pure. */
import { DtrainError, ExitCode } from '../core/errors.js';

/** What all hosts must have alike, and what host 0 decides for all. Plain JSON. */
export interface HostFacts {
  readonly version: string;
  /** SHA-256 of the data set's bytes. */
  readonly data: string;
  /** Workers of each host. */
  readonly workers: number;
  /** Logical shards of all hosts, and threads of a CPU worker (null on GPUs): with another number a host rounds otherwise. */
  readonly shards: number;
  readonly threadsPerWorker: number | null;
  readonly devices: 'gpu' | 'cpu';
  /** Value of each configuration key that may not differ, as JSON, by its dotted path. */
  readonly config: Readonly<Record<string, string>>;
}

const MAX_SHOWN = 8;

/**
 * All against host 0; `facts` and `addresses` by rank.
 * @throws DTRAIN_HOSTS_DIFFER (exit 4), the same on every host.
 */
export function compareHosts(facts: readonly HostFacts[], addresses: readonly string[]): void {
  const differences = facts.flatMap((host, rank) =>
    differencesOf(facts[0]!, host, `host ${rank} (${addresses[rank]})`),
  );
  if (differences.length === 0) return;
  const shown = differences.slice(0, MAX_SHOWN);
  const more = differences.length > MAX_SHOWN ? [`and ${differences.length - MAX_SHOWN} more`] : [];
  const lines = ['cluster: expected the same on all hosts as on host 0, got:', ...shown, ...more];
  const text = `${lines.join('\n  ')}\nGive all hosts the same dtrain, the same configuration and the same data; on unlike machines set the workers, train.logicalShards and train.threadsPerWorker. Then start all of them again.`;
  throw new DtrainError('DTRAIN_HOSTS_DIFFER', ExitCode.environment, text);
}

function differencesOf(first: HostFacts, host: HostFacts, name: string): string[] {
  const differ = (subject: string, expected: string, got: string) =>
    expected === got ? [] : [`${name}: ${subject} ${got}, not ${expected}`];
  const keys = [...new Set([...Object.keys(first.config), ...Object.keys(host.config)])];
  return [
    ...differ('version', first.version, host.version),
    ...differ('devices', first.devices, host.devices),
    ...differ('workers', `${first.workers}`, `${host.workers}`),
    ...differ('logical shards', `${first.shards}`, `${host.shards}`),
    ...differ('threads a worker', `${first.threadsPerWorker}`, `${host.threadsPerWorker}`),
    ...differ('data', first.data.slice(0, 12), host.data.slice(0, 12)),
    ...keys.flatMap((key) => differ(key, first.config[key] ?? 'unknown', host.config[key] ?? 'unknown')),
  ];
}

/** Why a host cannot take part. Plain JSON. */
export interface HostFailure {
  readonly exitCode: number;
  readonly message: string;
}

/** Failures that its supervisor mends by a new start, or that somebody asked for: the others wait for that host, or lose it. */
const PASSING: readonly ExitCode[] = [
  ExitCode.workerFailed,
  ExitCode.hang,
  ExitCode.hostLost,
  ExitCode.nativeAbort,
  ExitCode.stopped,
];
const MAX_MESSAGE = 2000;

/** Of the error that ends a host before the hosts have met; undefined where it may still come. */
export function failureOf(error: unknown): HostFailure | undefined {
  const exitCode = error instanceof DtrainError ? error.exitCode : ExitCode.internal;
  if (PASSING.includes(exitCode)) return undefined;
  return { exitCode, message: (error as Error).message.slice(0, MAX_MESSAGE) };
}

/** On the others (exit 12). */
export function hostFailed(host: number, address: string, { exitCode, message }: HostFailure): DtrainError {
  const text =
    `cluster: host ${host} (${address}) cannot take part and ended with exit code ${exitCode}:\n  ${message.replaceAll('\n', '\n  ')}\n` +
    'Mend that there, then start all hosts again.';
  return new DtrainError('DTRAIN_HOST_FAILED', ExitCode.hostLost, text);
}
