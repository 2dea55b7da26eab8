/** The model that a configuration names: one of the catalogue, or the one in a module of the user's own. */
import fs from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { modelName } from '../config/model-name.js';
import type { RunConfig } from '../config/schema.js';
import { DtrainError, ExitCode } from '../core/errors.js';
import type { Engine } from '../graph/engine.js';
import { type ImageSize, type Model, makeModel } from '../model/catalogue.js';
import { type ModelModule, makeModuleModel } from '../model/module-model.js';
import { sha256 } from '../train/manifest.js';

/** @throws DTRAIN_MODEL_UNKNOWN, DTRAIN_MODEL_MODULE (exit 3). */
export async function configuredModel(
  engine: Engine,
  config: RunConfig,
  classes: number,
  imageSize: ImageSize,
): Promise<Model> {
  const { module: file, ...options } = config.model;
  if (file === null) return makeModel(engine, { ...options, classes }, imageSize);
  const codeHash = hashOf(file); // before it is imported: a file that changes between the two is found by the next one who looks
  const make = await importModel(file);
  const name = modelName(config.model);
  const model = await makeModuleModel(engine, make, { file, name, classes, imageSize, seed: config.train.seed });
  return { ...model, codeHash };
}

function hashOf(file: string): string {
  try {
    return sha256(fs.readFileSync(file));
  } catch (cause) {
    throw moduleError(file, `expected an ES module, it cannot be read: ${(cause as Error).message}`, cause);
  }
}

async function importModel(file: string): Promise<ModelModule> {
  let exported: Readonly<Record<string, unknown>>;
  try {
    exported = (await import(pathToFileURL(path.resolve(file)).href)) as Readonly<Record<string, unknown>>;
  } catch (cause) {
    throw moduleError(file, `expected an ES module, it cannot be imported: ${(cause as Error).message}`, cause);
  }
  const make = exported['model'] ?? exported['default'];
  if (typeof make === 'function') return make as ModelModule;
  const names = Object.keys(exported).join(', ') || 'nothing';
  throw moduleError(file, `expected an exported function "model", or one by default, got ${names}.`);
}

function moduleError(file: string, what: string, cause?: unknown): DtrainError {
  const text = `model.module: ${file}: ${what}`;
  return new DtrainError('DTRAIN_MODEL_MODULE', ExitCode.configuration, text, { cause });
}
