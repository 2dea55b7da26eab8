/** Runs a script of this folder in one of the Pythons that scripts/test-consumers.mjs prepared. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('../../../', import.meta.url));

/** What the script writes, one JSON object. */
export function runPython(
  variable: 'DTRAIN_TENSORFLOW_PYTHON' | 'DTRAIN_TORCH_PYTHON' | 'DTRAIN_CLUSTER_PYTHON',
  script: string,
  words: readonly string[],
): Record<string, unknown> {
  const binary = process.env[variable];
  assert(binary, `${variable} is not set: run npm run test:consumers`);
  const env = { ...process.env, CUDA_VISIBLE_DEVICES: '', TF_CPP_MIN_LOG_LEVEL: '2' };
  const stdio: ('ignore' | 'pipe')[] = ['ignore', 'pipe', 'pipe'];
  const out = execFileSync(binary, [path.join(root, 'test/consumers', script), ...words], { env, stdio });
  return JSON.parse(out.toString()) as Record<string, unknown>;
}
