/** Runs a command line in this process, on streams that keep what was written and a run layer that a test makes up. */
import { Writable } from 'node:stream';
import { runCommandLine } from '../../src/cli/command-line.js';
import { Console, type OutputStream } from '../../src/cli/console.js';
import type { RunLayer } from '../../src/cli/run-layer.js';

/** A stream that keeps its text. */
export class TextStream extends Writable {
  text = '';

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.text += chunk.toString();
    done();
  }
}

export function terminal(columns: number): TextStream & OutputStream {
  return Object.assign(new TextStream(), { isTTY: true, columns });
}

export interface Outcome {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Functions that `run` lacks fail the test that calls them. */
export async function runCommand(
  words: readonly string[],
  run: Partial<RunLayer> = {},
  env: NodeJS.ProcessEnv = {},
): Promise<Outcome> {
  const [stdout, stderr] = [new TextStream(), new TextStream()];
  const console = new Console({
    stdout,
    stderr,
    env,
    isJson: words.includes('--json'),
    isQuiet: words.includes('--quiet'),
  });
  const absent = (name: string) => () => {
    throw new Error(`the test has no ${name}`);
  };
  const layer: RunLayer = {
    prepareEngine: async () => undefined,
    train: absent('train'),
    evaluateCheckpoint: absent('evaluateCheckpoint'),
    benchStep: absent('benchStep'),
    benchAllReduce: absent('benchAllReduce'),
    benchScaling: absent('benchScaling'),
    benchData: absent('benchData'),
    findLearningRate: absent('findLearningRate'),
    findBatch: absent('findBatch'),
    openMetrics: absent('openMetrics'),
    describeModels: absent('describeModels'),
    exportCheckpoint: absent('exportCheckpoint'),
    predictImages: absent('predictImages'),
    writeReport: absent('writeReport'),
    watchRun: absent('watchRun'),
    ...run,
  };
  const exitCode = await runCommandLine(words, { console, run: layer, env }, '9.9.9');
  return { exitCode, stdout: stdout.text, stderr: stderr.text };
}
