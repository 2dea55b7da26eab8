"""Writes parity-*.safetensors: one training step of a ResNet in float64, for test/support/parity-case.ts to rebuild and compare.

    python parity.py [CASE ...]      pip install torch torchvision safetensors

Weights and images are formulas over Philox (philox.py), so a file holds results only. A large tensor is stored as its count sketch
(Charikar, Chen and Farach-Colton 2002): each element is added to one of 128 buckets with a sign, both drawn from its index; then the expectation
of |sketch(a) - sketch(b)|^2 is |a - b|^2, with a relative deviation of at most sqrt(2 / 128), and the test compares whole tensors by it.

A float32 gradient is only comparable where rounding flips no ReLU and no maximum of the pooling. So the bias of the batch norm before each ReLU is
shifted, by at most 2e-3 and per channel, to where the gap between its inputs is widest; the file states the margins.
"""

import json
import sys
from pathlib import Path

import numpy as np
import philox
import safetensors
import torch
import torch.nn.functional as F
import torchvision
from safetensors.numpy import save

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "bench" / "reference"))
from cifar_resnet import CifarResNet  # noqa: E402

CLASSES = 10
BUCKETS = 128
MAX_SHIFT = 1.99e-3  # the bias is then rounded to float32
MEAN, STD = [0.4914, 0.4822, 0.4465], [0.247, 0.2435, 0.2616]
# Streams of the seed, by purpose: initialization (state index), synthetic (these).
COARSE, FINE, SKETCH = 0, 1, 2

CASES = {
    "resnet20": dict(model="resnet20", stem="cifar", images=4, seed=0),
    "resnet18": dict(model="resnet18", stem="cifar", images=4, seed=0),
    "resnet18-imagenet": dict(model="resnet18", stem="imagenet", images=8, seed=0),
    "resnet50": dict(model="resnet50", stem="cifar", images=4, seed=0),
    "resnet50-imagenet": dict(model="resnet50", stem="imagenet", images=8, seed=0),
}
FULL_GRADIENTS = {"resnet20"}


def build(model, stem):
    if model == "resnet20":
        return CifarResNet(20, CLASSES)
    net = getattr(torchvision.models, model)(num_classes=CLASSES)
    if stem == "cifar":
        net.conv1 = torch.nn.Conv2d(3, 64, 3, padding=1, bias=False)
        net.maxpool = torch.nn.Identity()
    return net


def formula(name, value, last_norm):
    """offset and scale of a state tensor: offset + scale * normal.

    The last batch norm of a block starts near 0.25, not 1: rounding then grows less from block to block (ResNet-50's float32 gradients: 1e-5
    from float64's instead of 2e-4), and the test can be as much stricter.
    """
    if name.endswith(f".{last_norm}.weight"):
        return 0.25, 0.025
    if name.endswith("running_mean"):
        return 0.0, 0.1
    if name.endswith("running_var"):
        return 1.0, 0.1
    if value.ndim == 4:
        return 0.0, float(np.sqrt(2 / (value.shape[0] * value.shape[2] * value.shape[3])))  # He, fan out
    if value.ndim == 2:
        return 0.0, float(np.sqrt(1 / value.shape[1]))
    return (0.0 if name.endswith("bias") else 1.0), 0.1


def fill(net, seed):
    """Sets all state but the batch counters, by its index in the order of the state; returns [name, shape, offset, scale, L2 norm] of each."""
    rows = []
    last_norm = "bn3" if any(name.endswith("bn3.weight") for name in net.state_dict()) else "bn2"
    named = [(n, v) for n, v in net.state_dict().items() if not n.endswith("num_batches_tracked")]
    for index, (name, value) in enumerate(named):
        offset, scale = formula(name, value, last_norm)
        numbers = philox.normal(value.numel(), seed, philox.INITIALIZATION, index).astype(np.float64)
        values = (offset + scale * numbers).astype(np.float32)
        value.copy_(torch.from_numpy(values).view_as(value))
        rows.append([name, list(value.shape), offset, scale, norm(values)])
    return rows


