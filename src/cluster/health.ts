/**
 * Watches the other hosts while a run goes on: a host that is dead, silent or replaced is found, and the run is told once.
 *
 * Idea: an exchange with a dead host fails by itself, one with a silent host waits for ever; so every host is asked, in turn, every few seconds.
 * The answer comes from TensorFlow's server in the other process, which answers also while that process computes.
 * Must stay true: found within 30 s when silent, 15 s when dead (contract); a host that is slow to answer once is not lost. Main thread.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { DtrainError, ExitCode } from '../core/errors.js';
import type { PeerHealth } from '../tensorflow/host-cluster.js';

/** Asks a host whether it is there, for at most so many seconds; never rejects. */
export type AskHost = (rank: number, seconds: number) => Promise<PeerHealth>;

export interface HealthSettings {
  /** Between two rounds. */
  readonly everySeconds: number;
  /** The same, until all have come: so that one is seen that comes, finds a mistake of its own, and leaves (host-link.ts waits for it). */
  readonly meetingSeconds: number;
  /** How long one answer may take. */
  readonly answerSeconds: number;
  /** Answers that may fail in a row, the last of which is the end. */
  readonly tries: number;
  /** Between two tries, where the answer was a refusal. */
  readonly retrySeconds: number;
}

/** Silent: 5 + 3 × 5 s at the most; dead: 5 + 2 × 1 s. */
export const HEALTH: HealthSettings = {
  everySeconds: 5,
  meetingSeconds: 1,
  answerSeconds: 5,
  tries: 3,
  retrySeconds: 1,
};

/** TF_Codes of an answer. */
const WELL = 0;
const NO_ANSWER = 4;
const RESTARTED = 9;

export class HealthWatch implements Disposable {
  /** Rejects with DTRAIN_HOST_LOST (exit 12) when a host is dead or silent. */
  readonly alarm: Promise<never>;
  readonly #ask: AskHost;
  readonly #settings: HealthSettings;
  /** Hosts that have answered. */
  readonly #seen = new Set<number>();
  #allCame = false;
  #ended = false;

  /** Begins at once; a host that has not answered yet is late, not lost, until `allCame`. `addresses` by rank; `rank` is this host's, which is not asked. */
  constructor(ask: AskHost, addresses: readonly string[], rank: number, settings: HealthSettings = HEALTH) {
    this.#ask = ask;
    this.#settings = settings;
    const others = addresses.map((address, host) => ({ host, address })).filter(({ host }) => host !== rank);
    this.alarm = new Promise((_, reject) => {
      void this.#watch(others).then((lost) => lost && reject(lost));
    });
    this.alarm.catch(() => undefined); // may come when nobody waits any more
  }

  [Symbol.dispose](): void {
    this.#ended = true;
  }

  /** From now on a host that does not answer is lost. */
  allCame(): void {
    this.#allCame = true;
  }

  async #watch(others: readonly { host: number; address: string }[]): Promise<DtrainError | undefined> {
    while (!this.#ended) {
      const { everySeconds, meetingSeconds } = this.#settings;
      await delay((this.#allCame ? everySeconds : meetingSeconds) * 1000, undefined, { ref: false });
      for (const { host, address } of this.#ended ? [] : others) {
        const reason = await this.#reasonOfLoss(host);
        if (reason !== undefined && !this.#ended) return hostLost(host, address, reason);
      }
    }
    return undefined;
  }

  /** Why the host counts as lost; undefined while it does not. */
  async #reasonOfLoss(host: number): Promise<string | undefined> {
    const { answerSeconds, tries, retrySeconds } = this.#settings;
    for (let failed = 1; ; failed++) {
      const { code } = await this.#ask(host, answerSeconds);
      if (code === WELL) this.#seen.add(host);
      if (code === WELL || this.#ended || !(this.#allCame || this.#seen.has(host))) return undefined;
      if (code === RESTARTED) return 'another process answers there';
      if (failed === tries)
        return code === NO_ANSWER ? `no answer in ${tries * answerSeconds} s` : 'nobody answers there';
      if (code !== NO_ANSWER) await delay(retrySeconds * 1000, undefined, { ref: false });
    }
  }
}

const QUICK_SECONDS = 2;

/** `host 1 (b:8888)`: those that do not answer now; undefined when all do. */
export async function silentHosts(
  ask: AskHost,
  addresses: readonly string[],
  rank: number,
): Promise<string | undefined> {
  const silent: string[] = [];
  for (const [host, address] of addresses.entries()) {
    if (host !== rank && (await ask(host, QUICK_SECONDS)).code !== WELL) silent.push(`host ${host} (${address})`);
  }
  return silent.length === 0 ? undefined : silent.join(', ');
}

function hostLost(host: number, address: string, reason: string): DtrainError {
  const text =
    `cluster: lost host ${host} (${address}): ${reason}. Look at the output of that host, then start all hosts again; ` +
    'with --resume they go on from the last checkpoint.';
  return new DtrainError('DTRAIN_HOST_LOST', ExitCode.hostLost, text);
}
