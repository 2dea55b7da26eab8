/** A few images of a split, wherever its pixels are. */
import { type ImageSet, isStreamedSplit, type StreamedSplit } from './data-set.js';
import { encodedImage } from './encoded-files.js';

/** RGB bytes of each of `ids`. Throws data errors for a streamed image that cannot be read any more. */
export async function readImages(split: ImageSet | StreamedSplit, ids: ArrayLike<number>): Promise<Uint8Array[]> {
  const bytes = split.height * split.width * 3;
  const at = (pixels: Uint8Array, index: number) => pixels.subarray(index * bytes, (index + 1) * bytes);
  if (!isStreamedSplit(split)) return Array.from(ids, (id) => at(split.imagesNHWC, id));
  const { decodePixels } = await import('./decode-images.js'); // sharp loads native code
  const images = Array.from(ids, (id) => encodedImage(split.files, id));
  const pixels = new Uint8Array(images.length * bytes);
  await decodePixels(images, split, split.files.scaling, pixels);
  return images.map((_, index) => at(pixels, index));
}
