"""How the scripts here write their JSON: versions first, numbers with nine digits, one case a line."""

import json
import sys
from pathlib import Path

import numpy as np
import torch


def plain(value):
    """Tensors and arrays as {"shape", "values"}; all floats with nine significant digits."""
    if isinstance(value, torch.Tensor):
        value = value.detach().numpy()
    if isinstance(value, np.ndarray):
        return {"shape": list(value.shape), "values": plain(value.ravel().tolist())}
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return float(f"{value:.9g}") if isinstance(value, float) else value


def write(script, versions, cases):
    """SCRIPT.json beside the script: {"made by": …, "cases": […]}."""
    made_by = {"script": f"test/golden/{Path(script).name}", "python": sys.version.split()[0]}
    header = json.dumps(made_by | {module.__name__: module.__version__ for module in versions})
    lines = ",\n".join(json.dumps(plain(case)) for case in cases)
    path = Path(script).with_suffix(".json")
    path.write_text(f'{{"made by": {header},\n"cases": [\n{lines}\n]}}\n')
    print(f"{path.name}: {path.stat().st_size:,} bytes")
