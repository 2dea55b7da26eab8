/**
 * A model of the barrier and the all-reduce (src/collective/barrier.ts, rank-group.ts, progress.ts), and a search through every state that
 * any interleaving of its steps can reach.
 *
 * Idea: a state is a few small numbers: the shared words, and of each rank where it is. One step is one atomic operation of the source, or
 * one look at another's memory; between two steps any other rank may run. Sleeping is one step that compares, as Atomics.wait does.
 * Checked: sums see the rows of their round and nothing else, all ranks read whole results, all see the same request to stop, whoever is
 * called missing has not arrived, nobody passes a barrier that was poisoned before it came, and nobody sleeps for ever.
 * Left out: time (a deadline may pass at any moment), the looks before a rank sleeps, which are the same steps again, and that a result lies where
 * the first row did: that row has another place in the next round, so it is written there two rounds later, and all have read it by then.
 */

export type Mutation =
  | 'signal before round'
  | 'look before reading the signal'
  | 'poison after signal'
  | 'no look at poison by the last'
  | 'own round after arriving'
  | 'arrive without an atomic add'
  | 'sum before the barrier'
  | 'no second barrier'
  | 'sleep without comparing'
  | 'ahead is missing';

export interface ModelOptions {
  readonly ranks: number;
  /** All-reduces that each rank does. */
  readonly rounds: number;
  /** Ranks that may fail at any moment between barriers, and poison the group. */
  readonly failures?: number;
  /** Ranks that may die at any moment; the main thread poisons the group afterwards. */
  readonly deaths?: number;
  /** Ranks that may stop for ever, and no one tells; where not all have deadlines, only those without. */
  readonly stalls?: number;
  /** So many ranks, the first, have deadlines that may pass at any moment. */
  readonly deadlines?: number;
  readonly mutation?: Mutation;
}

export interface ModelResult {
  readonly states: number;
  /** The first promise that is broken; null where none is. */
  readonly broken: string | null;
}

// Shared words of a state, then the words of each rank.
const ARRIVALS = 0;
const SIGNAL = 1;
const ROUND = 2;
const POISON = 3;
const STOP = 4;
const REQUEST = 5;
const FAILURES = 6;
const DEATHS = 7;
const STALLS = 8;
/** 1 + the rank for which the main thread is going to poison the group. */
const MAIN = 9;
/** Of the main thread's poisoning: 0 word, 1 signal, 2 notify. */
const MAIN_STEP = 10;
/** What was seen of the request to stop after the all-reduce of odd and of even rounds: 0 not yet, else 1 + value. */
const SEEN = 11;
const SHARED = 13;

const PC = 0;
/** The meeting that the rank is in or comes to next, from 1: two an all-reduce. */
const MEETING = 1;
const OWN_SIGNAL = 2;
const EXPIRED = 3;
/** Where a loop over ranks is. */
const AT = 4;
/** Ranks that were found missing, as bits. */
const MISSING = 5;
const ROW = 6;
const CHUNK = 7;
const OWN_ROUND = 8;
/** Whether the group was poisoned when the rank arrived. */
const CAME_POISONED = 9;
const COUNT = 10;
/** The last meeting whose arrivals the rank is among. */
const ARRIVED = 11;
const RANK_WORDS = 12;

const Pc = {
  write: 0,
  ownRound: 1,
  arrive: 2,
  arriveStore: 3,
  lastPoison: 4,
  latchStop: 5,
  publish: 6,
  publishSignal: 7,
  notify: 8,
  readSignal: 9,
  lookRound: 10,
  lookPoison: 11,
  sleep: 12,
  asleep: 13,
  lookMissing: 14,
  poison: 15,
  poisonSignal: 16,
  poisonNotify: 17,
  sum: 18,
  read: 19,
  seeStop: 20,
  finished: 21,
  failed: 22,
  gone: 23,
} as const;

class Broken extends Error {}

type State = Int8Array;

/** Searches every reachable state, and whether from each of them all ranks can come to an end. */
export function exploreBarrier(options: ModelOptions): ModelResult {
  const model = new Model(options);
  const ids = new Map<string, number>();
  const queue: [State, number][] = [];
  const ends: number[] = [];
  const before: number[][] = [];
  const idOf = (state: State): number => {
    const key = String.fromCharCode(...state);
    const known = ids.get(key);
    if (known !== undefined) return known;
    const id = ids.size;
    ids.set(key, id);
    before.push([]);
    queue.push([state, id]);
    return id;
  };
  idOf(model.first());
  try {
    for (let item = queue.pop(); item !== undefined; item = queue.pop()) {
      const [state, id] = item;
      if (model.isOver(state)) ends.push(id);
      else for (const next of model.next(state)) before[idOf(next)]!.push(id);
    }
    if (numReached(ends, before) < ids.size) throw new Broken('somebody waits for ever');
  } catch (error) {
    if (!(error instanceof Broken)) throw error;
    return { states: ids.size, broken: error.message };
  }
  return { states: ids.size, broken: null };
}

