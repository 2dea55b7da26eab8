"""Writes augmentation.json: crop, flip and cutout of given draws by torchvision, in float64 (pip install numpy torch torchvision).

Order: normalise, pad with zeros, crop at cropYX of the padded image, flip, cutout. Cutout (DeVries and Taylor 2017) zeroes the square of `cutout`
pixels that begins floor(cutout / 2) before cutoutYX, clipped at the borders; cutoutYX is a pixel of the flipped image.
"""

import golden_json
import numpy as np
import torch
import torchvision
import torchvision.transforms.v2.functional as F

MEAN, STD = [0.4914, 0.4822, 0.4465], [0.247, 0.2435, 0.2616]
HEIGHT, WIDTH = 6, 7


def augment(image_hwc, crop, crop_yx, flip, cutout, cutout_yx):
    image = torch.from_numpy(image_hwc).permute(2, 0, 1).double() / 255
    image = F.normalize(image, MEAN, STD)
    image = F.crop(F.pad(image, crop, fill=0), *crop_yx, HEIGHT, WIDTH)
    if flip:
        image = F.hflip(image)
    top, left = (max(0, centre - cutout // 2) for centre in cutout_yx)
    bottom = min(HEIGHT, cutout_yx[0] - cutout // 2 + cutout)
    right = min(WIDTH, cutout_yx[1] - cutout // 2 + cutout)
    image = F.erase(image, top, left, bottom - top, right - left, torch.zeros(1, dtype=torch.float64))
    return image.permute(1, 2, 0)


def case(crop, crop_yx, flip, cutout, cutout_yx):
    images = np.random.default_rng(1).integers(0, 256, (len(flip), HEIGHT, WIDTH, 3), dtype=np.uint8)
    draws = zip(images, crop_yx, flip, cutout_yx)
    return {
        "crop": crop,
        "cutout": cutout,
        "mean": MEAN,
        "std": STD,
        "imagesNHWC": images,
        "cropYX": crop_yx,
        "flip": flip,
        "cutoutYX": cutout_yx,
        "outputNHWC": torch.stack([augment(image, crop, yx, bit, cutout, centre) for image, yx, bit, centre in draws]),
    }


cases = [
    case(0, [[0, 0], [0, 0]], [0, 0], 0, [[0, 0], [3, 3]]),
    case(2, [[0, 0], [2, 2], [4, 1], [3, 4]], [0, 0, 0, 0], 0, [[0, 0]] * 4),
    case(2, [[2, 2], [4, 0], [1, 3]], [1, 1, 0], 0, [[0, 0]] * 3),
    case(0, [[0, 0]] * 4, [0, 1, 0, 1], 4, [[0, 0], [3, 3], [5, 6], [1, 5]]),
    case(1, [[0, 2], [2, 0], [1, 1]], [1, 0, 1], 3, [[0, 0], [5, 6], [2, 4]]),
]
golden_json.write(__file__, [np, torch, torchvision], cases)
