"""What TensorBoard reads of a run folder: read_events.py FOLDER, JSON on standard output."""
import io
import json
import sys
from importlib.metadata import version

from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

accumulator = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0, "images": 0, "tensors": 0, "histograms": 0})
accumulator.Reload()
tags = accumulator.Tags()


def picture(event):
    image = Image.open(io.BytesIO(event.encoded_image_string)).convert("RGB")
    return {"step": event.step, "size": image.size, "first": image.getpixel((0, 0)), "last": image.getpixel((image.width - 1, image.height - 1))}


found = {
    "version": version("tensorboard"),
    "nodes": len(accumulator.Graph().node),
    "tags": {kind: names for kind, names in tags.items() if names},
    "scalars": {tag: [[event.step, event.value] for event in accumulator.Scalars(tag)] for tag in tags["scalars"]},
    "images": {tag: [picture(event) for event in accumulator.Images(tag)] for tag in tags["images"]},
    "texts": {
        tag: [event.tensor_proto.string_val[0].decode() for event in accumulator.Tensors(tag)] for tag in tags["tensors"]
    },
    "histograms": {
        tag: [[event.step, event.histogram_value.num, sum(event.histogram_value.bucket)] for event in accumulator.Histograms(tag)]
        for tag in tags["histograms"]
    },
}
print(json.dumps(found))
