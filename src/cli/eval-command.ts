/** `dtrain eval`: the accuracy of a checkpoint, in all and for each class, what was taken for what, and how far its probabilities can be believed. */
import type { EvaluationReport } from '../run/evaluate.js';
import type { Context } from './context.js';
import type { Flags } from './flags.js';
import { countText, percentText, tableText } from './number-text.js';

/** A larger confusion matrix is no reading for a terminal; the ten largest confusions are. */
const MATRIX_CLASSES = 12;
const LARGEST_CONFUSIONS = 10;

export async function evalCommand(flags: Flags, { console, run }: Context): Promise<number> {
  const overrides = flags.overrides();
  const devices = flags.devices();
  const checkpoint = flags.text('CHECKPOINT') ?? '';
  const report = await run.evaluateCheckpoint({ checkpoint, devices, overrides, say: (line) => console.say(line) });
  if (console.isJson) {
    console.json(report);
    return 0;
  }
  console.out(classTable(report));
  console.out('');
  console.out(confusionText(report, console.columns));
  console.out('');
  const { testAccuracy, top5Accuracy, testLoss, images, step, calibration, classes } = report;
  const top5 = classes.length > 5 ? `top-5 ${percentText(top5Accuracy)}, ` : '';
  console.out(`calibration error ${percentText(calibration.error)}`);
  console.out(
    `test accuracy ${percentText(testAccuracy)} of ${countText(images)} images, ${top5}loss ${testLoss.toFixed(4)}, step ${step}`,
  );
  return 0;
}

/** Recall: of the class's images; precision: of the images that were given the class. */
function classTable({ classes, perClass, confusion }: EvaluationReport): string {
  const rows = classes.map((name, i) => {
    const images = confusion[i]!.reduce((a, b) => a + b, 0);
    const given = confusion.reduce((sum, row) => sum + row[i]!, 0);
    const precision = given === 0 ? Number.NaN : confusion[i]![i]! / given;
    return [name, countText(images), percentText(perClass[i]!), percentText(precision)];
  });
  return tableText([['class', 'images', 'accuracy', 'precision'], ...rows]);
}

function confusionText(report: EvaluationReport, columns: number): string {
  const { classes, confusion } = report;
  const heads = classes.map((name) => name.slice(0, 5));
  const rows = classes.map((name, i) => [name, ...confusion[i]!.map((count) => (count === 0 ? '·' : String(count)))]);
  const table = tableText([['label \\ given', ...heads], ...rows]);
  const isReadable = classes.length <= MATRIX_CLASSES && table.split('\n').every((line) => line.length < columns);
  return isReadable ? table : largestConfusions(report);
}

function largestConfusions({ classes, confusion }: EvaluationReport): string {
  const pairs = confusion.flatMap((row, label) => row.map((count, given) => ({ count, label, given })));
  const wrong = pairs.filter(({ count, label, given }) => label !== given && count > 0);
  wrong.sort((a, b) => b.count - a.count || a.label - b.label || a.given - b.given);
  const rows = wrong
    .slice(0, LARGEST_CONFUSIONS)
    .map(({ count, label, given }) => [`${classes[label]} taken for ${classes[given]}`, countText(count)]);
  return tableText([['largest confusions', 'images'], ...rows]);
}
