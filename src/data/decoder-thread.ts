/**
 * A thread that decodes ahead, the entry of a thread of its own: takes pieces from the ring and fills them until the ring is closed.
 *
 * Idea: several pieces are under way at once, so that a file is read while others are decoded; the thread sleeps only when none is and
 * nothing is wanted.
 * Must stay true: it ends by itself, soon after the ring is closed; an image that does not decode is told to the ranks, as the error
 * that it would be for a set in memory.
 */
import { workerData } from 'node:worker_threads';
import { serializeError } from '../core/errors.js';
import { decodePixels } from './decode-images.js';
import { encodedImage } from './encoded-files.js';
import type { StreamSpec } from './image-stream.js';
import { testIds, trainIds } from './stream-order.js';
import { type Piece, StreamRing } from './stream-ring.js';

const PIECES_IN_FLIGHT = 4;

await decodeUntilClosed(workerData as StreamSpec);

async function decodeUntilClosed(spec: StreamSpec): Promise<void> {
  const ring = new StreamRing(spec.ring);
  const inFlight = new Set<Promise<void>>();
  while (!ring.isClosed) {
    const seen = ring.wanted;
    while (inFlight.size < PIECES_IN_FLIGHT) {
      const piece = ring.claim();
      if (piece === undefined) break;
      const filling = fill(spec, ring, piece).finally(() => inFlight.delete(filling));
      inFlight.add(filling);
    }
    if (inFlight.size > 0) await Promise.race(inFlight);
    else ring.sleep(seen);
  }
  await Promise.all(inFlight);
}

/** A piece that fails is never published; the others go on, up to the ring's end. */
async function fill(spec: StreamSpec, ring: StreamRing, piece: Piece): Promise<void> {
  try {
    const { lane, position, part } = piece;
    const split = spec[lane];
    const ids =
      lane === 'train'
        ? trainIds(spec.trainOrder, position, part, piece)
        : testIds(spec.testOrder, position, part, piece);
    const images = ids.map((id) => encodedImage(split.files, id));
    if (images.length > 0) await decodePixels(images, split, split.files.scaling, ring.pixels(piece));
    ring.publish(piece);
  } catch (error) {
    ring.fail(serializeError(error, {}));
  }
}
