"""The all-reduce of gloo through torch.distributed, for comparison with `dtrain bench all-reduce`.

Each rank is a process with one buffer of float32 that is summed in place. A round lasts from the last rank's entry to the last rank's exit, by
the clock that all processes share; every round's sums are checked outside of it, a wrong one exits 1. Traffic counts what any all-reduce in
place must do, read and write each rank's buffer once; the copy bandwidth counts bytes read plus written, all ranks copying at once.

    python pytorch_allreduce.py --bytes 94371840 --ranks 2 --rounds 20
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time

import torch
import torch.distributed as dist


def run_rank(rank, options, rendezvous, results):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=options.ranks)
    length = options.bytes // 4
    # Small whole numbers: their sums are exact, in any order.
    own = (torch.arange(length, dtype=torch.int32) % 1021 + rank).float()
    total = options.ranks * (own - rank) + sum(range(options.ranks))
    buffer = torch.empty_like(own)
    rounds = []
    for _ in range(options.warmup + options.rounds):
        buffer.copy_(own)
        dist.barrier()
        entry = time.monotonic()
        dist.all_reduce(buffer)
        rounds.append((entry, time.monotonic(), torch.equal(buffer, total)))
    copies = [timed_copy(own, buffer) for _ in range(options.rounds)]
    results.put((rounds[options.warmup :], copies))
    dist.destroy_process_group()


def timed_copy(source, target):
    dist.barrier()
    start = time.monotonic()
    target.copy_(source)
    return time.monotonic() - start


def measure(options):
    results = torch.multiprocessing.get_context("spawn").SimpleQueue()
    with tempfile.TemporaryDirectory() as folder:
        arguments = (options, os.path.join(folder, "rendezvous"), results)
        torch.multiprocessing.spawn(run_rank, arguments, nprocs=options.ranks)
    return [results.get() for _ in range(options.ranks)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bytes", type=int, default=94371840)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--warmup", type=int, default=3)
    options = parser.parse_args()
    if options.bytes % 4 != 0:
        parser.error(f"--bytes: expected a multiple of 4, got {options.bytes}")

    rounds, copies = zip(*measure(options))
    seconds = [max(exit for _, exit, _ in ranks) - max(entry for entry, _, _ in ranks) for ranks in zip(*rounds)]
    median = statistics.median(seconds)
    copy_seconds = statistics.median(max(ranks) for ranks in zip(*copies))
    traffic = 2 * options.ranks * options.bytes
    print(f"gloo, {options.ranks} ranks, {options.bytes:,} bytes: {median * 1000:.1f} ms ({min(seconds) * 1000:.1f} to {max(seconds) * 1000:.1f})")
    result = {
        "bench": "all-reduce",
        "bytes": options.bytes,
        "ranks": options.ranks,
        "rounds": options.rounds,
        "seconds": {"median": median, "min": min(seconds), "max": max(seconds)},
        "trafficBytesPerSecond": traffic / median,
        "memcpyBytesPerSecond": traffic / copy_seconds,
        "framework": f"torch {torch.__version__}, gloo",
    }
    print(json.dumps(result))
    if not all(right for ranks in rounds for _, _, right in ranks):
        sys.exit("a sum is wrong")


if __name__ == "__main__":
    main()
