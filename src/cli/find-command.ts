/** `dtrain find`: the search for a learning rate or a batch, for people as a picture or table with a last line that says what to set. */
import { ExitCode } from '../core/errors.js';
import type { BatchSearch } from '../run/find-batch.js';
import type { LearningRateSweep, RatePoint } from '../run/find-learning-rate.js';
import type { Context } from './context.js';
import type { Flags } from './flags.js';
import { countText, shortText, tableText } from './number-text.js';
import { wordMeant } from './word-meant.js';

const BAR_COLUMNS = 40;
/** Lines of the picture. */
const ROWS = 20;

export async function findRateCommand(flags: Flags, { console, run }: Context): Promise<number> {
  const min = flags.positive('min', 1e-4);
  const max = flags.positive('max', 10);
  if (min >= max) flags.fail(`--min: expected a rate below --max (${max}), got ${min}.`);
  const steps = flags.count('steps', 100, { min: 10, max: 100_000 });
  const devices = flags.devices();
  const sweep = await run.findLearningRate({
    ...(await configOptions(flags)),
    devices,
    min,
    max,
    steps,
    say: (line) => console.say(line),
    onProgress: ({ step, learningRate, loss }) => {
      if (console.isLive && !console.isQuiet && !console.isJson)
        console.live(`step ${step}/${steps}  learning rate ${shortText(learningRate)}  loss ${loss.toFixed(3)}`);
    },
  });
  if (console.isJson) console.json(sweep);
  else console.out(rateText(sweep));
  return ExitCode.ok;
}

export async function findBatchCommand(flags: Flags, { console, run }: Context): Promise<number> {
  const devices = flags.devices();
  const max = flags.count('max', 65_536, { min: 1, max: 1_048_576 });
  const steps = flags.count('steps', 3, { min: 1, max: 1000 });
  const options = await configOptions(flags);
  const first = options.config.train.globalBatch;
  if (first > max) flags.fail(`--max: expected at least train.globalBatch (${first}), got ${max}.`);
  const found = await run.findBatch({ ...options, devices, max, steps, say: (line) => console.say(line) });
  if (console.isJson) console.json(found);
  else console.out(batchText(found));
  return ExitCode.ok;
}

async function configOptions(flags: Flags) {
  const overrides = flags.overrides(wordMeant);
  const file = flags.required('config', 'for instance --config resnet20');
  const { configName, loadConfig } = await import('../config/load.js'); // after the flags: a usage error need not wait for the schema
  return { config: loadConfig({ file, overrides }), configName: configName(file) };
}

/** At most ROWS of the points, each with a bar as long as its loss, and what to do. */
function rateText({ points, suggestion, steepest, diverged }: LearningRateSweep): string {
  const every = Math.max(1, Math.ceil(points.length / ROWS));
  const shown = points.filter((_, i) => i % every === 0);
  const highest = Math.max(...shown.map(({ loss }) => Math.min(loss, 2 * points[0]!.loss)));
  const bar = ({ loss }: RatePoint) =>
    '█'.repeat(Math.max(1, Math.round((BAR_COLUMNS * Math.min(loss, highest)) / highest)));
  const table = tableText([
    ['learning rate', 'loss'],
    ...shown.map(({ learningRate, loss }) => [shortText(learningRate), loss.toFixed(3)]),
  ]);
  const [head, ...rows] = table.split('\n');
  const picture = [head, ...rows.map((row, i) => `${row}  ${bar(shown[i]!)}`)];
  const end = diverged ? `The loss rose without bounds at ${shortText(points.at(-1)?.learningRate ?? 0)}. ` : '';
  if (suggestion === null || steepest === null)
    return [...picture, `${end}The loss never fell: try a lower --min, or more --steps.`].join('\n');
  return [
    ...picture,
    `${end}The loss falls up to ${shortText(suggestion)}, fastest at ${shortText(steepest)}.`,
    `try: schedule.learningRate=${shortText(suggestion)} (the highest of a schedule that falls)`,
  ].join('\n');
}

function batchText({ points, largest, limit, fastest }: BatchSearch): string {
  const rows = points.map(({ globalBatch, imagesPerSecond, peakRssBytes }) => [
    String(globalBatch),
    countText(imagesPerSecond),
    `${countText(peakRssBytes / 1e6)} MB`,
  ]);
  const why = limit === 'max' ? 'no larger one was tried' : 'the largest that fits into memory';
  return [
    tableText([['batch', 'images/s', 'memory'], ...rows]),
    `largest: train.globalBatch=${largest} (${why})`,
    `fastest: train.globalBatch=${fastest}`,
  ].join('\n');
}
