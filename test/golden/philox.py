"""src/core/philox.ts in NumPy: Philox4x32-10, bit for bit the same words and the same normal numbers."""

import numpy as np

INITIALIZATION, SYNTHETIC = 3, 4  # Purpose


def draw_words(seed, purpose, major, minor, block=0):
    """uint32 [..., 4] for arrays or numbers major, minor, block."""
    major, minor, block = np.broadcast_arrays(major, minor, block)
    low = np.uint64(0xFFFFFFFF)
    c0, c1, c2 = block.astype(np.uint64), minor.astype(np.uint64), major.astype(np.uint64)
    c3 = np.zeros_like(c0)
    k0, k1 = seed, purpose
    for _ in range(10):
        product0, product1 = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        c0, c2 = (product1 >> np.uint64(32)) ^ c1 ^ np.uint64(k0), (product0 >> np.uint64(32)) ^ c3 ^ np.uint64(k1)
        c1, c3 = product1 & low, product0 & low
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return np.stack([c0, c1, c2, c3], axis=-1).astype(np.uint32)


def words(count, seed, purpose, major, minor=None):
    """The first `count` words of a stream: one draw for four of them, counted by `minor`, or by the block where minor is given."""
    draws = np.arange((count + 3) // 4)
    drawn = draw_words(seed, purpose, major, draws) if minor is None else draw_words(seed, purpose, major, minor, draws)
    return drawn.reshape(-1)[:count]


def normal(count, seed, purpose, major):
    """fillNormal: float32 [count]."""
    a, b, c, d = words((count + 3) // 4 * 4, seed, purpose, major).reshape(-1, 4).T / 2**32
    first, second = np.sqrt(-2 * np.log(1 - a)), np.sqrt(-2 * np.log(1 - c))
    b, d = 2 * np.pi * b, 2 * np.pi * d
    numbers = np.stack([first * np.cos(b), first * np.sin(b), second * np.cos(d), second * np.sin(d)], axis=-1)
    return numbers.reshape(-1)[:count].astype(np.float32)
