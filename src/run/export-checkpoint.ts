/**
 * `dtrain export`: the weights of a checkpoint for others.
 * Must stay true: what is written depends on the weights alone (and on --fold); equal weights give equal bytes.
 */
import fs from 'node:fs';
import path from 'node:path';
import { DtrainError, ExitCode } from '../core/errors.js';
import { storageError, writeFileAtomic } from '../core/files.js';
import { decodeSafetensors, encodeSafetensors } from '../core/safetensors.js';
import type { ExportedFile } from '../export/exported-file.js';
import { foldBatchNorm } from '../export/fold-batch-norm.js';
import type { Network } from '../export/network.js';
import { onnxModel } from '../export/onnx-model.js';
import { readNetwork } from '../export/read-network.js';
import { savedModelFiles } from '../export/saved-model.js';
import { tfjsModelFiles } from '../export/tfjs-model.js';
import { openCheckpoint } from '../train/checkpoint.js';
import { restoreModel } from './restore-model.js';

export const EXPORT_FORMATS = ['safetensors', 'tfjs', 'saved-model', 'onnx'] as const;
export type ExportFormat = (typeof EXPORT_FORMATS)[number];

export interface ExportOptions {
  readonly checkpoint: string;
  readonly format: ExportFormat;
  /** The file to write, replaced in one step; for tfjs and saved-model the folder, new, empty or an earlier export. */
  readonly out: string;
  /** Batch norms become part of the convolutions before them; not for safetensors. */
  readonly fold: boolean;
}

export interface ExportReport {
  /** Of weights; constants of the graph are not counted. */
  readonly tensors: number;
  /** Of all files. */
  readonly bytes: number;
}

/** @throws DTRAIN_CHECKPOINT_* (exit 6), DTRAIN_EXPORT_UNSUPPORTED (exit 3), DTRAIN_STORAGE, DTRAIN_EXPORT_OUT (exit 7). */
export async function exportCheckpoint({ checkpoint, format, out, fold }: ExportOptions): Promise<ExportReport> {
  if (format === 'safetensors') return exportSafetensors(checkpoint, out);
  const { engine, model, weights, state } = await restoreModel(checkpoint, `dtrain export ${checkpoint}`);
  const network = readNetwork(engine, { ...state, model, weights });
  const final = fold ? foldBatchNorm(network) : network;
  const tensors = countWeights(final);
  if (format === 'onnx') {
    const bytes = onnxModel(final);
    writeFileAtomic(out, bytes);
    return { tensors, bytes: bytes.length };
  }
  const files = format === 'tfjs' ? tfjsModelFiles(final) : savedModelFiles(final);
  writeFolder(out, files);
  return { tensors, bytes: files.reduce((sum, { bytes }) => sum + bytes.length, 0) };
}

function exportSafetensors(checkpoint: string, out: string): ExportReport {
  const { weightsFile } = openCheckpoint(checkpoint);
  const tensors = decodeSafetensors(fs.readFileSync(weightsFile), weightsFile);
  const bytes = encodeSafetensors(tensors);
  writeFileAtomic(out, bytes);
  return { tensors: tensors.size, bytes: bytes.length };
}

function countWeights({ layers }: Network): number {
  let count = 0;
  for (const layer of layers) {
    if (layer.op === 'conv') count += layer.bias ? 2 : 1;
    if (layer.op === 'batchNorm') count += 4;
    if (layer.op === 'bias' || layer.op === 'dense') count += 1;
  }
  return count;
}

/** File by file, the one that names the others last; what is there must be an earlier export of this kind. */
function writeFolder(folder: string, files: readonly ExportedFile[]): void {
  try {
    const foreign = fs.existsSync(folder) ? fs.readdirSync(folder).find((name) => !isExported(name)) : undefined;
    if (foreign !== undefined) throw foreignFile(folder, foreign);
    for (const old of fs.existsSync(folder) ? fs.readdirSync(folder) : [])
      fs.rmSync(path.join(folder, old), { recursive: true, force: true });
    for (const { path: relative, bytes } of files) {
      const file = path.join(folder, relative);
      fs.mkdirSync(path.dirname(file), { recursive: true });
      writeFileAtomic(file, bytes);
    }
  } catch (cause) {
    throw cause instanceof DtrainError ? cause : storageError(folder, cause);
  }
}

function isExported(name: string): boolean {
  return /^(model\.json|group1-shard\d+of\d+\.bin|saved_model\.pb|assets\.extra)$/.test(name);
}

function foreignFile(folder: string, name: string): DtrainError {
  const text = `--out: ${folder}: expected a new or empty folder, or an earlier export, got one that holds ${name}. Choose another folder.`;
  return new DtrainError('DTRAIN_EXPORT_OUT', ExitCode.storage, text);
}