/** States that lead to one of `ends`, these included. */
function numReached(ends: readonly number[], before: readonly (readonly number[])[]): number {
  const reached = new Uint8Array(before.length);
  const queue = [...ends];
  for (const id of ends) reached[id] = 1;
  let count = ends.length;
  for (let id = queue.pop(); id !== undefined; id = queue.pop()) {
    for (const earlier of before[id]!) {
      if (reached[earlier] === 1) continue;
      reached[earlier] = 1;
      count++;
      queue.push(earlier);
    }
  }
  return count;
}

class Model {
  readonly #ranks: number;
  readonly #rounds: number;
  readonly #options: ModelOptions;
  readonly #mutation: Mutation | undefined;

  constructor(options: ModelOptions) {
    this.#ranks = options.ranks;
    this.#rounds = options.rounds;
    this.#options = options;
    this.#mutation = options.mutation;
  }

  first(): State {
    const { failures = 0, deaths = 0, stalls = 0 } = this.#options;
    const state = new Int8Array(SHARED + this.#ranks * RANK_WORDS);
    state[FAILURES] = failures;
    state[DEATHS] = deaths;
    state[STALLS] = stalls;
    for (let rank = 0; rank < this.#ranks; rank++) state[this.#word(rank, MEETING)] = 1;
    return state;
  }

  /** All states that one step leads to. @throws Broken. */
  next(state: State): State[] {
    const next: State[] = [];
    for (let rank = 0; rank < this.#ranks; rank++) this.#steps(state, rank, next);
    if (state[MAIN] !== 0) next.push(this.#mainStep(state));
    if (state[REQUEST] === 0) next.push(changed(state, (copy) => (copy[REQUEST] = 1)));
    return next;
  }

  isOver(state: State): boolean {
    for (let rank = 0; rank < this.#ranks; rank++) if (state[this.#word(rank, PC)]! < Pc.finished) return false;
    return true;
  }

  #word(rank: number, word: number): number {
    return SHARED + rank * RANK_WORDS + word;
  }

  #mainStep(state: State): State {
    return changed(state, (copy) => {
      const step = copy[MAIN_STEP]!;
      if (step === 0 && copy[POISON] === 0) copy[POISON] = copy[MAIN]!;
      if (step === 1) copy[SIGNAL]!++;
      if (step === 2) this.#wake(copy);
      copy[MAIN_STEP] = step + 1;
      if (step === 2) copy[MAIN] = 0;
    });
  }

  #wake(state: State): void {
    for (let rank = 0; rank < this.#ranks; rank++) {
      if (state[this.#word(rank, PC)] === Pc.asleep) state[this.#word(rank, PC)] = this.#firstLook();
    }
  }

  #firstLook(): number {
    return this.#mutation === 'look before reading the signal' ? Pc.lookRound : Pc.readSignal;
  }

  /** Adds the states that a step of `rank` leads to. */
  #steps(state: State, rank: number, next: State[]): void {
    const base = this.#word(rank, 0);
    const pc = state[base + PC]!;
    const to = (change: (copy: State) => void) => next.push(changed(state, change));
    const goTo = (target: number) => to((copy) => (copy[base + PC] = target));
    const meeting = state[base + MEETING]!;
    const round = (meeting + 1) >> 1;
    const barrierRound = this.#barrierRound(meeting);
    this.#mishaps(state, rank, pc, to);
    switch (pc) {
      case Pc.write:
        to((copy) => {
          copy[base + ROW] = round;
          copy[base + PC] = this.#mutation === 'sum before the barrier' ? Pc.sum : this.#meet();
        });
        break;
      case Pc.ownRound:
        to((copy) => {
          copy[base + OWN_ROUND] = barrierRound;
          copy[base + PC] = this.#mutation === 'own round after arriving' ? this.#afterArriving(copy, base) : Pc.arrive;
        });
        break;
      case Pc.arrive:
        to((copy) => {
          copy[base + COUNT] = copy[ARRIVALS]! + 1;
          copy[base + CAME_POISONED] = copy[POISON] === 0 ? 0 : 1;
          if (this.#mutation === 'arrive without an atomic add') copy[base + PC] = Pc.arriveStore;
          else this.#arrived(copy, base);
        });
        break;
      case Pc.arriveStore:
        to((copy) => this.#arrived(copy, base));
        break;
      case Pc.lastPoison:
        goTo(state[POISON] === 0 ? Pc.latchStop : Pc.failed);
        break;
      case Pc.latchStop:
        to((copy) => {
          copy[STOP] = copy[REQUEST]!;
          copy[base + PC] = this.#mutation === 'signal before round' ? Pc.publishSignal : Pc.publish;
        });
        break;
      case Pc.publish:
        to((copy) => {
          if (copy[base + CAME_POISONED] === 1) throw new Broken('a poisoned barrier was passed');
          copy[ROUND] = barrierRound;
          if (this.#mutation === 'signal before round') this.#leave(copy, base);
          else copy[base + PC] = Pc.publishSignal;
        });
        break;
      case Pc.publishSignal:
        to((copy) => {
          copy[SIGNAL]!++;
          copy[base + PC] = Pc.notify;
        });
        break;
      case Pc.notify:
        to((copy) => {
          this.#wake(copy);
          if (this.#mutation === 'signal before round') copy[base + PC] = Pc.publish;
          else this.#leave(copy, base);
        });
        break;
      case Pc.readSignal:
        to((copy) => {
          copy[base + OWN_SIGNAL] = copy[SIGNAL]!;
          copy[base + PC] = this.#mutation === 'look before reading the signal' ? Pc.sleep : Pc.lookRound;
        });
        break;
      case Pc.lookRound:
        to((copy) => {
          if (copy[ROUND] === barrierRound) this.#leave(copy, base);
          else copy[base + PC] = Pc.lookPoison;
        });
        break;
      case Pc.lookPoison:
        if (state[POISON] !== 0) goTo(Pc.failed);
        else if (this.#mutation === 'look before reading the signal') goTo(Pc.readSignal);
        else {
          const isExpired = state[base + EXPIRED] === 1;
          if (isExpired || this.#hasDeadline(rank)) goTo(Pc.lookMissing);
          if (!isExpired) goTo(Pc.sleep);
        }
        break;
      case Pc.sleep:
        to((copy) => {
          const isSame = copy[SIGNAL] === copy[base + OWN_SIGNAL] || this.#mutation === 'sleep without comparing';
          copy[base + PC] = isSame ? Pc.asleep : this.#firstLook();
        });
        break;
      case Pc.asleep:
        if (!this.#hasDeadline(rank)) break;
        to((copy) => {
          copy[base + EXPIRED] = 1;
          copy[base + PC] = this.#firstLook();
        });
        break;
      case Pc.lookMissing:
        to((copy) => this.#lookMissing(copy, base, meeting));
        break;
      case Pc.poison:
        to((copy) => {
          const isLate = this.#mutation === 'poison after signal';
          if (!isLate) setPoison(copy, base);
          copy[base + PC] = isLate ? Pc.poisonNotify : Pc.poisonSignal;
          if (isLate) copy[SIGNAL]!++;
        });
        break;
      case Pc.poisonSignal:
        to((copy) => {
          copy[SIGNAL]!++;
          copy[base + PC] = Pc.poisonNotify;
        });
        break;
      case Pc.poisonNotify:
        to((copy) => {
          this.#wake(copy);
          if (this.#mutation === 'poison after signal') setPoison(copy, base);
          copy[base + PC] = Pc.failed;
        });
        break;
      case Pc.sum:
        to((copy) => {
          const at = copy[base + AT]!;
          if (copy[this.#word(at, ROW)] !== round) throw new Broken('a sum saw a row of another round');
          copy[base + AT] = at + 1;
          if (at + 1 < this.#ranks) return;
          copy[base + AT] = 0;
          copy[base + CHUNK] = round;
          copy[base + PC] = this.#meet();
          if (this.#mutation !== 'no second barrier') return;
          copy[base + MEETING] = meeting + 1;
          copy[base + PC] = Pc.read;
        });
        break;
      case Pc.read:
        to((copy) => {
          const at = copy[base + AT]!;
          if (copy[this.#word(at, CHUNK)] !== round - 1) throw new Broken('a rank read a result of another round');
          copy[base + AT] = at + 1;
          if (at + 1 < this.#ranks) return;
          copy[base + AT] = 0;
          copy[base + PC] = Pc.seeStop;
        });
        break;
      case Pc.seeStop:
        to((copy) => {
          const own = SEEN + (round % 2);
          const saw = 1 + copy[STOP]!;
          if (copy[own] !== 0 && copy[own] !== saw) throw new Broken('two ranks saw another request to stop');
          copy[own] = saw;
          copy[SEEN + ((round + 1) % 2)] = 0;
          copy[base + PC] = round > this.#rounds ? Pc.finished : Pc.write;
        });
        break;
    }
  }

  #hasDeadline(rank: number): boolean {
    return rank < (this.#options.deadlines ?? 0);
  }

  /** The round that the barrier counts. */
  #barrierRound(meeting: number): number {
    return this.#mutation === 'no second barrier' ? (meeting + 1) >> 1 : meeting;
  }

  #meet(): number {
    return this.#mutation === 'own round after arriving' ? Pc.arrive : Pc.ownRound;
  }

  /** A rank may fail, die or stop for ever while it works, never while it is inside a barrier. */
  #mishaps(state: State, rank: number, pc: number, to: (change: (copy: State) => void) => void): void {
    if (pc !== Pc.write && pc !== Pc.sum && pc !== Pc.read) return;
    const base = this.#word(rank, 0);
    if (state[FAILURES]! > 0) {
      to((copy) => {
        copy[FAILURES]!--;
        copy[base + MISSING] = 1 << rank; // itself the culprit
        copy[base + PC] = Pc.poison;
      });
    }
    if (state[DEATHS]! > 0) {
      to((copy) => {
        copy[DEATHS]!--;
        copy[MAIN] = rank + 1;
        copy[MAIN_STEP] = 0;
        copy[base + PC] = Pc.gone;
      });
    }
    const { deadlines = 0 } = this.#options;
    if (state[STALLS]! > 0 && rank >= deadlines % this.#ranks) {
      to((copy) => {
        copy[STALLS]!--;
        copy[base + PC] = Pc.gone;
      });
    }
  }

  #arrived(copy: State, base: number): void {
    copy[ARRIVALS] = copy[base + COUNT]!;
    copy[base + ARRIVED] = copy[base + MEETING]!;
    copy[base + EXPIRED] = 0;
    copy[base + PC] = this.#mutation === 'own round after arriving' ? Pc.ownRound : this.#afterArriving(copy, base);
  }

  #afterArriving(copy: State, base: number): number {
    const isLast = copy[base + COUNT] === this.#ranks * this.#barrierRound(copy[base + MEETING]!);
    copy[base + COUNT] = 0;
    if (!isLast) return this.#firstLook();
    return this.#mutation === 'no look at poison by the last' ? Pc.latchStop : Pc.lastPoison;
  }

  /** A rank leaves a meeting. */
  #leave(copy: State, base: number): void {
    const meeting = copy[base + MEETING]!;
    copy[base + MEETING] = meeting + 1;
    copy[base + OWN_SIGNAL] = 0;
    copy[base + EXPIRED] = 0;
    copy[base + AT] = 0;
    copy[base + CAME_POISONED] = 0;
    copy[base + PC] = meeting % 2 === 1 ? Pc.sum : Pc.read;
    if (meeting % 2 === 1 && this.#mutation === 'sum before the barrier') copy[base + PC] = this.#meet();
  }

  /** One load of another rank's round; after the last of them the rank poisons, or looks again. */
  #lookMissing(copy: State, base: number, meeting: number): void {
    const at = copy[base + AT]!;
    const own = copy[this.#word(at, OWN_ROUND)]!;
    const barrierRound = this.#barrierRound(meeting);
    if (own < barrierRound || (own > barrierRound && this.#mutation === 'ahead is missing')) {
      if (copy[this.#word(at, ARRIVED)]! >= meeting) throw new Broken('a rank that had arrived was called missing');
      copy[base + MISSING]! |= 1 << at;
    }
    copy[base + AT] = at + 1;
    if (at + 1 < this.#ranks) return;
    copy[base + AT] = 0;
    copy[base + PC] = copy[base + MISSING] === 0 ? Pc.sleep : Pc.poison;
  }
}

/** The first missing rank is the culprit; the first to poison wins. */
function setPoison(copy: State, base: number): void {
  if (copy[POISON] === 0) copy[POISON] = 32 - Math.clz32(copy[base + MISSING]! & -copy[base + MISSING]!);
}

function changed(state: State, change: (copy: State) => void): State {
  const copy = state.slice();
  change(copy);
  return copy;
}
