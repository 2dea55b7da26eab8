/**
 * This host's link to the other hosts of a run: the meeting at the start, the small exchanges between segments, the end.
 *
 * Idea: what meets the others is rank 0's thread, which may block there; the main thread asks it, watches the hosts meanwhile, and when one is
 * lost aborts what waits, so that every thread comes back. Who the hosts are and how they are watched is the cluster layer's.
 * Must stay true: all hosts make the same calls in the same order; nothing waits for a host that nobody watches.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { ClusterSpec } from '../cluster/cluster-spec.js';
import { type AskHost, HealthWatch, silentHosts } from '../cluster/health.js';
import { isFailure, lastWords, lastWordsIn } from '../cluster/last-words.js';
import { compareHosts, failureOf, type HostFacts, type HostFailure, hostFailed } from '../cluster/rendezvous.js';
import { hostMissing, stillWaiting } from '../cluster/waiting.js';
import { nowSeconds } from '../core/clock.js';
import { DtrainError, ExitCode, internalError } from '../core/errors.js';
import { abortCollectives, checkPeer } from '../tensorflow/host-cluster.js';
import { type HostPlace, HostReduce } from '../train/host-reduce.js';
import type { RunDevices } from './devices.js';
import type { RankPool } from './rank-pool.js';

/** Fixed, so that hosts of any version and configuration can read each other. */
const MESSAGE_WORDS = 16_384;
const NOTICE_SECONDS = 10;
/** For the first host to save; who does not come then has ended without needing us. */
const FAREWELL_SECONDS = 60;
/** For a blocked thread to come back after an abort. */
const ABORT_SECONDS = 1;
/** Before the hosts have met: for the others to have seen this one, so that they know it as lost when it is gone (health.ts). */
const SEEN_SECONDS = 3;
/** For all to come and hear why this host cannot take part. */
const TELL_SECONDS = 5;

export interface Meeting<T> {
  readonly facts: HostFacts;
  readonly start: T;
  readonly say: (line: string) => void;
  readonly signal?: AbortSignal | undefined;
}

export interface LinkSettings {
  /** Sums in the order of one process. */
  readonly exact: boolean;
  /** How long the meeting may take. */
  readonly waitSeconds: number;
}

/** What a host brings to the meeting: its facts, or why it cannot take part. Plain JSON. */
type Message<T> = { readonly facts: HostFacts; readonly start: T } | { readonly failed: HostFailure };

export class HostLink {
  readonly count: number;
  readonly rank: number;
  /** Rejects when another host is lost; the run races it against whatever waits for the ranks. */
  readonly alarm: Promise<never>;
  readonly #spec: ClusterSpec;
  readonly #devices: RunDevices;
  readonly #place: HostPlace;
  readonly #waitSeconds: number;
  readonly #ask: AskHost;
  readonly #watch: HealthWatch;
  /** Since the meeting. */
  #pool: RankPool | undefined;
  #haveMet = false;
  #isOver = false;

  /** Begins to watch the hosts: their ports may be open already. */
  constructor(spec: ClusterSpec, devices: RunDevices, { exact, waitSeconds }: LinkSettings) {
    this.count = spec.addresses.length;
    this.rank = spec.rank;
    this.#spec = spec;
    this.#devices = devices;
    this.#place = { count: this.count, rank: this.rank, exact };
    this.#waitSeconds = waitSeconds;
    this.#ask = (rank, seconds) => checkPeer(devices.runtime, rank, seconds);
    this.#watch = new HealthWatch(this.#ask, spec.addresses, spec.rank);
    this.alarm = this.#watch.alarm;
  }

