/**
 * What a host that ends tells the others as the reason of its abort, which TensorFlow passes on; and how they read it. Pure.
 *
 * Idea: only the host where something failed knows what; the others would see a collective that was aborted. So the reason names the host, and
 * who only lost another one passes that one on, not itself.
 */
import type { ClusterSpec } from './cluster-spec.js';
import { failureOf } from './rendezvous.js';

const MAX_LENGTH = 300;
/** `host 1 (b:8888): what happened` */
const HOST = String.raw`hosts? \d+ \(.*`;
const LOST = new RegExp(`\\blost (${HOST})`);
const ABORTED = new RegExp(`\\baborted by: (${HOST})`);
/** Of messages about a lost host (health.ts); who reads the words has a cure of his own. */
const CURE = ' Look at the output of that host';
const FAILED = ' ended with exit code ';

/** One line, from the error that ends this host. */
export function lastWords({ addresses, rank }: ClusterSpec, error: unknown): string {
  const text = firstLine((error as Error).message).split(CURE)[0]!;
  const lost = LOST.exec(text)?.[1];
  const failure = failureOf(error);
  const ended = failure ? `${FAILED}${failure.exitCode}` : '';
  return (lost ?? `host ${rank} (${addresses[rank]})${ended}: ${text}`).slice(0, MAX_LENGTH);
}

/** The last words of another host in a message of TensorFlow; undefined where it died without a word. */
export function lastWordsIn(message: string): string | undefined {
  return ABORTED.exec(firstLine(message))?.[1];
}

/** Whether they are of a host that will not come back by itself. */
export function isFailure(words: string): boolean {
  return words.includes(`)${FAILED}`);
}

function firstLine(text: string): string {
  return text.split('\n')[0]!;
}
