"""`Plan`: everything that a seed decides beforehand, in a form that can be printed."""

from __future__ import annotations

import random

import msgspec

from raytrade.core.clock import MILLISECOND, SECOND, Nanos
from raytrade.links.policy import Policy
from raytrade.simulation.lies import LYING_VENUES

COLLECTORS = ("c0", "c1", "c2")
DEDUPS = ("d0", "d1")
STRATEGY = "engine"
RECORDER = "recorder"
OTHER = "other"
"""A second strategy, whose policy is drawn."""
CONSUMERS = (STRATEGY, RECORDER, OTHER)
ACTORS = (*COLLECTORS, *DEDUPS, *CONSUMERS)
LINKS = tuple([(c, d) for c in COLLECTORS for d in DEDUPS] + [(d, k) for d in DEDUPS for k in CONSUMERS])
VENUES = ("binance-spot", "hitbtc-v2", "kraken-v2", "coinbase-advanced", "sim-newest")
CLASSES = {
    "binance-spot": "chain, loose",
    "hitbtc-v2": "chain, strict",
    "kraken-v2": "lead, with checksums",
    "coinbase-advanced": "lead",
    "sim-newest": "newest",
}

LINE_FAULTS = ("drop", "duplicate", "reorder", "delay", "corrupt", "cut", "stall", "blackout")
ACTOR_FAULTS = ("clock", "crash", "step", "pause", "slow_disk", "full_disk", "slow_consumer")
OTHER_FAULTS = ("rest", "link", "partition", *ACTOR_FAULTS)
CHANGES = (80, 92)
"""Changes of each venue while faults are at work, from and to."""
FAULTS_MIN = 5
FAULTS_MAX = 10
LIES_EVERY, LIES_AT = 6, 2
"""One seed in so many has a line that lies, told by the seed itself: all the others are what they always were."""
CROSSING_AT = 5
"""And one in so many has a venue whose book is crossed."""
SPILLS = ((4_000, 0), (4_000, 40_000), (40_000, 10_000_000))
"""Bytes that may wait at the recorder, in memory and on disk."""
ANY_LINE = "*"
BLACKOUT_NS_MAX = 400 * MILLISECOND


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One fault: what, to whom, when (after the start) and for how long; `amount` is a share, a count or nanoseconds.

    `target` is an actor, ``venue``, ``collector/venue`` (a line), ``*/venue`` (all its lines) or ``a>b`` (a link).
    """

    kind: str
    target: str
    start_ns: Nanos
    duration_ns: Nanos = 0
    amount: float = 0.0

    def __str__(self) -> str:
        span = f"{self.start_ns / SECOND:.3f} s for {self.duration_ns / SECOND:.3f} s"
        return f"{self.kind:<14} {self.target:<24} at {span}, amount {self.amount:g}"


class VenuePlan(msgspec.Struct, frozen=True, kw_only=True):
    """How one venue behaves: time between changes, greatest window, depth shown, trades per change."""

    name: str
    interval_ns: Nanos
    window_max: int
    depth: int
    trade_share: float


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The whole of a seed."""

    seed: int
    venues: tuple[VenuePlan, ...]
    faults: tuple[Fault, ...]
    latencies_ns: dict[str, Nanos]
    jitter_ns: Nanos
    call_ns: Nanos
    local_links: tuple[str, ...]
    ring_items_max: int
    active_ns: Nanos
    policy: Policy
    spill_bytes: tuple[int, int]
    quiet: tuple[Fault, ...]
    """Faults at the time when the venues fall quiet."""
    lies: tuple[Fault, ...] = ()


