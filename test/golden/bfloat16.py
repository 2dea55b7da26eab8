"""Writes bfloat16.json: float32 numbers and the bfloat16 that PyTorch rounds them to, both as their bits (pip install numpy torch)."""

import golden_json
import numpy as np
import torch

random = np.random.default_rng(0)
any_bits = random.integers(0, 2**32, size=300, dtype=np.uint32)
# Halfway between two bfloat16, and next to it: where the even one, the lower or the upper is right.
halves = np.concatenate([(any_bits[:40] & 0xFFFF0000) + step for step in (0x7FFF, 0x8000, 0x8001)]).astype(np.uint32)
ends = np.array([0, 1, 0x80000000, 0x007FFFFF, 0x7F7FFFFF, 0xFF7FFFFF, 0x7F800000, 0xFF800000], dtype=np.uint32)
bits = np.concatenate([any_bits, halves, ends])
bits = bits[~np.isnan(bits.view(np.float32))]  # what bits a NaN has left is nobody's promise
rounded = torch.from_numpy(bits.view(np.float32).copy()).to(torch.bfloat16).view(torch.int16).numpy().astype(np.uint16)
golden_json.write(__file__, [np, torch], [{"float32": bits.tolist(), "bfloat16": rounded.tolist()}])
