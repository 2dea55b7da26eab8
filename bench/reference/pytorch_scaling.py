"""DDP's own efficiency on the CPU: images/s of two processes of one thread, against twice those of one. Prints {"efficiency": …}.

    python pytorch_scaling.py --model resnet20 --precision float32 --steps 20
"""

import json
import pathlib
import subprocess
import sys

STEP = pathlib.Path(__file__).with_name("pytorch_step.py")


def images_per_second(processes):
    command = [sys.executable, STEP, *sys.argv[1:], "--processes", str(processes), "--threads", "1"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(output.strip().splitlines()[-1])["imagesPerSecond"]["median"]


one, two = images_per_second(1), images_per_second(2)
print(json.dumps({"bench": "scaling", "points": [one, two], "efficiency": two / (2 * one)}))
