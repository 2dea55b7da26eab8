/**
 * `dtrain export`: the weights of a checkpoint for others.
 * Must stay true: the file depends on the weights alone; equal weights give equal bytes.
 */
import fs from 'node:fs';
import { writeFileAtomic } from '../core/files.js';
import { decodeSafetensors, encodeSafetensors } from '../core/safetensors.js';
import { openCheckpoint } from '../train/checkpoint.js';

export interface ExportOptions {
  readonly checkpoint: string;
  readonly format: 'safetensors';
  /** The file to write; replaced in one step. */
  readonly out: string;
}

/** @throws DTRAIN_CHECKPOINT_* (exit 6), DTRAIN_STORAGE (exit 7). */
export async function exportCheckpoint({
  checkpoint,
  out,
}: ExportOptions): Promise<{ tensors: number; bytes: number }> {
  const { weightsFile } = openCheckpoint(checkpoint);
  const tensors = decodeSafetensors(fs.readFileSync(weightsFile), weightsFile);
  const bytes = encodeSafetensors(tensors);
  writeFileAtomic(out, bytes);
  return { tensors: tensors.size, bytes: bytes.length };
}
