"""Writes autocast.json: how far PyTorch's autocast in bfloat16 is from its own float32, gradient by gradient; test/precision.test.ts compares.

    python autocast.py      pip install torch torchvision safetensors

Weights are those of parity.py's cases, images and labels the same formulas, cut into batches. The error of a tensor is that of all batches
together: the square root of the sum of squared differences by the sum of squares.
"""

import json

import numpy as np
import safetensors
import torch
import torch.nn.functional as F
import torchvision
from golden_json import write
from parity import CASES, CLASSES, HERE, build, fill, make_images, normalized
from safetensors.numpy import load_file

BATCH = 8
BATCHES = 8


def with_state(case):
    """The network of a case of parity.py in channels_last, with the biases that its file holds."""
    network = CASES[case]
    net = build(network["model"], network["stem"])
    with torch.no_grad():
        fill(net, network["seed"])
        biases = {name[5:]: value for name, value in load_file(HERE / f"parity-{case}.safetensors").items() if name.startswith("bias/")}
        for name, value in biases.items():
            net.get_parameter(name).copy_(torch.from_numpy(value))
    return net.to(memory_format=torch.channels_last).train()


def gradients(net, images, labels, low):
    net.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=low):
        loss = F.cross_entropy(net(images), labels)
    loss.backward()
    return {name: parameter.grad.double().numpy().copy() for name, parameter in net.named_parameters()}, loss.item()


def make(case):
    net = with_state(case)
    images = normalized(make_images(BATCH * BATCHES, CASES[case]["seed"])).float().to(memory_format=torch.channels_last)
    labels = torch.tensor([(3 * image + 1) % CLASSES for image in range(BATCH * BATCHES)])
    differences, sizes, losses = {}, {}, []
    for first in range(0, BATCH * BATCHES, BATCH):
        batch = images[first : first + BATCH], labels[first : first + BATCH]
        (full, loss), (low, low_loss) = gradients(net, *batch, False), gradients(net, *batch, True)
        losses.append([loss, low_loss])
        for name, value in full.items():
            differences[name] = differences.get(name, 0) + float(((low[name] - value) ** 2).sum())
            sizes[name] = sizes.get(name, 0) + float((value**2).sum())
    errors = {name: float(np.sqrt(differences[name] / sizes[name])) for name in sizes}
    print(case, json.dumps({"median": float(np.median(list(errors.values()))), "largest": max(errors.values())}))
    return {"case": case, "batch": BATCH, "batches": BATCHES, "losses": losses, "errors": errors}


if __name__ == "__main__":
    torch.set_num_threads(1)
    write(__file__, [np, torch, torchvision, safetensors], [make(case) for case in ("resnet20", "resnet18-imagenet")])
