/** The one clock: the monotonic system clock. Durations never come from the time of day, which may jump. */
import fs from 'node:fs';
import os from 'node:os';

/** Seconds of the monotonic clock: the same in all threads, of no meaning but in differences. */
export function nowSeconds(): number {
  return Number(process.hrtime.bigint()) / 1e9;
}

/**
 * When this process was started, on the clock of `nowSeconds`, to a hundredth of a second: by the kernel's account, which also holds what
 * the loader took before Node began to count.
 */
export function processStartedAt(): number {
  const stat = fs.readFileSync('/proc/self/stat', 'latin1');
  const startTicks = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]); // field 22, proc(5); after the name, which may hold spaces
  return nowSeconds() - (os.uptime() - startTicks / TICKS_PER_SECOND);
}

/** Of Linux on x86-64, whatever the kernel's own rate. */
const TICKS_PER_SECOND = 100;
