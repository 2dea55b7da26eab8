/**
 * Which samples belong to whom: equal consecutive parts, by integers only.
 * Must stay true: for any counts, equal or not, the parts are disjoint, in order, and together the whole.
 */

/** Samples `start` to `end` (exclusive) of a global batch: the part of one logical shard. Sizes differ by at most one. */
export function shardRange(shard: number, shards: number, globalBatch: number): { start: number; end: number } {
  return {
    start: Math.floor((shard * globalBatch) / shards),
    end: Math.floor(((shard + 1) * globalBatch) / shards),
  };
}

/** Logical shards `first` to `end` (exclusive) that one rank computes. */
export function localShards(rank: number, world: number, shards: number): { first: number; end: number } {
  const { start, end } = shardRange(rank, world, shards);
  return { first: start, end };
}
