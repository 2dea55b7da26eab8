/** `dtrain predict`: the most probable classes of image files. */
import type { Context } from './context.js';
import type { Flags } from './flags.js';
import { percentText } from './number-text.js';

export async function predictCommand(flags: Flags, { console, run }: Context): Promise<number> {
  const top = flags.count('top', 3, { min: 1, max: 1000 });
  const checkpoint = flags.text('CHECKPOINT') ?? '';
  const { classes, predictions } = await run.predictImages({ checkpoint, images: flags.words('IMAGE') });
  for (const { image, probabilities } of predictions) {
    const ranked = [...classes.keys()].sort((a, b) => probabilities[b]! - probabilities[a]! || a - b);
    if (console.isJson) {
      const byClass = Object.fromEntries(classes.map((name, i) => [name, probabilities[i]!]));
      console.json({ image, predicted: classes[ranked[0]!], probabilities: byClass });
      continue;
    }
    const named = ranked.slice(0, top).map((i) => `${classes[i]} ${percentText(probabilities[i]!)}`);
    console.out(`${image}: ${named.join(', ')}`);
  }
  return 0;
}
