"""ZeroMQ between the same hosts: a source, a relay that drops repeats by number, a sink; two hops, nothing decoded.

python zeromq.py relay ADDRESS            # on the strategy's host; prints p50 and p99 in ms at the end
python zeromq.py source ADDRESS RATE      # on the collector's host
"""

from __future__ import annotations

import struct
import sys
import threading
import time
from typing import Any

import zmq

HEADER = struct.Struct("qq")
PADDING = bytes(400 - HEADER.size)
"""An update of eight levels a side is about this long."""
MESSAGES = 1500
PORT = 5571
INNER = "ipc:///tmp/zeromq-hop"


def source(address: str, rate: float) -> None:
    socket: Any = zmq.Context.instance().socket(zmq.PUB)
    socket.connect(f"tcp://{address}:{PORT}")
    time.sleep(2.0)
    began = time.monotonic()
    for number in range(MESSAGES):
        time.sleep(max(0.0, began + number / rate - time.monotonic()))
        socket.send(HEADER.pack(number, time.time_ns()) + PADDING)
    socket.close(linger=2000)


def relay(address: str) -> None:
    context: Any = zmq.Context.instance()
    outer, inner = context.socket(zmq.SUB), context.socket(zmq.PUB)
    outer.bind(f"tcp://{address}:{PORT}")
    inner.bind(INNER)
    outer.setsockopt(zmq.SUBSCRIBE, b"")
    last = -1
    while last < MESSAGES - 1:
        data = outer.recv()
        number, _ = HEADER.unpack_from(data)
        if number > last:
            last = number
            inner.send(data)


def sink(delays: list[float]) -> None:
    socket: Any = zmq.Context.instance().socket(zmq.SUB)
    socket.connect(INNER)
    socket.setsockopt(zmq.SUBSCRIBE, b"")
    number = -1
    while number < MESSAGES - 1:
        number, sent_ns = HEADER.unpack_from(socket.recv())
        delays.append((time.time_ns() - sent_ns) / 1e6)


def main() -> None:
    role, address = sys.argv[1:3]
    if role == "source":
        source(address, float(sys.argv[3]))
        return
    delays: list[float] = []
    reader = threading.Thread(target=sink, args=(delays,))
    reader.start()
    print("ready", flush=True)
    relay(address)
    reader.join(10.0)
    delays.sort()
    print(delays[len(delays) // 2], delays[len(delays) * 99 // 100], flush=True)


if __name__ == "__main__":
    main()
