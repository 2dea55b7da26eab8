"""Logits that TensorFlow and ONNX Runtime compute from exports: graph_logits.py FOLDER COUNT, JSON on standard output."""
import json
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import tensorflow as tf

folder, count = Path(sys.argv[1]), int(sys.argv[2])
images = np.fromfile(folder / "images.bin", np.uint8).reshape(count, 32, 32, 3).astype(np.float32)
found = {"versions": {name: version(name) for name in ("tensorflow-cpu", "onnx", "onnxruntime", "numpy")}}
for name in ("saved-model", "saved-model-folded"):
    signature = tf.saved_model.load(str(folder / name)).signatures["serving_default"]
    found[name] = signature(images=tf.constant(images))["logits"].numpy().ravel().tolist()
for name in ("onnx", "onnx-folded"):
    onnx.checker.check_model(onnx.load_from_string((folder / name).read_bytes()), full_check=True)
    session = onnxruntime.InferenceSession(folder / name)
    [logits] = session.run(["logits"], {"images": images.transpose(0, 3, 1, 2)})
    found[name] = logits.ravel().tolist()
    found["classes"] = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
print(json.dumps(found))
