/** The entry of one point of `bench scaling`: options as JSON in the first argument, the result as JSON on standard output. */
import { benchStep, type StepBenchOptions } from './bench-step.js';

try {
  const result = await benchStep(JSON.parse(process.argv[2]!) as StepBenchOptions);
  process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit(0));
} catch (error) {
  process.stderr.write(`${(error as Error).message}\n`, () => process.exit(1));
}
