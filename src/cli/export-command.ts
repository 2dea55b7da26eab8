/** `dtrain export`: the weights of a checkpoint as a file, or a folder, for other programs. */
import type { ExportFormat } from '../run/export-checkpoint.js';
import type { Context } from './context.js';
import type { Flags } from './flags.js';
import { countText } from './number-text.js';

/** What stands after `--out` in the example of each format. */
const EXAMPLES: Readonly<Record<ExportFormat, string>> = {
  safetensors: 'model.safetensors',
  tfjs: 'web-model',
  'saved-model': 'saved-model',
  onnx: 'model.onnx',
};
const FORMATS = Object.keys(EXAMPLES) as ExportFormat[];

export async function exportCommand(flags: Flags, { console, run }: Context): Promise<number> {
  const checkpoint = flags.text('CHECKPOINT') ?? '';
  const given = flags.required('format', FORMATS.join(', '));
  const format = FORMATS.find((name) => name === given);
  if (format === undefined) flags.fail(`--format: expected ${FORMATS.join(', ')}, got ${JSON.stringify(given)}.`);
  const out = flags.required('out', `for instance --out ${EXAMPLES[format]}`);
  const fold = flags.isSet('fold');
  if (fold && format === 'safetensors') {
    flags.fail('--fold: not with safetensors, whose readers expect every batch norm. Leave it out.');
  }
  const { tensors, bytes } = await run.exportCheckpoint({ checkpoint, format, out, fold });
  console.out(`${out}: ${countText(tensors)} tensors, ${countText(bytes)} bytes`);
  return 0;
}
