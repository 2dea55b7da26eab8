/**
 * A process that takes the lock of a run folder when told to, and keeps it until told otherwise: `take FOLDER` and `give` on standard input;
 * answers `taken`, `CODE: message` or `given`.
 */
import readline from 'node:readline';
import type { DtrainError } from '../../src/core/errors.js';
import { RunLock } from '../../src/run/run-lock.js';

let lock: RunLock | undefined;
process.stdout.write('ready\n');
for await (const line of readline.createInterface({ input: process.stdin })) {
  const [word, folder] = line.split(' ');
  if (word === 'give') {
    lock?.[Symbol.dispose]();
    lock = undefined;
    process.stdout.write('given\n');
    continue;
  }
  try {
    lock = await RunLock.take(folder!, 0);
    process.stdout.write('taken\n');
  } catch (error) {
    const { code, message } = error as DtrainError;
    process.stdout.write(`${code}: ${message}\n`);
  }
}
process.exit(0);
