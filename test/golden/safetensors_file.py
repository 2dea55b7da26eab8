"""Writes safetensors_file.json: one small file by the reference implementation (pip install numpy safetensors)."""

import base64
import json
import sys
from pathlib import Path

import numpy as np
import safetensors
from safetensors.numpy import save

tensors = {
    "layer1.0.conv1.weight": (np.arange(12, dtype=np.float32) / 4 - 0.5).reshape(2, 1, 3, 2),
    "bn1.num_batches_tracked": np.array(7, dtype=np.int64),
    "ids": np.array([-1, 2], dtype=np.int32),
    "pixels": np.array([0, 128, 255], dtype=np.uint8),
    "empty": np.zeros((0, 4), np.float32),
    "Grüße": np.array([1e300], dtype=np.float64),
}
golden = {
    "made by": {
        "script": "test/golden/safetensors_file.py",
        "python": sys.version.split()[0],
        "numpy": np.__version__,
        "safetensors": safetensors.__version__,
    },
    "base64": base64.b64encode(save(tensors, metadata={"format": "pt"})).decode(),
}
path = Path(__file__).with_suffix(".json")
path.write_text(json.dumps(golden, indent=2, ensure_ascii=False) + "\n")
print(f"{path}: {path.stat().st_size:,} bytes")
