/** `dtrain eval`: the accuracy of a checkpoint, in all and for each class. */
import type { Context } from './context.js';
import type { Flags } from './flags.js';
import { countText, percentText, tableText } from './number-text.js';

export async function evalCommand(flags: Flags, { console, run }: Context): Promise<number> {
  const overrides = flags.overrides();
  const devices = flags.devices();
  const checkpoint = flags.text('CHECKPOINT') ?? '';
  const report = await run.evaluateCheckpoint({ checkpoint, devices, overrides, say: (line) => console.say(line) });
  if (console.isJson) {
    console.json(report);
    return 0;
  }
  const rows = report.classes.map((name, i) => [name, percentText(report.perClass[i]!)]);
  console.out(tableText([['class', 'accuracy'], ...rows]));
  console.out(
    `test accuracy ${percentText(report.testAccuracy)} of ${countText(report.images)} images, loss ${report.testLoss.toFixed(4)}, step ${report.step}`,
  );
  return 0;
}
