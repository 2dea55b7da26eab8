/**
 * A lock between processes: a file that its holder touches every second. A holder that was killed stops touching it, and after ten seconds
 * another takes the lock over.
 *
 * Must stay true: the lock only saves work. What it guards is committed by a rename, so two holders at once (a clock that jumped, a take-over
 * in the same moment) do no harm.
 */
import fs from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';

const TOUCH_MILLISECONDS = 1000;
const STALE_MILLISECONDS = 10_000;
const POLL_MILLISECONDS = 100;

/** Runs `action` while holding the lock; `onWait` is called once if another process holds it. The folder of `file` must exist. */
export async function withLock<T>(file: string, onWait: () => void, action: () => Promise<T>): Promise<T> {
  for (let waits = 0; !tryLock(file); waits++) {
    if (waits === 0) onWait();
    await delay(POLL_MILLISECONDS);
  }
  const touch = setInterval(() => fs.utimes(file, new Date(), new Date(), () => {}), TOUCH_MILLISECONDS);
  try {
    return await action();
  } finally {
    clearInterval(touch);
    fs.rmSync(file, { force: true });
  }
}

function tryLock(file: string): boolean {
  const touched = fs.statSync(file, { throwIfNoEntry: false })?.mtimeMs;
  if (touched !== undefined && Date.now() - touched > STALE_MILLISECONDS) fs.rmSync(file, { force: true });
  try {
    fs.writeFileSync(file, `${process.pid}\n`, { flag: 'wx' });
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}
