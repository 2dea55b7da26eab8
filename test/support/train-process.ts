/**
 * A process that trains with a made-up run, for tests of signals and closed streams.
 * The argument says what the run does: `obey` a stop, `ignore` it, or `print` many events and end.
 */
import { runCommandLine } from '../../src/cli/command-line.js';
import { Console } from '../../src/cli/console.js';
import { type RunLayer, runLayer } from '../../src/cli/run-layer.js';
import { DtrainError, ExitCode } from '../../src/core/errors.js';
import { END_EVENT, RUN_EVENT, stepEvent } from './events.js';

const [behaviour, ...words] = process.argv.slice(2);
const turn = () => new Promise((resolve) => setImmediate(resolve));

const train: RunLayer['train'] = async function* (_options, signal) {
  yield RUN_EVENT;
  for (let step = 1; behaviour !== 'print' || step <= 2000; step++) {
    await turn();
    if (behaviour === 'obey' && signal?.aborted) {
      throw new DtrainError('DTRAIN_STOPPED', ExitCode.stopped, `stopped by ${String(signal.reason)}`, { step });
    }
    if (behaviour === 'print') yield stepEvent(step, 0);
  }
  yield END_EVENT;
};

const { env, stdout, stderr } = process;
const console = new Console({ stdout, stderr, env, isJson: words.includes('--json'), isQuiet: false });
process.exit(
  await runCommandLine(
    words,
    { console, run: { ...runLayer, prepareEngine: async () => undefined, train }, env },
    '9.9.9',
  ),
);
