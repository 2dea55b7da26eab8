"""Logits of torchvision's VGG: torch_vgg.py FOLDER COUNT MODEL, JSON on standard output.

FOLDER holds images.bin (float32, COUNT x 224 x 224 x 3) and dtrain.safetensors. Writes torch.safetensors, weights of torchvision's own; `own` are
the logits with these, `loaded` those with dtrain's file, loaded strictly.
"""
import json
import sys
from pathlib import Path

import torch
import torchvision
from safetensors.torch import load_file, save_file

folder, count, name = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
pixels = torch.frombuffer(bytearray((folder / "images.bin").read_bytes()), dtype=torch.float32)
images = pixels.reshape(count, 224, 224, 3).permute(0, 3, 1, 2)
torch.manual_seed(0)
model = getattr(torchvision.models, name)(num_classes=10).eval()


def logits():
    with torch.inference_mode():
        return model(images).flatten().tolist()


with torch.no_grad():
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.normal_(0, 0.1)  # torchvision's biases are zero at first
save_file(model.state_dict(), folder / "torch.safetensors")
own = logits()
model.load_state_dict(load_file(folder / "dtrain.safetensors"), strict=True)
versions = {"torch": torch.__version__, "torchvision": torchvision.__version__}
print(json.dumps({"versions": versions, "own": own, "loaded": logits()}))
