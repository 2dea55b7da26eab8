/** `dtrain report`: runs, and benches of scaling, as one page. */
import fs from 'node:fs';
import { DtrainError, ExitCode } from '../core/errors.js';
import { writeFileAtomic } from '../core/files.js';
import { type RunRecord, readRun } from '../report/read-run.js';
import { type BenchRecord, reportPage, type ScalingRecord } from '../report/report-page.js';

export interface ReportOptions {
  /** Folders of runs; files of what `dtrain bench … --json` printed. */
  readonly sources: readonly string[];
  readonly out: string;
}

/** The number of runs on the page. @throws DTRAIN_RUN_MISSING, DTRAIN_STORAGE (exit 7). */
export async function writeReport({ sources, out }: ReportOptions): Promise<{ runs: number; bytes: number }> {
  const files = sources.filter((source) => fs.statSync(source, { throwIfNoEntry: false })?.isFile());
  const runs = distinct(sources.filter((source) => !files.includes(source)));
  const benches = files.flatMap(readBenches);
  const isScaling = (bench: BenchRecord): bench is BenchRecord & ScalingRecord => bench.bench === 'scaling';
  if (runs.length === 0) {
    const text = `report: expected at least one folder of a run, got ${sources.join(', ')}. Name a folder under runs/.`;
    throw new DtrainError('DTRAIN_RUN_MISSING', ExitCode.storage, text);
  }
  const scaling = benches.filter(isScaling);
  const page = reportPage({ runs, scaling, benches: benches.filter((bench) => !isScaling(bench)) });
  writeFileAtomic(out, page);
  return { runs: runs.length, bytes: Buffer.byteLength(page) };
}

/** Runs under the last parts of their paths, or under whole paths where two of those are equal. */
function distinct(folders: readonly string[]): RunRecord[] {
  const runs = folders.map(readRun);
  const isClear = new Set(runs.map(({ name }) => name)).size === runs.length;
  return isClear ? runs : runs.map((run, i) => ({ ...run, name: folders[i]! }));
}

/** A bench is the last line of what a command printed; a file may hold several, and other lines between them. */
function readBenches(file: string): BenchRecord[] {
  const lines = fs.readFileSync(file, 'utf8').split('\n');
  const found = lines.flatMap((line) => {
    try {
      const value = JSON.parse(line) as BenchRecord;
      return isBench(value) ? [value] : [];
    } catch {
      return [];
    }
  });
  if (found.length > 0) return found;
  const text = `${file}: expected the folder of a run, or what dtrain bench --json printed, got another file.`;
  throw new DtrainError('DTRAIN_RUN_MISSING', ExitCode.storage, `${text} Name a folder under runs/.`);
}

function isBench(value: unknown): value is BenchRecord {
  const { bench, points, imagesPerSecond, seconds } = (value ?? {}) as Record<string, unknown>;
  if (bench === 'scaling') return Array.isArray(points) && points.length > 0;
  if (bench === 'all-reduce') return typeof (seconds as { median?: unknown } | null)?.median === 'number';
  return (bench === 'step' || bench === 'data') && imagesPerSecond !== undefined;
}
