/** Numbers for people. What is not a finite number is a dash. */
import { grouped } from '../core/digits.js';

/** `272,474` */
export function countText(value: number): string {
  return Number.isFinite(value) ? grouped(Math.round(value)) : '–';
}

/** `57.1 %` of a fraction. */
export function percentText(fraction: number): string {
  return Number.isFinite(fraction) ? `${(100 * fraction).toFixed(1)} %` : '–';
}

/** `612 images/s` */
export function rateText(imagesPerSecond: number): string {
  return `${countText(imagesPerSecond)} images/s`;
}

/** `4:05`, `1:02:03` */
export function durationText(seconds: number): string {
  if (!Number.isFinite(seconds)) return '–';
  const whole = Math.max(0, Math.round(seconds));
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  const rest = String(whole % 60).padStart(2, '0');
  return hours > 0 ? `${hours}:${String(minutes).padStart(2, '0')}:${rest}` : `${minutes}:${rest}`;
}

/** Three significant digits: `0.0107`, `1.95`, `244`. */
export function shortText(value: number): string {
  if (!Number.isFinite(value)) return '–';
  return Math.abs(value) >= 1000 ? countText(value) : String(Number(value.toPrecision(3)));
}

/** `26.0 GB/s` */
export function bandwidthText(bytesPerSecond: number): string {
  return Number.isFinite(bytesPerSecond) ? `${(bytesPerSecond / 1e9).toFixed(1)} GB/s` : '–';
}

/** Columns two spaces apart, the first to the left, the others to the right. */
export function tableText(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  const line = (row: readonly string[]) =>
    row
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!)))
      .join('  ');
  return rows.map((row) => line(row).trimEnd()).join('\n');
}
