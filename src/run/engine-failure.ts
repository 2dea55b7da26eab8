/**
 * What an engine's end means, where the engine could not say so itself. Pure.
 *
 * Idea: the system's word (exit code, signal), what the ranks were last seen doing, TensorFlow's last line, and what this supervisor did.
 */
import type { RankProgress } from '../collective/progress.js';
import { DtrainError, ExitCode, internalError } from '../core/errors.js';
import type { EngineEnd } from './engine-process.js';

/** Why the supervisor itself ended the engine. */
export type KilledFor = 'silence' | 'stop';

export interface EngineLastSeen {
  readonly pid: number | undefined;
  readonly end: EngineEnd;
  /** The last counters; empty before there were ranks. */
  readonly ranks: readonly RankProgress[];
  /** How old they are. */
  readonly beatAgeSeconds: number;
  /** Whether its modules were loaded. */
  readonly wasReady: boolean;
  readonly killedFor: KilledFor | undefined;
  /** How long it had been silent, or had been stopping. */
  readonly waitedSeconds: number;
  /** What the kernel counts: kills for want of memory before and now, and the file that says so. */
  readonly memoryKills: { readonly file: string; readonly before: number; readonly now: number } | undefined;
}

const NATIVE: readonly (NodeJS.Signals | null)[] = [
  'SIGABRT',
  'SIGSEGV',
  'SIGBUS',
  'SIGILL',
  'SIGFPE',
  'SIGTRAP',
  'SIGSYS',
];
const OUT_OF_MEMORY = /JavaScript heap out of memory|std::bad_alloc/;
const MEMORY_CURE = 'Lower train.globalBatch, or take fewer workers or a smaller model.';
/** One screen is 24 lines. */
const SHOWN_RANKS = 8;

/** `safe` says what of the run is safe, for instance `Last good checkpoint: step 4.` */
export function engineFailure(seen: EngineLastSeen, safe: string): DtrainError {
  const { end, ranks, wasReady, killedFor, waitedSeconds, memoryKills } = seen;
  const { code, signal, startError, fatalLine } = end;
  if (startError !== undefined) return notStarted(startError);
  if (signal === null && code !== 0 && !wasReady) {
    return internalError(`the engine ended with exit code ${code} while it was starting. What it said stands above.`);
  }
  const steps = ranks.map(({ step }) => step).filter((step) => step > 0);
  const place = steps.length > 0 ? { step: Math.min(...steps) } : {};
  const fail = (name: string, exitCode: ExitCode, what: string, cure = '') => {
    const words = fatalLine === undefined ? '' : `Its last words: ${fatalLine}`;
    const parts = [`engine (process ${seen.pid}): ${what}`, lastSeenText(seen), words, [cure, safe].join(' ').trim()];
    return new DtrainError(name, exitCode, parts.filter((part) => part !== '').join('\n'), place);
  };
  if (killedFor === 'silence') {
    return fail('DTRAIN_HANG', ExitCode.hang, `no answer for ${waitedSeconds} s, so it was ended.`);
  }
  if (killedFor === 'stop') {
    const what = `asked to stop, it did not within ${waitedSeconds} s, so it was ended.`;
    return fail('DTRAIN_HANG', ExitCode.hang, what);
  }
  if (signal === 'SIGKILL' && memoryKills && memoryKills.now > memoryKills.before) {
    const { file, before, now } = memoryKills;
    const what = `the kernel killed it because memory ran out (oom_kill in ${file} rose from ${before} to ${now}).`;
    return fail('DTRAIN_OUT_OF_MEMORY', ExitCode.outOfMemory, what, MEMORY_CURE);
  }
  if (fatalLine !== undefined && OUT_OF_MEMORY.test(fatalLine)) {
    return fail('DTRAIN_OUT_OF_MEMORY', ExitCode.outOfMemory, 'memory ran out.', MEMORY_CURE);
  }
  if (NATIVE.includes(signal)) {
    const cure = 'If it happens again: dtrain doctor tells whether library and devices fit.';
    return fail('DTRAIN_NATIVE_ABORT', ExitCode.nativeAbort, `ended by ${signal}, in native code.`, cure);
  }
  if (signal !== null) {
    return fail('DTRAIN_ENGINE_KILLED', ExitCode.nativeAbort, `ended by ${signal}, which dtrain did not send.`);
  }
  const what = `ended with exit code ${code} before the run was finished.`;
  return fail('DTRAIN_ENGINE_ENDED', ExitCode.nativeAbort, what);
}

function notStarted(startError: string): DtrainError {
  const text = `engine: its process could not be started (${startError}). Check the limits on processes and memory (ulimit -a).`;
  return new DtrainError('DTRAIN_ENGINE_START', ExitCode.environment, text);
}

/** `Last seen 0.4 s before: rank 0 in compute of step 5 for 0.2 s; …`, those that are furthest behind first. */
function lastSeenText({ ranks, beatAgeSeconds }: EngineLastSeen): string {
  if (ranks.every(({ step }) => step === 0)) return 'It had not come to its first step.';
  const behind = [...ranks].sort((a, b) => a.step - b.step || b.ageSeconds - a.ageSeconds || a.rank - b.rank);
  const more = ranks.length > SHOWN_RANKS ? `; and ${ranks.length - SHOWN_RANKS} more` : '';
  const texts = behind.slice(0, SHOWN_RANKS).map(rankText).join('; ');
  return `Last seen ${beatAgeSeconds.toFixed(1)} s before: ${texts}${more}.`;
}

function rankText({ rank, step, phase, ageSeconds }: RankProgress): string {
  if (step === 0) return `rank ${rank} before its first step`;
  return `rank ${rank} in ${phase} of step ${step} for ${ageSeconds.toFixed(1)} s`;
}
