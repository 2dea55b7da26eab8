"""A line between two network namespaces that delays every frame and loses some, where the kernel has no netem.

    slow_line.py NAMESPACE NAMESPACE MILLISECONDS LOSS SEED

Gives each namespace a device `slow`, the two ends of the line. Each frame arrives MILLISECONDS after it was sent; LOSS of them (a fraction,
drawn by SEED) do not. Prints `ready`, goes on until its standard input ends, and prints how many frames came and how many of them were lost.
The devices go with it. Needs Linux, /dev/net/tun, `ip` and root.
"""
import fcntl
import os
import random
import select
import struct
import subprocess
import sys
import time
from collections import deque

TUNSETIFF = 0x400454CA
IFF_TAP_NO_PI = 0x0002 | 0x1000
LARGEST_FRAME = 65536

first, second, milliseconds, loss, seed = sys.argv[1:]
delay, share, draw = float(milliseconds) / 1000, float(loss), random.Random(int(seed))


def end_in(namespace, name):
    """The open end of a device that is then moved to the namespace: it stays attached."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP_NO_PI))
    subprocess.run(["ip", "link", "set", name, "netns", namespace, "name", "slow"], check=True)
    subprocess.run(["ip", "-n", namespace, "link", "set", "slow", "up"], check=True)
    return descriptor


ends = [end_in(namespace, f"slow{os.getpid()}{side}") for side, namespace in zip("ab", (first, second))]
other = {ends[0]: ends[1], ends[1]: ends[0]}
waiting = deque()  # (when, to, frame); when rises, since every frame waits as long
frames = lost = 0
print("ready", flush=True)
while True:
    timeout = max(0, waiting[0][0] - time.monotonic()) if waiting else None
    readable, _, _ = select.select([*ends, sys.stdin], [], [], timeout)
    if sys.stdin in readable:
        break
    for end in readable:
        frame = os.read(end, LARGEST_FRAME)
        frames += 1
        if draw.random() < share:
            lost += 1
        else:
            waiting.append((time.monotonic() + delay, other[end], frame))
    while waiting and waiting[0][0] <= time.monotonic():
        _, to, frame = waiting.popleft()
        try:
            os.write(to, frame)
        except OSError:
            lost += 1  # its queue is full, or the device is down
print(f"{frames} frames, {lost} lost", flush=True)
