/** Mean and standard deviation of a training set's colours, for (pixel / 255 - mean) / std. */
import type { Normalization } from '../core/events.js';
import type { ImageSet } from './data-set.js';

/**
 * Per channel over all pixels (population formula), rounded to four digits as people write them.
 * Exact before the rounding: the sums are taken over counts of the 256 values. A channel that never varies gets std 1.
 */
export function measureNormalization({ imagesNHWC }: Pick<ImageSet, 'imagesNHWC'>): Normalization {
  const counts = new ColourCounts();
  counts.add(imagesNHWC);
  return counts.normalization();
}

/** How often each value of each channel occurs, of a set that comes in parts; in which parts makes no difference. */
export class ColourCounts {
  readonly #counts = [new Float64Array(256), new Float64Array(256), new Float64Array(256)] as const;

  /** Whole pixels, red, green and blue. */
  add(pixels: Uint8Array): void {
    const [red, green, blue] = this.#counts;
    for (let i = 0; i < pixels.length; i += 3) {
      red[pixels[i]!]!++;
      green[pixels[i + 1]!]!++;
      blue[pixels[i + 2]!]!++;
    }
  }

  /** See measureNormalization. */
  normalization(): Normalization {
    const moments = this.#counts.map(momentsOf);
    return { mean: moments.map(({ mean }) => rounded(mean)), std: moments.map(({ std }) => rounded(std) || 1) };
  }
}

/** Of values 0..255 scaled to [0, 1]. */
function momentsOf(countOfValue: Float64Array): { mean: number; std: number } {
  const total = countOfValue.reduce((partial, count) => partial + count, 0);
  const sum = countOfValue.reduce((partial, count, value) => partial + count * value, 0);
  const mean = sum / total;
  const squares = countOfValue.reduce((partial, count, value) => partial + count * (value - mean) ** 2, 0);
  return { mean: mean / 255, std: Math.sqrt(squares / total) / 255 };
}

function rounded(value: number): number {
  return Math.round(value * 10000) / 10000;
}
