/**
 * The first pass over a set that is to be streamed: what is measured on all pixels, without keeping them.
 *
 * Idea: decoded piece by piece, in order, each piece counted and hashed while the next is decoded.
 * Must stay true: the figures are those of the same set in memory, whatever the size of a piece; a damaged image is found here, before
 * training begins, with the error that it has there.
 */
import { createHash } from 'node:crypto';
import { nowSeconds } from '../core/clock.js';
import { digits } from './data-error.js';
import { bytesOfLabels, type ImageSplit, type Measured, outlineOf } from './data-set.js';
import type { ImageSize, Scaling } from './decode-images.js';
import { type ImageTree, sayNowAndThen, type TreeEntry } from './image-tree.js';
import { ColourCounts } from './normalization.js';

/** Decoded, at a time. */
const PIECE_BYTES = 2 ** 24;

/** `splits`: of the tree, with their labels. Throws DTRAIN_DATA_CORRUPT, DTRAIN_DATA_LAYOUT, DTRAIN_DATA_PATH. */
export async function surveyTree(
  where: string,
  tree: ImageTree,
  splits: { readonly train: ImageSplit; readonly test: ImageSplit },
  scaling: Scaling | null,
  say: (line: string) => void,
  pieceBytes = PIECE_BYTES,
): Promise<Measured> {
  const { train, test } = splits;
  const total = train.count + test.count;
  const tell = (done: number) => say(`${where}: ${digits(done)} of ${digits(total)} images looked through`);
  const progress = sayNowAndThen(tell, nowSeconds);
  const counts = new ColourCounts();
  const hash = createHash('sha256').update(outlineOf({ classes: tree.classes, train, test }));
  let done = 0;
  for (const { entries, labels, isCounted } of [
    { entries: tree.train, labels: train.labels, isCounted: true },
    { entries: tree.test, labels: test.labels, isCounted: false },
  ]) {
    for await (const { pixels, numImages } of decodedPieces(entries, train, scaling, pieceBytes)) {
      if (isCounted) counts.add(pixels);
      hash.update(pixels);
      progress((done += numImages));
    }
    hash.update(bytesOfLabels(labels));
  }
  return { normalization: counts.normalization(), fingerprint: hash.digest('hex') };
}

interface Piece {
  readonly pixels: Uint8Array;
  readonly numImages: number;
}

/** A piece is good until the next one is asked for. */
async function* decodedPieces(
  entries: readonly TreeEntry[],
  size: ImageSize,
  scaling: Scaling | null,
  pieceBytes: number,
): AsyncGenerator<Piece, void> {
  const { decodePixels } = await import('./decode-images.js');
  const bytes = size.height * size.width * 3;
  const length = Math.max(1, Math.floor(pieceBytes / bytes));
  const buffers = [new Uint8Array(length * bytes), new Uint8Array(length * bytes)] as const;
  const decode = async (first: number): Promise<Piece> => {
    const images = entries.slice(first, first + length).map(({ image }) => image);
    const pixels = buffers[(first / length) % 2]!.subarray(0, images.length * bytes);
    await decodePixels(images, size, scaling, pixels);
    return { pixels, numImages: images.length };
  };
  let next = entries.length > 0 ? decode(0) : undefined;
  for (let first = length; next; first += length) {
    const piece: Piece = await next;
    next = first < entries.length ? decode(first) : undefined;
    next?.catch(() => undefined); // thrown when it is awaited
    yield piece;
  }
}
