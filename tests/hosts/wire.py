"""A long wire for a kernel without `netem`: two TAP interfaces in two network namespaces, joined with delay and loss.

    python wire.py PID_A NAME_A PID_B NAME_B DELAY_MS LOSS

What goes into one end comes out of the other `DELAY_MS` later, in order, except for a share `LOSS` that never does.
Says `ready` when both ends are there. Needs nothing but the standard library.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import random
import select
import struct
import sys
import time
from collections import deque

CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI = 0x0002, 0x1000
FRAME_BYTES_MAX = 65_536
QUEUE_FRAMES_MAX = 50_000
_libc = ctypes.CDLL(None, use_errno=True)


def open_tap(pid: int, name: str) -> int:
    """Make a TAP interface in the network namespace of a process; this thread is in that namespace afterwards."""
    with open(f"/proc/{pid}/ns/net", "rb") as namespace:
        if _libc.setns(namespace.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns to {pid}")
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
    return tap


class Direction:
    """Frames on their way from one end to the other."""

    def __init__(self, source: int, target: int, delay_s: float, loss: float, seed: int) -> None:
        self.source, self.target = source, target
        self._delay_s, self._loss = delay_s, loss
        self._random = random.Random(seed)
        self._frames: deque[tuple[float, bytes]] = deque()

    def take(self, now_s: float) -> None:
        """Read what is there; what finds the queue full is lost, as in a switch."""
        while True:
            try:
                frame = os.read(self.source, FRAME_BYTES_MAX)
            except OSError:
                return
            if self._random.random() >= self._loss and len(self._frames) < QUEUE_FRAMES_MAX:
                self._frames.append((now_s + self._delay_s, frame))

    def give(self, now_s: float) -> float | None:
        """Write what is due; gives when the next frame is."""
        while self._frames and self._frames[0][0] <= now_s:
            try:
                os.write(self.target, self._frames.popleft()[1])
            except OSError:
                continue
        return self._frames[0][0] if self._frames else None


def main() -> None:
    pid_a, name_a, pid_b, name_b, delay_ms, loss = sys.argv[1:]
    a, b = open_tap(int(pid_a), name_a), open_tap(int(pid_b), name_b)
    delay_s = float(delay_ms) / 1000
    directions = {a: Direction(a, b, delay_s, float(loss), 1), b: Direction(b, a, delay_s, float(loss), 2)}
    print("ready", flush=True)
    wait_s: float | None = None
    while True:
        ready, _, _ = select.select([a, b], [], [], wait_s)
        now_s = time.monotonic()
        for end in ready:
            directions[end].take(now_s)
        due = [at for at in (way.give(time.monotonic()) for way in directions.values()) if at is not None]
        wait_s = max(0.0, min(due) - time.monotonic()) if due else None


if __name__ == "__main__":
    main()
