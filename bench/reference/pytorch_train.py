"""A ResNet, or the speed run's network, trained on CIFAR-10 in PyTorch on the CPU with a recipe of dtrain's: what a peer reaches on the
same files.

One process, channels_last, autocast for bfloat16. The recipe: SGD with Nesterov momentum, one cycle of the learning rate, crops and
flips, label smoothing, decay on all parameters; what the options do not say is dtrain's default. Batch norm sees the whole batch of a
step, where dtrain's sees a logical shard's. The pictures are a folder or an archive train/CLASS and test/CLASS. Prints a JSON line an
epoch; an interrupted run goes on from --state.

    python pytorch_train.py --data cifar10-jpeg.tar.xz --depth 20 --epochs 40 --batch 128 --rate 0.2 --warmup 5 --precision bfloat16
"""

import argparse
import contextlib
import io
import json
import math
import os
import pathlib
import tarfile
import time

import numpy as np
import torch
import torch.nn.functional as F
from cifar_resnet import CifarResNet
from PIL import Image
from speed_net import SpeedNet

# CIFAR-10's constants, as in dtrain (docs/data.md).
MEAN = torch.tensor([0.4914, 0.4822, 0.4465]).view(1, 3, 1, 1)
DEVIATION = torch.tensor([0.247, 0.2435, 0.2616]).view(1, 3, 1, 1)


def pictures(source):
    """(name, bytes) of every file of the folder or archive."""
    if os.path.isdir(source):
        for file in sorted(pathlib.Path(source).rglob("*")):
            if file.is_file():
                yield str(file), file.read_bytes()
        return
    with tarfile.open(source) as archive:
        for member in archive:
            if member.isfile():
                yield member.name, archive.extractfile(member).read()


def load(source):
    """{split: (images uint8 NCHW, labels)}; classes are numbered by name."""
    found = {"train": [], "test": []}
    for name, data in pictures(source):
        split, label = pathlib.PurePath(name).parts[-3:-1]
        if split in found:
            found[split].append((label, np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))))
    names = sorted({label for label, _ in found["train"]})
    return {
        split: (
            torch.from_numpy(np.stack([pixels for _, pixels in items])).permute(0, 3, 1, 2).contiguous(),
            torch.tensor([names.index(label) for label, _ in items]),
        )
        for split, items in found.items()
    }


def network_input(images):
    pixels = (images.float() / 255 - MEAN) / DEVIATION
    return pixels.contiguous(memory_format=torch.channels_last)


def augmented(images, crop, mirrored):
    """A window of each image, zero outside of it; where `mirrored` [n] says so, left and right are exchanged."""
    n, _, height, width = images.shape
    padded = F.pad(images, (crop,) * 4)
    top, left = torch.randint(0, 2 * crop + 1, (2, n, 1, 1))
    rows = top + torch.arange(height).view(1, -1, 1)
    columns = left + torch.arange(width).view(1, 1, -1)
    columns = torch.where(mirrored.view(-1, 1, 1), columns.flip(2), columns)
    window = padded.permute(0, 2, 3, 1)[torch.arange(n).view(-1, 1, 1), rows, columns]
    return window.permute(0, 3, 1, 2)


def accuracy(model, images, labels, autocast):
    """Share of the images that are named right, as they are and averaged with their mirror images."""
    model.eval()
    right = [0, 0]
    with torch.no_grad(), autocast():
        for some, wanted in zip(images.split(500), labels.split(500), strict=True):
            pixels = network_input(some)
            one = model(pixels).float()
            both = one + model(pixels.flip(3)).float()
            right[0] += (one.argmax(1) == wanted).sum().item()
            right[1] += (both.argmax(1) == wanted).sum().item()
    return [count / len(labels) for count in right]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--network", choices=["resnet", "speednet"], default="resnet")
    parser.add_argument("--depth", type=int, default=20, help="of the ResNet")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rate", type=float, default=0.2)
    parser.add_argument("--warmup", type=float, default=5, help="epochs")
    parser.add_argument("--decay", type=float, default=5e-4)
    parser.add_argument("--crop", type=int, default=4)
    parser.add_argument("--alternate", action="store_true", help="each image is mirrored in every second epoch")
    parser.add_argument("--smoothing", type=float, default=0)
    parser.add_argument("--evaluate-every", type=int, default=1, help="epochs; after the last in any case")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="bfloat16")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--state", help="file that keeps the state after each epoch")
    options = parser.parse_args()

    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    data = load(options.data)
    images, labels = data["train"]
    network = SpeedNet() if options.network == "speednet" else CifarResNet(options.depth)
    model = network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        model.parameters(), options.rate, momentum=0.9, nesterov=True, weight_decay=options.decay
    )
    steps_an_epoch = len(labels) // options.batch
    total = options.epochs * steps_an_epoch
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, options.rate, total_steps=total, pct_start=options.warmup / options.epochs, cycle_momentum=False
    )
    wants_bfloat16 = options.precision == "bfloat16"
    autocast = (lambda: torch.autocast("cpu", torch.bfloat16)) if wants_bfloat16 else contextlib.nullcontext

    mirrored_first = torch.rand(len(labels), generator=torch.Generator().manual_seed(options.seed)) < 0.5
    first = 0
    if options.state and os.path.exists(options.state):
        kept = torch.load(options.state)
        first = kept["epoch"]
        model.load_state_dict(kept["model"])
        optimizer.load_state_dict(kept["optimizer"])
        schedule.load_state_dict(kept["schedule"])
        torch.set_rng_state(kept["random"])

    for epoch in range(first + 1, options.epochs + 1):
        start = time.perf_counter()
        model.train()
        losses = []
        for ids in torch.randperm(len(labels)).split(options.batch)[:steps_an_epoch]:
            # Cropped after normalisation, so that what lies outside is the mean colour, as dtrain has it.
            mirrored = mirrored_first[ids] ^ (epoch % 2 == 0) if options.alternate else torch.rand(len(ids)) < 0.5
            pixels = augmented(network_input(images[ids]), options.crop, mirrored)
            pixels = pixels.contiguous(memory_format=torch.channels_last)
            with autocast():
                loss = F.cross_entropy(model(pixels), labels[ids], label_smoothing=options.smoothing)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        seconds = time.perf_counter() - start
        line = {"epoch": epoch, "trainLoss": math.fsum(losses) / len(losses), "seconds": seconds}
        if epoch % options.evaluate_every == 0 or epoch == options.epochs:
            line["accuracy"], line["accuracyWithMirror"] = accuracy(model, *data["test"], autocast)
        print(json.dumps(line), flush=True)
        if options.state:
            state = {
                "epoch": epoch,
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "schedule": schedule.state_dict(),
                "random": torch.get_rng_state(),
            }
            torch.save(state, f"{options.state}.new")
            os.replace(f"{options.state}.new", options.state)


if __name__ == "__main__":
    main()
