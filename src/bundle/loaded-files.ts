/** Which files of an installed library a run loads. */

export function isLoaded(_file: string): boolean {
  return true;
}
