/** `dtrain export`: the weights of a checkpoint as a file for other programs. */
import type { Context } from './context.js';
import type { Flags } from './flags.js';
import { countText } from './number-text.js';

const LATER_FORMATS = ['tfjs', 'saved-model', 'onnx'];

export async function exportCommand(flags: Flags, { console, run }: Context): Promise<number> {
  const checkpoint = flags.text('CHECKPOINT') ?? '';
  const format = flags.required('format', '--format safetensors');
  if (format !== 'safetensors') {
    const later = LATER_FORMATS.includes(format) ? ' This format is not in this version yet.' : '';
    flags.fail(`--format: expected safetensors, got ${JSON.stringify(format)}.${later}`);
  }
  const out = flags.required('out', 'for instance --out model.safetensors');
  const { tensors, bytes } = await run.exportCheckpoint({ checkpoint, format, out });
  console.out(`${out}: ${countText(tensors)} tensors, ${countText(bytes)} bytes`);
  return 0;
}
