"""Logits that PyTorch computes from a safetensors export: torch_logits.py FOLDER COUNT MODEL, JSON on standard output.

MODEL resnet20 or speednet: the network of bench/reference; else a network of torchvision. Weights are loaded strictly, under the file's names.
"""
import json
import sys
from pathlib import Path

import torch
import torchvision
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parents[2] / "bench" / "reference"))
from cifar_resnet import CifarResNet  # noqa: E402
from speed_net import SpeedNet  # noqa: E402

folder, count, name = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
state = json.loads((folder / "state.json").read_text())
pixels = torch.frombuffer(bytearray((folder / "images.bin").read_bytes()), dtype=torch.uint8)
images = pixels.reshape(count, 32, 32, 3).permute(0, 3, 1, 2).float() / 255
mean, std = (torch.tensor(state[key]).reshape(1, 3, 1, 1) for key in ("mean", "std"))
own = {"resnet20": lambda: CifarResNet(20), "speednet": SpeedNet}
model = own[name]() if name in own else getattr(torchvision.models, name)(num_classes=10)
model.load_state_dict(load_file(folder / "safetensors"), strict=True)
with torch.inference_mode():
    logits = model.eval()((images - mean) / std)
versions = {"torch": torch.__version__, "torchvision": torchvision.__version__}
print(json.dumps({"versions": versions, "logits": logits.flatten().tolist()}))
