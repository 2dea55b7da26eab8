/** The entry of one path of `bench data`: options as JSON in the first argument, the answer as JSON on standard output, lines for people beside it. */
import { serializeError } from '../core/errors.js';
import { type DataBenchOptions, measurePath, type PathAnswer } from './bench-data.js';

const say = (line: string) => process.stderr.write(`${line}\n`);

async function answer(): Promise<PathAnswer> {
  try {
    return { measured: await measurePath({ ...(JSON.parse(process.argv[2]!) as DataBenchOptions), say }) };
  } catch (error) {
    return { error: serializeError(error, {}) };
  }
}

const text = JSON.stringify(await answer());
process.stdout.write(`${text}\n`, () => process.exit(0));
