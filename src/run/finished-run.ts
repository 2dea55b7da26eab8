/**
 * A run that is asked to go on and has nothing left to do.
 *
 * Must stay true: a run is finished when its last checkpoint is that of its last step and its evaluation is done; where a crash came between
 * that checkpoint and the `end` event, the event and the page are made now.
 */
import fs from 'node:fs';
import path from 'node:path';
import type { RunConfig } from '../config/schema.js';
import type { EndEvent, RunStartEvent, TrainEvent } from '../core/events.js';
import { writeFileAtomic } from '../core/files.js';
import { readRun } from '../report/read-run.js';
import { reportPage } from '../report/report-page.js';
import type { OpenCheckpoint } from '../train/checkpoint.js';
import { rounded } from './coordinator.js';
import { Timetable } from './timetable.js';

/** The events of its beginning and end; undefined where steps or an evaluation are left. */
export function endOfFinishedRun(runDir: string, config: RunConfig, opened: OpenCheckpoint): TrainEvent[] | undefined {
  const { state } = opened;
  const timetable = new Timetable(config, state.progress.trainImages);
  if (state.step < timetable.totalSteps) return undefined;
  const events = readEvents(path.join(runDir, 'metrics.jsonl'));
  const begin = events.find((event): event is RunStartEvent => event.event === 'run');
  const told = events.findLast((event): event is EndEvent => event.event === 'end' && event.steps === state.step);
  if (told === undefined && state.progress.evaluationDue) return undefined;
  const end = told ?? endEvent(config, timetable, state);
  if (told === undefined && begin !== undefined) tell(runDir, end);
  return begin === undefined ? [end] : [begin, end];
}

function endEvent(config: RunConfig, timetable: Timetable, state: OpenCheckpoint['state']): EndEvent {
  const { step, testAccuracy, bestTestAccuracy, progress } = state;
  return {
    event: 'end',
    steps: step,
    epochs: timetable.epochsAfter(step),
    finalTestAccuracy: testAccuracy,
    bestTestAccuracy,
    imagesPerSecond: rounded((step * config.train.globalBatch) / progress.trainingSeconds, 1),
    wallSeconds: rounded(progress.wallSeconds, 2),
  };
}

function tell(runDir: string, end: EndEvent): void {
  fs.appendFileSync(path.join(runDir, 'metrics.jsonl'), `${JSON.stringify(end)}\n`);
  writeFileAtomic(path.join(runDir, 'report.html'), reportPage({ runs: [readRun(runDir)], scaling: [], benches: [] }));
}

/** Whole lines alone. */
function readEvents(file: string): TrainEvent[] {
  if (!fs.existsSync(file)) return [];
  return fs
    .readFileSync(file, 'utf8')
    .split('\n')
    .flatMap((line) => {
      try {
        return [JSON.parse(line) as TrainEvent];
      } catch {
        return [];
      }
    });
}
