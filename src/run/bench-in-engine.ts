/**
 * `dtrain bench step`: times the step in an engine, as a run has it, so that its start and its memory are those of the command.
 *
 * Must stay true: imports nothing that loads native code; an engine that ends without a result is an error.
 */
import { processStartedAt } from '../core/clock.js';
import { deserializeError } from '../core/errors.js';
import type { StepBench, StepBenchOptions } from './bench-step.js';
import { engineFailure } from './engine-failure.js';
import type { EngineProcess } from './engine-process.js';
import { peakRssBytes } from './peak-memory.js';

/** Takes over `engine`, and ends it. @throws what benchStep throws, and where the engine itself ended. */
export async function benchInEngine(options: StepBenchOptions, engine: EngineProcess): Promise<StepBench> {
  const { say, ...data } = options;
  let wasReady = false;
  try {
    engine.bench({ ...data, startedAt: processStartedAt() });
    for await (const message of engine.messages()) {
      if (message.kind === 'ready') wasReady = true;
      if (message.kind === 'say' || message.kind === 'warn') say?.(message.line);
      if (message.kind === 'failed') throw deserializeError(message.error);
      if (message.kind !== 'benched') continue;
      const { result } = message;
      return { ...result, peakRssBytes: result.peakRssBytes + peakRssBytes() };
    }
  } finally {
    engine.kill();
    await engine.ended;
  }
  const nothing = { ranks: [], beatAgeSeconds: 0, killedFor: undefined, waitedSeconds: 0, memoryKills: undefined };
  const seen = { ...nothing, pid: engine.pid, end: await engine.ended, wasReady };
  throw engineFailure(seen, '');
}
