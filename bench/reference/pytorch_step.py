"""Training steps of a ResNet in PyTorch, on the CPU or on GPUs, as its experts write them, for comparison with `dtrain bench step`.

One process, or several under DistributedDataParallel, over gloo or, on GPUs, NCCL, a GPU each. channels_last, autocast for bfloat16, momentum SGD, one batch of synthetic images
that stays in memory: nothing is read, augmented or normalised, which is in PyTorch's favour. Prints a table line and, last, the JSON of
`dtrain bench step --json` (docs: contract, Benchmarks). Compilation ends before the timed steps. In `seconds`, compute holds DDP's reduction,
which overlaps it; peakRssBytes adds up the peaks of all processes, the launcher of several included. On a GPU steps are timed by events on its
stream, without waiting for any but the last, TF32 is on and cuDNN chooses its kernels by trying; there `compute` is the whole step.

    python pytorch_step.py --model resnet20 --batch 128 --processes 2 --threads 1 --precision bfloat16
    python pytorch_step.py --model resnet50 --batch 512 --device cuda --compile reduce-overhead --precision bfloat16
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
    on_gpu = options.device == "cuda"
    device = torch.device("cuda", rank) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(device)
        torch.backends.cudnn.benchmark = True
        torch.backends.cuda.matmul.allow_tf32 = True
    model = build_model(options.model, options.stem, options.classes)
    model = model.to(device=device, memory_format=torch.channels_last).train()
    trained = model
    if options.processes > 1:
        backend = "nccl" if on_gpu else "gloo"
        dist.init_process_group(backend, init_method=f"file://{rendezvous}", rank=rank, world_size=options.processes)
        # torch.compile splits the graph at DDP's buckets, which a static graph would rule out.
        trained = DistributedDataParallel(model, gradient_as_bucket_view=True, static_graph=not options.compile)
    if options.compile:
        trained = torch.compile(trained, mode=options.compile)
    sgd = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4, fused=True)
    local_batch = options.batch // options.processes
    images = torch.randn(local_batch, 3, options.size, options.size).to(device, memory_format=torch.channels_last)
    labels = torch.randint(options.classes, (local_batch,)).to(device)
    bfloat16 = options.precision == "bfloat16"

    def forward_and_backward():
        sgd.zero_grad(set_to_none=True)
        with torch.autocast(options.device, torch.bfloat16) if bfloat16 else contextlib.nullcontext():
            loss = F.cross_entropy(trained(images), labels)
        loss.backward()
        return loss

    def step():
        """Seconds of the whole step, of its forward and backward pass, of the update."""
        start = time.perf_counter()
        loss = forward_and_backward()
        computed = time.perf_counter()
        sgd.step()
        loss.item()
        end = time.perf_counter()
        return end - start, computed - start, end - computed

    def gpu_steps(count):
        """The same of `count` steps, which are queued one after the other."""
        events = [torch.cuda.Event(enable_timing=True) for _ in range(count + 1)]
        events[0].record()
        for event in events[1:]:
            forward_and_backward()
            sgd.step()
            event.record()
        torch.cuda.synchronize()
        seconds = [before.elapsed_time(after) / 1000 for before, after in zip(events, events[1:])]
        return [(whole, whole, 0.0) for whole in seconds]

    step()
    start_seconds = process_age_seconds()
    for _ in range(options.warmup - 1):
        step()
    times = gpu_steps(options.steps) if on_gpu else [step() for _ in range(options.steps)]
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
        "devices": "gpu" if options.device == "cuda" else "cpu",
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
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--compile", nargs="?", const="default", default=False, help="torch.compile, with this mode")
    options = parser.parse_args()
    if options.batch % options.processes != 0:
        parser.error(f"--batch: expected a multiple of {options.processes} processes, got {options.batch}")
    if options.device == "cuda" and torch.cuda.device_count() < options.processes:
        parser.error(f"--device cuda: expected {options.processes} GPUs, PyTorch finds {torch.cuda.device_count()}")
    return options


if __name__ == "__main__":
    options = parse_options()
    result = report(options, measure(options))
    rate, seconds = result["imagesPerSecond"], result["secondsPerStep"]["median"]
    where = "GPU" if options.device == "cuda" else f"{options.threads} threads"
    print(f"{options.model} {options.precision}, {options.processes} x {where}: "
          f"{rate['median']:.1f} images/s ({rate['min']:.1f} to {rate['max']:.1f}), {seconds * 1000:.1f} ms a step")
    print(json.dumps(result))
