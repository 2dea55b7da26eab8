"""Writes test/golden/parquet/data: a data set as Hugging Face's `datasets` saves one, of 8x8 images that are told apart by their first pixel.

pip install datasets==5.2.0 pillow && python test/golden/parquet.py
"""

import pathlib

import datasets
from PIL import Image as PIL

NAMES = ["tulip", "daisy", "rose"]  # not in the order of the alphabet
FEATURES = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)})
FOLDER = pathlib.Path(__file__).parent / "parquet" / "data"


def split(first, count):
    rows = range(first, first + count)
    images = [PIL.new("RGB", (8, 8), (10 * row, 20 * (row % 3), 200)) for row in rows]
    return datasets.Dataset.from_dict({"image": images, "label": [row % 3 for row in rows]}, features=FEATURES)


FOLDER.mkdir(parents=True, exist_ok=True)
train = split(0, 10)
for shard in range(2):
    train.shard(2, shard, contiguous=True).to_parquet(FOLDER / f"train-0000{shard}-of-00002.parquet")
split(10, 6).to_parquet(FOLDER / "test-00000-of-00001.parquet")

# What is wrong with others: a row without a label, as test sets have them, and a table of something else.
BAD = FOLDER.parent.parent / "parquet-bad"
BAD.mkdir(exist_ok=True)
image = PIL.new("RGB", (8, 8))
unlabelled = datasets.Dataset.from_dict({"image": [image, image], "label": [0, -1]}, features=FEATURES)
unlabelled.to_parquet(BAD / "unlabelled.parquet")
datasets.Dataset.from_dict({"text": ["a"], "score": [1.0]}).to_parquet(BAD / "text.parquet")
plain = datasets.Features({"img": datasets.Image(), "label": datasets.Value("int64")})
datasets.Dataset.from_dict({"img": [image, image], "label": [7, 10]}, features=plain).to_parquet(BAD / "numbers.parquet")
