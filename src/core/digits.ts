/** Whole numbers for people. */

/** `94,371,840`; without the tables of languages, which Node loads at their first use. */
export function grouped(value: number): string {
  return String(value).replace(/\B(?=(\d{3})+$)/g, ',');
}
