/**
 * What a training image looks like after its random changes, for people: crop, flip, brightness, contrast and cutout on bytes, the mean colour where the graph
 * has zeros. The graph of train/augment.ts is what the network sees; a test holds the two together.
 */
export interface Drawn {
  readonly cropY: number;
  readonly cropX: number;
  readonly flip: boolean;
  /** Centre of the cutout. */
  readonly cutoutY: number;
  readonly cutoutX: number;
  /** Factors of brightness and contrast; left out: 1. */
  readonly brightness?: number;
  readonly contrast?: number;
}

export interface Changes {
  /** Pixels of padding on each side. */
  readonly crop: number;
  /** Side of the blanked square; 0: none. */
  readonly cutout: number;
}

/** RGB bytes of an image of the same size. */
export function augmentedPixels(
  image: Uint8Array,
  [height, width]: readonly [number, number],
  { cropY, cropX, flip, cutoutY, cutoutX, brightness = 1, contrast = 1 }: Drawn,
  { crop, cutout }: Changes,
  meanColour: readonly number[],
): Uint8Array {
  const result = new Uint8Array(image.length);
  const half = Math.floor(cutout / 2);
  const isCut = (at: number, centre: number) => at >= centre - half && at < centre + cutout - half;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const fromY = y + cropY - crop;
      const fromX = (flip ? width - 1 - x : x) + cropX - crop;
      const isInside = fromY >= 0 && fromY < height && fromX >= 0 && fromX < width;
      const isBlank = !isInside || (cutout > 0 && isCut(y, cutoutY) && isCut(x, cutoutX));
      const from = (fromY * width + fromX) * 3;
      for (let c = 0; c < 3; c++)
        result[(y * width + x) * 3 + c] = isBlank
          ? Math.round(255 * meanColour[c]!)
          : Math.round(recoloured(image[from + c]!, { brightness, contrast }, 255 * meanColour[c]!));
    }
  }
  return result;
}

function recoloured(
  pixel: number,
  { brightness, contrast }: { brightness: number; contrast: number },
  mean: number,
): number {
  const bright = clamped(pixel * brightness);
  return clamped((bright - mean) * contrast + mean);
}

function clamped(pixel: number): number {
  return Math.min(255, Math.max(0, pixel));
}

/** Share of the one and the rest of the other. */
export function mixedPixels(own: Uint8Array, partner: Uint8Array, share: number): Uint8Array {
  return own.map((pixel, i) => Math.round(pixel * share + partner[i]! * (1 - share)));
}