def make_images(count, seed, size=32):
    """uint8 NHWC: three parts squares of 4 x 4 pixels, one part noise."""
    def draw(stream, size):
        bytes_ = [philox.words(size * size * 3, seed, philox.SYNTHETIC, stream, image) >> 24 for image in range(count)]
        return np.stack(bytes_).reshape(count, size, size, 3)

    coarse = draw(COARSE, size // 4).repeat(4, axis=1).repeat(4, axis=2)
    return ((3 * coarse + draw(FINE, size)) // 4).astype(np.uint8)


def normalized(images):
    """float64 NCHW."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).double() / 255
    channel = lambda values: torch.tensor(values, dtype=torch.float64).view(1, 3, 1, 1)
    return (pixels - channel(MEAN)) / channel(STD)


def relu_norms(net):
    """The names of the batch norms whose biases reach each call of a ReLU, in order."""
    blocks = [(name, m) for name, m in net.named_modules() if hasattr(m, "bn2")]
    return ["bn1"] + [f"{name}.{bn}" for name, m in blocks for bn in ("bn1", "bn2", "bn3") if hasattr(m, bn)]


def on_relu_inputs(net, act):
    """Calls act(call, input) before each ReLU; it may return another input. Returns the handles."""
    calls = iter(range(10**6))
    relus = [m for m in net.modules() if isinstance(m, torch.nn.ReLU)]
    return [relu.register_forward_pre_hook(lambda _, inputs: act(next(calls), inputs[0])) for relu in relus]


def widest_gap(values):
    """The shift of at most MAX_SHIFT that moves `values` farthest from 0."""
    near = np.sort(values[np.abs(values) < 2 * MAX_SHIFT])
    candidates = np.concatenate([[-MAX_SHIFT, MAX_SHIFT], (near[1:] + near[:-1]) / 2, near - MAX_SHIFT, near + MAX_SHIFT])
    candidates = candidates[np.abs(candidates) <= MAX_SHIFT]
    distances = np.abs(near[None, :] - candidates[:, None]).min(axis=1, initial=2 * MAX_SHIFT)
    return -candidates[distances.argmax()] * (1 - 1e-6)


def shift_biases(net, inputs):
    """Shifts the biases in the order of the ReLUs, each after all before it; returns the largest shift."""
    modules, names, shifts = dict(net.named_modules()), relu_norms(net), []

    def shift(call, x):
        bias = modules[names[call]].bias
        wanted = np.array([widest_gap(x[:, channel].numpy().ravel()) for channel in range(x.shape[1])])
        shifted = (bias + torch.from_numpy(wanted)).float().double()
        applied = shifted - bias
        bias.copy_(shifted)
        shifts.append(applied.abs().max().item())
        return (x + applied.view(1, -1, 1, 1),)

    with torch.no_grad():
        handles = on_relu_inputs(net, shift)
        net(inputs)
        [handle.remove() for handle in handles]
    assert len(shifts) == len(names)
    return max(shifts)


def pool_gap(x):
    """The smallest distance between the two largest values of a 3 x 3 window of stride 2, of those where the largest passes the ReLU."""
    padded = F.pad(x.relu(), (1, 1, 1, 1))
    windows = padded.unfold(2, 3, 2).unfold(3, 3, 2).flatten(4).sort(dim=-1).values
    gaps = (windows[..., -1] - windows[..., -2])[windows[..., -1] > 0]
    return gaps.min().item()


def train_step(net, inputs, labels):
    """Loss, logits, gradients, ReLU inputs; updates the running statistics."""
    relu_inputs = []
    handles = on_relu_inputs(net, lambda _, x: relu_inputs.append(x.detach().clone()))
    net.zero_grad()
    logits = net(inputs)
    loss = F.cross_entropy(logits, labels)
    loss.backward()
    [handle.remove() for handle in handles]
    gradients = {name: parameter.grad.double().numpy().copy() for name, parameter in net.named_parameters()}
    return loss.item(), logits.detach().double().numpy(), gradients, relu_inputs


def sketch(values):
    flat = np.asarray(values, dtype=np.float64).ravel()
    hashes = philox.words(flat.size, 0, philox.SYNTHETIC, SKETCH)
    signed = np.where(hashes >> 31, -flat, flat)
    return np.bincount(hashes % BUCKETS, signed, minlength=BUCKETS)


def norm(values):
    return float(np.linalg.norm(np.asarray(values, dtype=np.float64).ravel()))


def errors(got, reference):
    """Relative L2 error of each tensor."""
    return {name: norm(got[name] - reference[name]) / norm(reference[name]) for name in reference}


def float32_error(net, state, inputs, labels, gradients, relu_inputs):
    """What PyTorch's own float32 does on the same case."""
    net.float().load_state_dict(state)
    net.train()
    loss, logits, gradients32, relu_inputs32 = train_step(net, inputs.float(), labels)
    pairs = list(zip(relu_inputs32, relu_inputs))
    by_tensor = errors(gradients32, gradients)
    worst = max(by_tensor, key=by_tensor.get)
    return {
        "loss": loss,
        "largest gradient error": by_tensor[worst],
        "its tensor": worst,
        "median gradient error": float(np.median(list(by_tensor.values()))),
        "largest ReLU input error": max((a.double() - b).abs().max().item() for a, b in pairs),
        "smallest margin by error": min((b.abs().min() / (a.double() - b).abs().max()).item() for a, b in pairs),
        "largest error of the first ReLU's input": (pairs[0][0].double() - pairs[0][1]).abs().max().item(),
        "flipped ReLUs": sum(((a > 0) != (b > 0)).sum().item() for a, b in pairs),
    }


def make(case, model, stem, images, seed):
    net = build(model, stem)
    state_rows = fill(net, seed)
    pixels = make_images(images, seed)
    labels_list = [(3 * image + 1) % CLASSES for image in range(images)]
    inputs, labels = normalized(pixels), torch.tensor(labels_list)

    net.double().train()
    buffers = {name: value.clone() for name, value in net.named_buffers()}
    largest_shift = shift_biases(net, inputs)
    net.load_state_dict(buffers, strict=False)
    state = {name: value.clone() for name, value in net.state_dict().items()}
    loss, logits, gradients, relu_inputs = train_step(net, inputs, labels)
    running = {name: b.numpy().copy() for name, b in net.named_buffers() if b.ndim > 0}
    net.eval()
    with torch.no_grad():
        eval_logits = net(inputs).numpy()

    results = {f"gradient/{name}": value for name, value in gradients.items()}
    results |= {f"running/{name}": value for name, value in running.items()}
    tensors = {"logits": logits, "evalLogits": eval_logits}
    tensors |= {f"bias/{name}.bias": state[f"{name}.bias"].float().numpy() for name in relu_norms(net)}
    for name, value in results.items():
        whole = value.size <= BUCKETS or case in FULL_GRADIENTS
        tensors[name] = (value if whole else sketch(value)).astype(np.float32)
    golden = {
        "made by": {
            "script": "test/golden/parity.py",
            "python": sys.version.split()[0],
            "numpy": np.__version__,
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "safetensors": safetensors.__version__,
        },
        "model": model,
        "stem": stem,
        "classes": CLASSES,
        "seed": seed,
        "imageShape": list(pixels.shape),
        "imageSum": int(pixels.sum(dtype=np.int64)),
        "labels": labels_list,
        "mean": MEAN,
        "std": STD,
        "state": state_rows,
        "loss": loss,
        "norms": {name: norm(value) for name, value in results.items()},
        "margins": {
            "largest shift": largest_shift,
            "ReLU inputs": sum(x.numel() for x in relu_inputs),
            "smallest |ReLU input|": min(x.abs().min().item() for x in relu_inputs),
            "smallest gap in a pooling window": pool_gap(relu_inputs[0]) if stem == "imagenet" else None,
            "torch float32": float32_error(net, state, inputs, labels, gradients, relu_inputs),
        },
    }
    path = HERE / f"parity-{case}.safetensors"
    path.write_bytes(save(tensors, metadata={"golden": json.dumps(golden)}))
    print(f"{path.name}: {path.stat().st_size:,} bytes, loss {loss:.6f}\n{json.dumps(golden['margins'], indent=2)}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for case in sys.argv[1:] or CASES:
        make(case, **CASES[case])
