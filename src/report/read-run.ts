/**
 * A run as its folder tells it: config.yaml's values, metrics.jsonl's events, and what lies beside them. Reads files alone, so it serves
 * finished runs, running ones and those that failed, with no TensorFlow on the machine.
 *
 * Must stay true: after a resumed run each step is there once, as the last attempt had it; a half-written last line is no error.
 */
import fs from 'node:fs';
import path from 'node:path';
import { DtrainError, ExitCode } from '../core/errors.js';
import type {
  CheckpointEvent,
  EndEvent,
  ErrorEvent,
  EvaluationEvent,
  RunStartEvent,
  StepEvent,
  TrainEvent,
} from '../core/events.js';

export interface RunRecord {
  /** Last part of the folder's path. */
  readonly name: string;
  readonly run: Omit<RunStartEvent, 'config'>;
  /** Dotted keys and their values as JSON. */
  readonly config: Readonly<Record<string, string>>;
  readonly steps: readonly StepEvent[];
  readonly evaluations: readonly EvaluationEvent[];
  readonly checkpoints: readonly CheckpointEvent[];
  readonly end: EndEvent | null;
  readonly error: ErrorEvent | null;
  /** environment.json and evaluation.json as they are; null where they are missing. */
  readonly environment: unknown;
  readonly evaluation: unknown;
}

/** @throws DTRAIN_RUN_MISSING (exit 7) where the folder is not one of a run. */
export function readRun(folder: string): RunRecord {
  const events = readEvents(path.join(folder, 'metrics.jsonl'));
  const first = events.find((event) => event.event === 'run');
  if (first === undefined) throw noRun(folder, 'one without the event of a run');
  const { config, ...run } = first;
  const gathered = gather(events);
  const environment = readJson(path.join(folder, 'environment.json'));
  const evaluation = readJson(path.join(folder, 'evaluation.json'));
  return { name: path.basename(path.resolve(folder)), run, config: flat(config), ...gathered, environment, evaluation };
}

function readEvents(file: string): TrainEvent[] {
  if (!fs.existsSync(file)) throw noRun(path.dirname(file), 'one without metrics.jsonl');
  const events: TrainEvent[] = [];
  for (const line of fs.readFileSync(file, 'utf8').split('\n')) {
    const event = parsed(line) as TrainEvent | undefined;
    if (typeof event?.event === 'string') events.push(event);
  }
  return events;
}

function gather(
  events: readonly TrainEvent[],
): Pick<RunRecord, 'steps' | 'evaluations' | 'checkpoints' | 'end' | 'error'> {
  let steps: StepEvent[] = [];
  let evaluations: EvaluationEvent[] = [];
  let checkpoints: CheckpointEvent[] = [];
  let end: EndEvent | null = null;
  let error: ErrorEvent | null = null;
  for (const event of events) {
    if (event.event === 'end') end = event;
    if (event.event === 'error') error = event;
    if (event.event === 'run') [end, error] = [null, null]; // it goes on
    if (event.event === 'step') {
      const isBefore = ({ step }: { readonly step: number }) => step < event.step;
      [evaluations, checkpoints] = [evaluations.filter(isBefore), checkpoints.filter(isBefore)];
      steps = [...(isBefore(steps.at(-1) ?? { step: 0 }) ? steps : steps.filter(isBefore)), event];
    }
    if (event.event === 'evaluation') evaluations.push(event);
    if (event.event === 'checkpoint') checkpoints.push(event);
  }
  return { steps, evaluations, checkpoints, end, error };
}

/** `{a: {b: 1}}` as `{'a.b': '1'}`. */
function flat(value: unknown, prefix = ''): Record<string, string> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return { [prefix]: JSON.stringify(value) };
  const entries = Object.entries(value).map(([key, inner]) => flat(inner, prefix === '' ? key : `${prefix}.${key}`));
  return Object.assign({}, ...entries) as Record<string, string>;
}

function readJson(file: string): unknown {
  return fs.existsSync(file) ? (parsed(fs.readFileSync(file, 'utf8')) ?? null) : null;
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // a line that is being written
  }
}

function noRun(folder: string, got: string): DtrainError {
  const text = `${folder}: expected the folder of a run, got ${got}. Name a folder under runs/.`;
  return new DtrainError('DTRAIN_RUN_MISSING', ExitCode.storage, text);
}