def draw_plan(seed: int, rng: random.Random) -> Plan:
    """Draw what a seed means."""
    active_ns = rng.randint(5_000, 10_000) * MILLISECOND
    venues = tuple(_draw_venue(name, active_ns, rng) for name in VENUES)
    lies = _draw_lies(seed, active_ns)
    paths = [f"{collector}/{venue}" for collector in COLLECTORS for venue in VENUES]
    return Plan(
        seed=seed,
        venues=venues,
        faults=_draw_faults(rng, active_ns),
        latencies_ns={path: rng.randint(2, 60) * MILLISECOND for path in paths},
        jitter_ns=rng.choice((1, 5, 25)) * MILLISECOND,
        call_ns=rng.choice((MILLISECOND // 2, 2 * MILLISECOND)),
        local_links=tuple(f"{a}>{b}" for a, b in LINKS if rng.random() < 0.4),
        ring_items_max=rng.choice((200, 1_000, 100_000)),
        active_ns=active_ns,
        policy=rng.choice((Policy.CONFLATE, Policy.CONFLATE, Policy.FAIL, Policy.SKIP)),
        spill_bytes=rng.choice(SPILLS),
        quiet=_draw_quiet(rng),
        lies=lies,
    )


def _draw_lies(seed: int, active_ns: Nanos) -> tuple[Fault, ...]:
    """Draw a line that lies, once in a while or always, for a while or to the end of the faults; or a crossed book."""
    rng = random.Random(seed)
    if seed % LIES_EVERY == CROSSING_AT:
        start_ns = rng.randint(SECOND // 2, active_ns - SECOND)
        return (Fault(kind="crossing", target=f"{ANY_LINE}/{rng.choice(LYING_VENUES)}", start_ns=start_ns),)
    if seed % LIES_EVERY != LIES_AT:
        return ()
    start_ns = rng.randint(SECOND // 2, active_ns - 2 * SECOND)
    duration_ns = rng.choice((300 * MILLISECOND, SECOND, active_ns - start_ns))
    target = f"{rng.choice(COLLECTORS)}/{rng.choice(LYING_VENUES)}"
    amount = rng.choice((0.1, 0.5, 1.0))
    return (Fault(kind="lie", target=target, start_ns=start_ns, duration_ns=duration_ns, amount=amount),)


def _draw_quiet(rng: random.Random) -> tuple[Fault, ...]:
    """Draw what befalls one or two actors with the last updates: nothing that comes later will show it."""
    faults: list[Fault] = []
    for target in rng.sample((*DEDUPS, *CONSUMERS), rng.choice((1, 2, 2))):
        duration_ns = rng.randint(500, 4_000) * MILLISECOND
        kind = rng.choice(("crash", "pause", "pause", "partition"))
        if kind == "partition":
            links = [f"{a}>{b}" for a, b in LINKS if target in (a, b) and (target == b or rng.random() < 0.5)]
            faults += [Fault(kind=kind, target=link, start_ns=0, duration_ns=duration_ns) for link in links]
        else:
            faults.append(Fault(kind=kind, target=target, start_ns=0, duration_ns=duration_ns))
    return tuple(faults)


def _draw_venue(name: str, active_ns: Nanos, rng: random.Random) -> VenuePlan:
    return VenuePlan(
        name=name,
        interval_ns=active_ns // rng.randint(*CHANGES),
        window_max=rng.choice((1, 3, 6)),
        depth=rng.choice((10, 10, 16)) if name == "kraken-v2" else 0,
        trade_share=rng.choice((0.1, 0.25)),
    )


def _draw_faults(rng: random.Random, active_ns: Nanos) -> tuple[Fault, ...]:
    count = rng.randint(FAULTS_MIN, FAULTS_MAX)
    kinds = [rng.choice(("crash", "step")), "blackout"]
    kinds += [rng.choice(LINE_FAULTS if rng.random() < 0.6 else OTHER_FAULTS) for _ in range(count)]
    faults = [_draw_fault(kind, rng, active_ns) for kind in kinds]
    return tuple(sorted(faults, key=lambda fault: (fault.start_ns, fault.kind, fault.target)))


def _draw_fault(kind: str, rng: random.Random, active_ns: Nanos) -> Fault:
    start_ns = rng.randint(SECOND // 2, active_ns - SECOND)
    duration_ns = rng.choice((rng.randint(20, 300), rng.randint(300, 2_500))) * MILLISECOND
    if kind in LINE_FAULTS:
        target, amount = _draw_line(kind, rng)
    elif kind in ACTOR_FAULTS:
        target, amount = _draw_actor(kind, rng)
    else:
        target = rng.choice(VENUES) if kind == "rest" else ">".join(rng.choice(LINKS))
        amount = rng.choice((0.02, 0.2))
    if kind == "blackout":
        duration_ns = min(duration_ns, BLACKOUT_NS_MAX)
    return Fault(kind=kind, target=target, start_ns=start_ns, duration_ns=duration_ns, amount=amount)


def _draw_line(kind: str, rng: random.Random) -> tuple[str, float]:
    """Draw which lines a fault hits, and how hard."""
    collector, venue = rng.choice(COLLECTORS), rng.choice(VENUES)
    if kind == "blackout":
        return f"{ANY_LINE}/{venue}", 1.0
    if kind == "delay":
        return f"{collector}/{venue}", float(rng.randint(10, 400) * MILLISECOND)
    one = f"{collector}/{venue}"
    target = rng.choice((one, one, f"{ANY_LINE}/{venue}", f"{collector}/{ANY_LINE}"))
    return target, rng.choice((0.02, 0.1, 0.4))


def _draw_actor(kind: str, rng: random.Random) -> tuple[str, float]:
    """Draw which actor a fault hits, and how hard."""
    match kind:
        case "clock":
            return rng.choice(ACTORS), float(rng.choice((-1, 1)) * rng.randint(5, 3_000) * MILLISECOND)
        case "step":
            return rng.choice(ACTORS), float(rng.randint(1, 60))
        case "slow_disk" | "full_disk":
            return RECORDER, float(rng.randint(20, 900) * MILLISECOND)
        case "slow_consumer":
            return rng.choice((STRATEGY, OTHER)), float(rng.randint(1, 60) * MILLISECOND)
        case _:
            return rng.choice(ACTORS), 0.0
