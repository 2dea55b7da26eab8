"""Writes layers.json: single layers and their gradients by PyTorch in float64 (pip install numpy torch).

Layouts are dtrain's: NHWC, HWIO, [rows, classes]. `gradients` holds the gradient of sum(output * upstream) with respect to each input.
"""

import golden_json
import numpy as np
import torch
import torch.nn.functional as F

random = np.random.default_rng(2)
CHW, HWC = (0, 3, 1, 2), (0, 2, 3, 1)
OIHW, HWIO = (3, 2, 0, 1), (2, 3, 1, 0)


def numbers(*shape):
    return torch.from_numpy(random.normal(size=shape).round(2))


def case(layer, options, inputs, function):
    """One case; `function` takes dtrain's layouts and gives its output in them."""
    leaves = {name: value.clone().requires_grad_() for name, value in inputs.items()}
    output = function(**leaves)
    upstream = numbers(*output.shape) if output.ndim else torch.ones((), dtype=torch.float64)
    (output * upstream).sum().backward()
    gradients = {name: leaf.grad for name, leaf in leaves.items()}
    return {"layer": layer, **options, "inputs": inputs, "output": output, "upstream": upstream, "gradients": gradients}


def convolution(size, kernel, stride, padding):
    def function(x, kernel):
        return F.conv2d(x.permute(CHW), kernel.permute(OIHW), stride=stride, padding=padding).permute(HWC)

    inputs = {"x": numbers(2, *size, 2), "kernel": numbers(kernel, kernel, 2, 3)}
    return case("convolution", {"stride": stride, "padding": padding}, inputs, function)


def max_pool(size):
    def function(x):
        return F.max_pool2d(x.permute(CHW), 3, 2, 1).permute(HWC)

    # All different and mostly negative, so that a border padded with zeros would show.
    x = torch.from_numpy(random.permutation(2 * size[0] * size[1] * 2).reshape(2, *size, 2) / 50 - 2)
    return case("max-pool", {"window": 3, "stride": 2, "padding": 1}, {"x": x}, function)


def global_average():
    return case("global-average", {}, {"x": numbers(2, 3, 4, 3)}, lambda x: x.mean(dim=(1, 2)))


def shortcut_a():
    def function(x):
        return F.pad(x.permute(CHW)[:, :, ::2, ::2], (0, 0, 0, 0, 1, 1)).permute(HWC)

    return case("shortcut-a", {"stride": 2, "channels": 4}, {"x": numbers(2, 4, 6, 2)}, function)


def batch_norm(training):
    running = {"mean": numbers(3), "variance": numbers(3).abs() + 0.5}
    after = {name: value.clone() for name, value in running.items()}

    def function(x, gamma, beta):
        out = F.batch_norm(x.permute(CHW), after["mean"], after["variance"], gamma, beta, training, momentum=0.1, eps=1e-5)
        return out.permute(HWC)

    inputs = {"x": numbers(3, 2, 2, 3), "gamma": numbers(3), "beta": numbers(3)}
    options = {"training": training, "epsilon": 1e-5, "momentum": 0.1, "before": running, "after": after}
    return case("batch-norm", options, inputs, function)


def cross_entropy(smoothing):
    labels = [0, 4, 2, 2]

    def function(logits):
        return F.cross_entropy(logits, torch.tensor(labels), label_smoothing=smoothing)

    return case("cross-entropy", {"smoothing": smoothing, "labels": labels}, {"logits": 3 * numbers(4, 5)}, function)


cases = [
    convolution((5, 6), kernel=3, stride=1, padding=1),
    convolution((6, 6), kernel=3, stride=2, padding=1),
    convolution((7, 5), kernel=3, stride=2, padding=1),
    convolution((6, 5), kernel=1, stride=2, padding=0),
    convolution((9, 8), kernel=7, stride=2, padding=3),
    max_pool((6, 6)),
    max_pool((7, 5)),
    global_average(),
    shortcut_a(),
    batch_norm(training=True),
    batch_norm(training=False),
    cross_entropy(0.0),
    cross_entropy(0.1),
    cross_entropy(0.3),
]
golden_json.write(__file__, [np, torch], cases)
