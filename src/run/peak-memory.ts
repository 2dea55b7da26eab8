/** The most memory that this process has had at once. */
export function peakRssBytes(): number {
  return process.resourceUsage().maxRSS * 1024;
}