  /**
   * Waits for all hosts and compares what they brought. Gives what host 0 brought as `start`. From now on `pool` exchanges with the others.
   * @throws DTRAIN_HOSTS_DIFFER (exit 4); DTRAIN_HOST_LOST, DTRAIN_HOST_FAILED or, after the last second of the wait, DTRAIN_HOST_MISSING
   * (exit 12); DTRAIN_STOPPED (exit 75) when `signal` is aborted meanwhile.
   */
  async meet<T>(pool: RankPool, { facts, start, say, signal }: Meeting<T>): Promise<T> {
    const { addresses, rank } = this.#spec;
    say(
      `cluster: host ${rank} of ${this.count}, waiting for the others (${addresses.join(', ')}) for at most ${this.#waitSeconds} s`,
    );
    this.#pool = pool;
    const begun = nowSeconds();
    const notice = setInterval(() => {
      const wait = { seconds: nowSeconds() - begun, mostSeconds: this.#waitSeconds };
      void this.#findSilent().then((silent) => say(stillWaiting(silent, wait)));
    }, NOTICE_SECONDS * 1000);
    try {
      const joined = pool.run(0, 'joinHosts', {
        runtime: { libraryPath: this.#devices.library.path, context: this.#devices.runtime.context },
        place: this.#place,
        facts: encodeMessage({ facts, start } satisfies Message<T>),
        seconds: this.#waitSeconds,
      });
      const gathered = await Promise.race([joined, stopped(signal), this.alarm]);
      this.#watch.allCame();
      this.#haveMet = true;
      this.alarm.catch((error: Error) => abortCollectives(this.#devices.runtime, error.message));
      const messages = Array.from({ length: this.count }, (_, host) =>
        decodeMessage<Message<T>>(gathered.subarray(host * MESSAGE_WORDS)),
      );
      const present = messages.map((message, host) => {
        if ('failed' in message) throw hostFailed(host, addresses[host]!, message.failed);
        return message;
      });
      compareHosts(
        present.map((message) => message.facts),
        addresses,
      );
      say(`cluster: all ${this.count} hosts are here, alike in version, configuration and data`);
      return present[0]!.start;
    } catch (error) {
      if (error instanceof DtrainError && error.code === 'DTRAIN_HOST_LOST')
        throw await this.#notMet(error, nowSeconds() - begun);
      throw error;
    } finally {
      clearInterval(notice);
    }
  }

  /** `state`, in shared memory, becomes that of host 0. */
  async broadcast(state: Float32Array): Promise<void> {
    await this.#joined.run(0, 'broadcastHosts', { state }, this.alarm);
  }

  /** The values of each host, by rank; all bring as many. */
  async gather<T extends Float32Array | Int32Array>(values: T): Promise<T[]> {
    const all = await this.#joined.run(0, 'gatherHosts', { values }, this.alarm);
    return Array.from({ length: this.count }, (_, host) =>
      all.subarray(host * values.length, (host + 1) * values.length),
    ) as T[];
  }

  /** `error`, or, where it says that some host was lost, one that says which. */
  async named(error: unknown): Promise<unknown> {
    if (!(error instanceof DtrainError) || error.code !== 'DTRAIN_HOST_LOST') return error;
    const words = lastWordsIn(error.message);
    const lost = words ?? (isNamed(error) ? undefined : await this.#silentSentence());
    if (lost === undefined) return error;
    const place = error.step === undefined ? 'cluster' : `step ${error.step}`;
    return hostLost(`${place}: lost ${lost}`, error, words !== undefined && isFailure(words));
  }

  /** Ends the link after a run that came to its end: waits a moment for the others, so that none misses the last exchange. */
  async leave(): Promise<void> {
    this.#end();
    // The run is complete and saved: a host that has gone already does no harm.
    await this.#joined.run(0, 'leaveHosts', { seconds: FAREWELL_SECONDS }).catch(() => undefined);
  }

  /**
   * Ends the link of a run that did not come to its end: what waits for other hosts comes back at once, here and, by this, there, where they
   * read why. A host that cannot even come to the meeting tells so there. The first call counts.
   */
  async abort(error: unknown): Promise<void> {
    if (this.#isOver) return;
    this.#end();
    const wasTold = this.#pool === undefined && this.#tellFailure(error);
    abortCollectives(this.#devices.runtime, lastWords(this.#spec, error));
    await delay((this.#haveMet || wasTold ? ABORT_SECONDS : SEEN_SECONDS) * 1000);
  }

  #end(): void {
    this.#isOver = true;
    this.#watch[Symbol.dispose]();
  }

  get #joined(): RankPool {
    if (!this.#pool) throw internalError('the hosts have not met.');
    return this.#pool;
  }

  /** Goes to the meeting with a failure in place of facts; whether all heard it. Blocks this thread, which has nothing left to do. */
  #tellFailure(error: unknown): boolean {
    const failed = failureOf(error);
    if (!failed) return false;
    try {
      new HostReduce(this.#devices.runtime, this.#place).gather(encodeMessage({ failed }), TELL_SECONDS);
      return true;
    } catch {
      return false; // not all were there
    }
  }

  /** Those that do not answer now, for people; undefined when all do. */
  #findSilent(): Promise<string | undefined> {
    return silentHosts(this.#ask, this.#spec.addresses, this.rank);
  }

  /** Why the hosts did not meet, where the collective did not say: the wait was over, or somebody left. */
  async #notMet(cause: DtrainError, seconds: number): Promise<DtrainError> {
    if (seconds >= this.#waitSeconds && !isNamed(cause))
      return hostMissing(await this.#findSilent(), this.#waitSeconds, cause);
    return (await this.named(cause)) as DtrainError;
  }

  async #silentSentence(): Promise<string | undefined> {
    const silent = await this.#findSilent();
    return silent === undefined ? undefined : `${silent}.`;
  }
}

/** `isForGood`: it will not come back by itself, so the others do not try again by themselves either. */
function hostLost(what: string, cause: unknown, isForGood = false): DtrainError {
  const cure =
    'Look at the output of that host, then start all hosts again; with --resume they go on from the last checkpoint.';
  const { step } = cause as DtrainError;
  const code = isForGood ? 'DTRAIN_HOST_FAILED' : 'DTRAIN_HOST_LOST';
  const place = step === undefined ? {} : { step };
  return new DtrainError(code, ExitCode.hostLost, `${what} ${cure}`, { cause, ...place });
}

/** Whether the message says which host it was. */
function isNamed({ message }: Error): boolean {
  return /\bhosts? \d/.test(message);
}

/** Rejects once the signal is aborted. */
function stopped(signal: AbortSignal | undefined): Promise<never> {
  return new Promise((_, reject) => {
    const stop = () =>
      reject(
        new DtrainError(
          'DTRAIN_STOPPED',
          ExitCode.stopped,
          'stopped on request while waiting for the other hosts; nothing was saved.',
        ),
      );
    if (signal?.aborted) stop();
    signal?.addEventListener('abort', stop, { once: true });
  });
}

/** Length in bytes, then UTF-8 four bytes a word. */
function encodeMessage(message: unknown): Int32Array {
  const bytes = Buffer.from(JSON.stringify(message));
  if (bytes.length > 4 * (MESSAGE_WORDS - 1))
    throw internalError(`a message of ${bytes.length} bytes to the other hosts`);
  const words = new Int32Array(MESSAGE_WORDS);
  words[0] = bytes.length;
  new Uint8Array(words.buffer).set(bytes, 4);
  return words;
}

function decodeMessage<T>(words: Int32Array): T {
  const bytes = new Uint8Array(words.buffer, words.byteOffset + 4, words[0]);
  return JSON.parse(Buffer.from(bytes).toString()) as T;
}
