"""Writes images.json: small generated JPEG and PNG files (base64) and the CRC-32 of the RGB pixels that Pillow decodes them to.

To make it again: python -m venv peers && peers/bin/pip install pillow==13.0.0 && peers/bin/python test/golden/images.py
"""

import base64
import io
import json
import math
import sys
import zlib
from pathlib import Path

import PIL
from PIL import Image, ImageCms, features


def picture(width, height, phase):
    """Smooth colours with a few hard edges: both chroma filters and ringing show."""
    image = Image.new("RGB", (width, height))
    for y in range(height):
        for x in range(width):
            edge = 80 if (x // 5 + y // 7) % 2 else 0
            waves = [math.sin(x / (3 + c) + phase) + math.cos(y / (5 - c) + phase * c) for c in range(3)]
            image.putpixel((x, y), tuple(int(min(255, max(0, 108 + 40 * wave + edge * (c - 1)))) for c, wave in enumerate(waves)))
    return image


def case(name, image, format, **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    decoded = Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")
    return {
        "name": name,
        "width": decoded.width,
        "height": decoded.height,
        "crc32": zlib.crc32(decoded.tobytes()),
        "file": base64.b64encode(buffer.getvalue()).decode(),
    }


def stack(name, count, change=lambda image: image, **options):
    """Images of one size and sampling, which dtrain decodes by one call."""
    return [case(f"{name} {i}", change(picture(20, 28, i)), "JPEG", **options) for i in range(count)]


grey = picture(20, 28, 9).convert("L")
srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
rgba = picture(20, 28, 10)
rgba.putalpha(grey)
cases = [
    *stack("4:2:0", 3, quality=75, subsampling=2),
    *stack("4:2:2", 2, quality=60, subsampling=1),
    *stack("4:4:4", 2, quality=90, subsampling=0),
    *stack("grey", 2, change=lambda image: image.convert("L"), quality=80),
    *stack("optimised tables", 2, quality=50, optimize=True),
    *stack("restart markers", 2, quality=75, restart_marker_blocks=2),
    case("lowest quality", picture(20, 28, 3), "JPEG", quality=1),
    case("progressive", picture(20, 28, 4), "JPEG", progressive=True),
    case("RGB without conversion", picture(20, 28, 5), "JPEG", keep_rgb=True),
    case("with a colour profile", picture(20, 28, 6), "JPEG", icc_profile=srgb),
    case("turned by a tag", picture(20, 28, 7), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"),
    case("one pixel", picture(1, 1, 8), "JPEG"),
    case("png RGB", picture(20, 28, 11), "PNG"),
    case("png grey", grey, "PNG"),
    case("png with alpha", rgba, "PNG"),
    case("png grey with alpha", rgba.convert("LA"), "PNG"),
    case("png palette", picture(20, 28, 12).quantize(16), "PNG"),
    case("png of one bit", grey.convert("1"), "PNG"),
]
made_by = {
    "script": "test/golden/images.py",
    "python": sys.version.split()[0],
    "Pillow": PIL.__version__,
    "libjpeg-turbo": features.version_feature("libjpeg_turbo"),
}
lines = ",\n".join(json.dumps(item) for item in cases)
path = Path(__file__).with_suffix(".json")
path.write_text(f'{{"made by": {json.dumps(made_by)},\n"cases": [\n{lines}\n]}}\n')
print(f"{path.name}: {path.stat().st_size:,} bytes")
