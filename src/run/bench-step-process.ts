/** The entry of one point of `bench scaling` or `find batch`: options as JSON in the first argument, the result as JSON on standard output. */
import { DtrainError, ExitCode } from '../core/errors.js';
import { benchStep, type StepBenchOptions } from './bench-step.js';

try {
  const result = await benchStep(JSON.parse(process.argv[2]!) as StepBenchOptions);
  process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit(0));
} catch (error) {
  const exitCode = error instanceof DtrainError ? error.exitCode : ExitCode.internal;
  process.stderr.write(`${(error as Error).message}\n`, () => process.exit(exitCode));
}
