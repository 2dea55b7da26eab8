/** `dtrain models`: the models with their sizes, or one of them. */
import { MODEL_NAMES } from '../config/schema.js';
import { nearestWord } from '../core/suggest.js';
import type { Context } from './context.js';
import type { Flags } from './flags.js';
import { countText, tableText } from './number-text.js';

/** From this extent on, images get the imagenet stem. */
const IMAGENET_EXTENT = 64;

export async function modelsCommand(flags: Flags, { console, run }: Context): Promise<number> {
  const input = imageSize(flags);
  const classes = flags.count('classes', 10, { min: 2, max: 1_000_000 });
  const stem = stemOf(flags) ?? (Math.min(input.height, input.width) >= IMAGENET_EXTENT ? 'imagenet' : 'cifar');
  const descriptions = await run.describeModels({ names: modelNames(flags), input, classes, stem });
  if (console.isJson) {
    for (const description of descriptions) console.json(description);
    return 0;
  }
  const rows = descriptions.map(({ model, ...numbers }) => [
    model,
    countText(numbers.parameters),
    countText(numbers.multiplyAdds),
    countText(numbers.layers),
  ]);
  console.out(tableText([['model', 'parameters', 'multiply-adds', 'layers'], ...rows]));
  return 0;
}

function modelNames(flags: Flags): readonly string[] {
  const name = flags.text('NAME');
  if (name === undefined) return MODEL_NAMES;
  if (MODEL_NAMES.some((known) => known === name)) return [name];
  const nearest = nearestWord(name, MODEL_NAMES);
  const hint = nearest === undefined ? '.' : ` (did you mean ${nearest}?)`;
  return flags.fail(`unknown model ${JSON.stringify(name)}${hint}`);
}

function imageSize(flags: Flags): { readonly height: number; readonly width: number } {
  const text = flags.text('input') ?? '3x32x32';
  const [, height = 0, width = 0] = (/^3x(\d{1,5})x(\d{1,5})$/.exec(text) ?? []).map(Number);
  const fits = (extent: number) => extent >= 8 && extent <= 4096;
  if (fits(height) && fits(width)) return { height, width };
  return flags.fail(
    `--input: expected 3xHEIGHTxWIDTH with extents from 8 to 4096, such as 3x32x32, got ${JSON.stringify(text)}.`,
  );
}

function stemOf(flags: Flags): 'cifar' | 'imagenet' | undefined {
  const stem = flags.text('stem');
  if (stem === undefined || stem === 'cifar' || stem === 'imagenet') return stem;
  return flags.fail(`--stem: expected cifar or imagenet, got ${JSON.stringify(stem)}.`);
}
