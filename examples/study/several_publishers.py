"""How are several publishers of one feed combined? Not by subscribing to all of them: by arbitration.

Three collectors follow one exchange; each loses a tenth of the updates (never all three the same one) and each is late
in turn. A ZeroMQ SUB socket
that connects to all three gets every copy, in the order of arrival: most updates twice or three times, many out of
order. An `Arbiter` takes the same copies and gives each update once and in order; its output is a line again, so two
of them can be arbitrated by the strategy, and either may die.
"""

from __future__ import annotations

import random
from itertools import pairwise

import zmq

from raytrade import BookDelta, BookSnapshot
from raytrade.arbitration import Arbiter
from raytrade.core.message import Kind, Message, encode, parse
from raytrade.rules import rule_of

NAME = "hitbtc-v2:ETHBTC"
LINES = ("frankfurt", "london", "zurich")
UPDATES = 2000
MILLISECOND = 1_000_000
Copies = list[tuple[int, str, Message]]


def copies(seed: int = 7) -> Copies:
    """Give (time, line, message) of all copies in the order of arrival."""
    drawn = random.Random(seed)
    scales = {"price_scale": 0, "size_scale": 0}
    first = BookSnapshot(instrument=NAME, id_last=1, bids=(1, 1), asks=(9, 1), **scales)
    arrivals: Copies = [(0, line, parse(encode(first, line))) for line in LINES]
    clocks = dict.fromkeys(LINES, 0)
    for n in range(1, UPDATES):
        keepers = [line for line in LINES if drawn.random() >= 0.1] or [drawn.choice(LINES)]
        for line in keepers:
            clocks[line] = max(clocks[line], n * MILLISECOND + drawn.randrange(8 * MILLISECOND))
            change = BookDelta(instrument=NAME, id_prev=n, id_last=n + 1, bids=(1, n), asks=(), **scales)
            arrivals.append((clocks[line], line, parse(encode(change, line))))
    return sorted(arrivals, key=lambda arrival: arrival[0])


def by_zeromq(arrivals: Copies) -> list[int]:
    """Send each line's copies over a publisher of its own; gives the ids as one subscriber to all of them gets them."""
    context = zmq.Context()
    subscriber = context.socket(zmq.SUB)
    subscriber.setsockopt(zmq.SUBSCRIBE, b"")
    subscriber.setsockopt(zmq.RCVHWM, 0)
    publishers = {}
    for line in LINES:
        publishers[line] = context.socket(zmq.XPUB)
        publishers[line].setsockopt(zmq.SNDHWM, 0)
        subscriber.connect(f"tcp://127.0.0.1:{publishers[line].bind_to_random_port('tcp://127.0.0.1')}")
    for publisher in publishers.values():
        publisher.recv()  # the subscription has arrived
    ids = []
    for _, line, message in arrivals:
        publishers[line].send(str(message.id_last).encode())
        ids.append(int(subscriber.recv()))
    context.destroy(linger=0)
    return ids


def by_arbiter(name: str, arrivals: Copies) -> Copies:
    """Arbitrate the copies; the result is again (time, line, message), so it can be arbitrated once more."""
    arbiter = Arbiter(name, rule_of)
    for line in {line for _, line, _ in arrivals}:
        arbiter.receive_line_up(line, 0)
    merged: Copies = []
    for now_ns, line, message in arrivals:
        arbiter.receive(line, message, now_ns)
        due_ns = arbiter.deadline_ns()
        if due_ns is not None and now_ns >= due_ns:
            arbiter.receive_timeout(now_ns)
        merged += [(now_ns, name, message) for message in arbiter.output()]
    return merged


def by_replicas(arrivals: Copies) -> Copies:
    """Two replicas merge the three lines, the strategy merges the replicas; one of them dies in mid-stream."""
    dies_ns = UPDATES * MILLISECOND // 2
    first = [copy for copy in by_arbiter("dedup-a", arrivals) if copy[0] < dies_ns]
    second = by_arbiter("dedup-b", arrivals)
    return by_arbiter("strategy", sorted(first + second, key=lambda copy: copy[0]))


def main() -> None:
    """Compare."""
    arrivals = copies()
    taken = by_zeromq(arrivals)
    backwards = sum(later <= earlier for earlier, later in pairwise(taken))
    print(f"{UPDATES - 1} updates, three publishers that lose 10 % each")
    print(f"  one SUB to all of them:   {len(taken)} messages, {backwards} of them repeated or out of order")
    for title, merged in (
        ("an arbiter", by_arbiter("dedup", arrivals)),
        ("two replicas, one dies", by_replicas(arrivals)),
    ):
        ids = [message.id_last for _, _, message in merged if message.kind is Kind.DELTA]
        print(f"  {title + ':':25} {len(ids)} updates, each once and in order")
        assert ids == list(range(2, UPDATES + 1)), title
    assert backwards > 1000


if __name__ == "__main__":
    main()
