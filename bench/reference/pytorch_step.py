"""Training steps of a ResNet in PyTorch on the CPU, as its experts write them, for comparison with `dtrain bench step`.

One process, or several under DistributedDataParallel over gloo. channels_last, autocast for bfloat16, momentum SGD, one batch of synthetic images
that stays in memory: nothing is read, augmented or normalised, which is in PyTorch's favour. Prints a table line and, last, the JSON of
`dtrain bench step --json` (docs: contract, Benchmarks). Compilation ends before the timed steps. In `seconds`, compute holds DDP's reduction,
which overlaps it; peakRssBytes adds up the peaks of all processes, the launcher of several included.

    python pytorch_step.py --model resnet20 --batch 128 --processes 2 --threads 1 --precision bfloat16
"""

import argparse
import contextlib
import json
import os
import resource
import statistics
import tempfile
import time

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel


def build_model(name, stem, classes):
    if name == "resnet20":
        from cifar_resnet import CifarResNet

        return CifarResNet(20, classes)
    import torchvision

    model = getattr(torchvision.models, name)(num_classes=classes)
    if stem == "cifar":
        model.conv1 = torch.nn.Conv2d(3, 64, 3, padding=1, bias=False)
        model.maxpool = torch.nn.Identity()
    return model


def run_rank(rank, options, rendezvous, results):
    """Trains on one rank; puts its times and peak memory into `results`."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    model = build_model(options.model, options.stem, options.classes).to(memory_format=torch.channels_last).train()
    trained = model
    if options.processes > 1:
        dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=options.processes)
        # torch.compile splits the graph at DDP's buckets, which a static graph would rule out.
        trained = DistributedDataParallel(model, gradient_as_bucket_view=True, static_graph=not options.compile)
    if options.compile:
        trained = torch.compile(trained)
    sgd = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4, fused=True)
    local_batch = options.batch // options.processes
    images = torch.randn(local_batch, 3, options.size, options.size).to(memory_format=torch.channels_last)
    labels = torch.randint(options.classes, (local_batch,))
    bfloat16 = options.precision == "bfloat16"

    def step():
        """Seconds of the whole step, of its forward and backward pass, of the update."""
        start = time.perf_counter()
        sgd.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16) if bfloat16 else contextlib.nullcontext():
            loss = F.cross_entropy(trained(images), labels)
        loss.backward()
        computed = time.perf_counter()
        sgd.step()
        loss.item()
        end = time.perf_counter()
        return end - start, computed - start, end - computed

    step()
    start_seconds = process_age_seconds()
    for _ in range(options.warmup - 1):
        step()
    times = [step() for _ in range(options.steps)]
    results.put((rank, times, start_seconds, peak_rss_bytes(), forward_flops(model, images[:1])))
    if options.processes > 1:
        dist.destroy_process_group()


def forward_flops(model, image):
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(image)
    return counter.get_total_flops()


def process_age_seconds():
    """Since the command began: of this process, or of the launcher where that started it."""
    launched = os.environ.get("BENCH_LAUNCHED")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - (float(launched) if launched else process_start_seconds())


def process_start_seconds():
    """When this process began, in seconds since boot."""
    with open("/proc/self/stat") as stat:
        return int(stat.read().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")


def peak_rss_bytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(options):
    """The results of all ranks, by rank."""
    context = torch.multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    if options.processes == 1:
        run_rank(0, options, None, results)
        return [results.get()]
    os.environ["BENCH_LAUNCHED"] = str(process_start_seconds())
    with tempfile.TemporaryDirectory() as folder:
        arguments = (options, os.path.join(folder, "rendezvous"), results)
        torch.multiprocessing.spawn(run_rank, arguments, nprocs=options.processes)
        return sorted(results.get() for _ in range(options.processes))


def report(options, ranks):
    _, times, start_seconds, _, flops = ranks[0]
    step_seconds, compute_seconds, update_seconds = map(list, zip(*times))
    rates = [options.batch / seconds for seconds in step_seconds]
    launcher = peak_rss_bytes() if options.processes > 1 else 0
    return {
        "bench": "step",
        "config": options.model,
        "devices": "cpu",
        "workers": options.processes,
        "globalBatch": options.batch,
        "precision": options.precision,
        "steps": options.steps,
        "imagesPerSecond": {"median": statistics.median(rates), "min": min(rates), "max": max(rates)},
        "secondsPerStep": {"median": statistics.median(step_seconds)},
        "seconds": {
            "feed": 0,
            "compute": statistics.median(compute_seconds),
            "reduce": 0,
            "update": statistics.median(update_seconds),
            "report": 0,
        },
        "flopsPerImage": 3 * flops,
        "startSeconds": start_seconds,
        "peakRssBytes": launcher + sum(rank[3] for rank in ranks),
        "framework": f"torch {torch.__version__}",
        "threadsPerWorker": options.threads,
        "stem": options.stem,
        "imageSize": options.size,
        "compile": options.compile,
    }


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet20", choices=["resnet20", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152"])
    parser.add_argument("--stem", default="cifar", choices=["cifar", "imagenet"])
    parser.add_argument("--size", type=int, default=32, help="height and width of an image")
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--batch", type=int, default=128, help="images of a step over all processes")
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2, help="threads of each process")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--warmup", type=int, default=5)
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    if options.batch % options.processes != 0:
        parser.error(f"--batch: expected a multiple of {options.processes} processes, got {options.batch}")
    return options


if __name__ == "__main__":
    options = parse_options()
    result = report(options, measure(options))
    rate, seconds = result["imagesPerSecond"], result["secondsPerStep"]["median"]
    print(f"{options.model} {options.precision}, {options.processes} x {options.threads} threads: "
          f"{rate['median']:.1f} images/s ({rate['min']:.1f} to {rate['max']:.1f}), {seconds * 1000:.1f} ms a step")
    print(json.dumps(result))
