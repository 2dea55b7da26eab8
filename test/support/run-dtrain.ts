/** The command as its users run it: a process in an empty folder. */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { fileURLToPath } from 'node:url';
import { nowSeconds } from '../../src/core/clock.js';
import { temporaryFolder } from './train-run.js';

const MAIN = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));

export interface DtrainResult {
  readonly code: number | null;
  readonly stderr: string;
  readonly seconds: number;
  /** What the folder holds that it did not hold before. */
  readonly created: readonly string[];
}

/** `files`: what the folder holds, by name. An alarm ends the process after five minutes. */
export function dtrain(
  words: readonly string[],
  { files = {}, env = {} }: { files?: Readonly<Record<string, string | Uint8Array>>; env?: NodeJS.ProcessEnv } = {},
): DtrainResult {
  const cwd = temporaryFolder();
  for (const [name, content] of Object.entries(files)) fs.writeFileSync(`${cwd}/${name}`, content);
  const start = nowSeconds();
  const { status, stderr } = spawnSync(process.execPath, [MAIN, ...words], {
    cwd,
    env: { ...process.env, ...env },
    encoding: 'utf8',
    timeout: 300_000,
    killSignal: 'SIGKILL',
  });
  const seconds = nowSeconds() - start;
  const created = fs.readdirSync(cwd).filter((name) => !Object.hasOwn(files, name));
  return { code: status, stderr, seconds, created };
}
