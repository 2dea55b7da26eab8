/** The one clock: the monotonic system clock. Durations never come from the time of day, which may jump. */

/** Seconds of the monotonic clock: the same in all threads, of no meaning but in differences. */
export function nowSeconds(): number {
  return Number(process.hrtime.bigint()) / 1e9;
}

/** Seconds since this process was started. */
export function secondsSinceStart(): number {
  return process.uptime();
}
