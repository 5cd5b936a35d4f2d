"""Recordings with several connections: the arbitrated stream is their union, and losses that others fill cost nothing.

The HitBTC family has global ids; OKX and OKCoin are merged by the checksums of their books. Binance was recorded on
one connection, so two lines with windows of their own are made of each recording.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from raytrade.core.book import L2Book
from raytrade.core.clock import MILLISECOND, Nanos
from raytrade.core.events import BookDelta, Flag, Levels
from raytrade.core.message import Kind, Message, decode, encode, parse
from raytrade.core.prices import rescale
from raytrade.storage.captures import Capture, CaptureRecord
from tests.golden.recordings import (
    BINANCE,
    HITBTC_REDUNDANT,
    OKX_REDUNDANT,
    Arrival,
    Partial,
    Recording,
    arbitrate,
    books_of,
    gaps_of,
    import_records,
)

pytestmark = pytest.mark.captures

LOSS = 0.2
SEEDS = range(4)

# Global ids: HitBTC and Bitcoin.com, four connections.


def ids_of(messages: list[Message]) -> list[int]:
    return [message.id_last for message in messages if message.kind is Kind.DELTA]


def check_union(recording: Recording, stream: list[Arrival], given: list[Message]) -> None:
    """In the order of ids, nothing twice, nothing left out, every message a copy as it came."""
    base = next(message.id_last for message in given if message.kind is Kind.SNAPSHOT)
    union = {a.message.id_last for a in stream if a.message.kind is Kind.DELTA}
    applicable = ids_of([message for message in given if not message.flags & Flag.UNAPPLIED])
    assert applicable == sorted(id_last for id_last in union if id_last > base)
    copies = {a.message.raw for a in stream}
    assert all(message.raw in copies for message in given if not message.flags & Flag.UNAPPLIED)
    assert gaps_of(given) == []
    check_books(recording, given)


def check_books(recording: Recording, given: list[Message]) -> None:
    for name, book in books_of(given).items():
        truth = recording.truth(name)
        final = recording.importer.books[name]
        assert book.state is final.state
        if str(book.id_last) == str(truth["last_id"]):
            assert (book.state_hash(0), len(book)) == (final.state_hash(0), len(final))
            assert not any(map(len, book.difference(final)))


@pytest.mark.parametrize("recording", HITBTC_REDUNDANT, indirect=True)
def test_the_stream_is_the_union(recording: Recording) -> None:
    assert len(recording.lines) == 4
    for name, stream in recording.streams.items():
        given = [message for message in recording.given if message.instrument == name]
        check_union(recording, stream, given)
        assert len(ids_of(given)) == recording.truth(name)["union_ids"]


@pytest.mark.parametrize("removed", ["1", "2", "3", "4"])
@pytest.mark.parametrize("recording", HITBTC_REDUNDANT, indirect=True)
def test_the_stream_without_one_connection(recording: Recording, removed: str) -> None:
    for stream in recording.streams.values():
        kept = [a for a in stream if a.line != removed]
        check_union(recording, kept, arbitrate(kept))


def lose(stream: list[Arrival], seed: int, *, spare_one_copy: bool) -> list[Arrival]:
    """Take a fifth of the deltas from each line, if wanted never the last copy."""
    dice = random.Random(seed)
    copies = Counter(a.message.id_last for a in stream if a.message.kind is Kind.DELTA)
    kept = []
    for arrival in stream:
        message = arrival.message
        is_spared = message.kind is not Kind.DELTA or (spare_one_copy and copies[message.id_last] == 1)
        if is_spared or dice.random() >= LOSS:
            kept.append(arrival)
        else:
            copies[message.id_last] -= 1
    return kept


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("recording", HITBTC_REDUNDANT, indirect=True)
def test_losses_that_others_fill_cost_nothing(recording: Recording, seed: int) -> None:
    lost = 0
    for stream in recording.streams.values():
        kept = lose(stream, seed, spare_one_copy=True)
        lost += len(stream) - len(kept)
        check_union(recording, kept, arbitrate(kept))
    assert lost > 0.1 * len(recording.arrivals)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("recording", HITBTC_REDUNDANT, indirect=True)
def test_losses_that_nobody_fills_are_gaps(recording: Recording, seed: int) -> None:
    """Half of everything lost: what any line still has comes out once, and what none has is in a gap.

    What stands behind a gap that no snapshot closes is still held when the recording ends.
    """
    for stream in recording.streams.values():
        dice = random.Random(seed)
        kept = [a for a in stream if a.message.kind is not Kind.DELTA or dice.random() > 0.5]
        given = arbitrate(kept)
        ids = ids_of(given)
        base = next(message.id_last for message in given if message.kind is Kind.SNAPSHOT)
        survivors = {a.message.id_last for a in kept if a.message.kind is Kind.DELTA and a.message.id_last > base}
        assert len(ids) == len(set(ids))
        open_from = min((gap.id_prev for gap in gaps_of(given)[_resyncs(given) :]), default=max(survivors, default=0))
        assert {id_last for id_last in survivors if id_last <= open_from} <= set(ids) | _overtaken(given)
        _check_gaps(given, set(range(base + 1, max(survivors, default=base))) - survivors)


def _resyncs(given: list[Message]) -> int:
    return sum(message.kind is Kind.RESYNCED for message in given)


def _overtaken(given: list[Message]) -> set[int]:
    """Give the ids that a snapshot after a gap already contained."""
    found: set[int] = set()
    since = 0
    for message in given:
        if message.kind is Kind.GAP:
            since = message.id_prev
        elif message.kind is Kind.SNAPSHOT and since:
            found |= set(range(since + 1, message.id_last + 1))
    return found


def _check_gaps(given: list[Message], missing: set[int]) -> None:
    """No message is applicable over a missing id."""
    position: int | None = None
    for message in given:
        if message.kind is Kind.SNAPSHOT:
            position = message.id_last
        elif message.kind is Kind.GAP:
            assert missing & set(range(message.id_prev + 1, message.id_last + 1))
            position = None
        elif message.kind is Kind.DELTA and not message.flags & Flag.UNAPPLIED:
            assert position == message.id_prev
            position = message.id_last


# No ids: OKX and OKCoin, three connections, merged by checksum.


def frame_key(record: CaptureRecord) -> tuple[str, str]:
    return record.data or "", record.b64 or ""


def records_of(recording: Recording) -> tuple[Capture, list[CaptureRecord]]:
    capture = Capture(recording.path)
    return capture, list(capture.records())


def contents(given: list[Message]) -> Counter[tuple[Any, ...]]:
    """Count the deltas by what they say."""
    found: Counter[tuple[Any, ...]] = Counter()
    for message in given:
        if message.kind is Kind.DELTA:
            factors = 10 ** (18 - message.price_scale), 10 ** (18 - message.size_scale)
            bids, asks = (rescale(side, *factors) for side in message.levels())
            found[message.instrument, message.ts_venue_ns, message.state_hash, bids, asks] += 1
    return found


def states(given: list[Message]) -> Counter[tuple[str, int, int]]:
    """Count the deltas by the state they lead to: of one that others overtook only what is left of it is given."""
    deltas = [message for message in given if message.kind is Kind.DELTA]
    return Counter((message.instrument, message.ts_venue_ns, message.state_hash) for message in deltas)


def check_final(recording: Recording, partial: Partial) -> None:
    books: Any = partial.importer.final_books()
    summary: Any = partial.importer.summary()["instruments"]
    for name, book in books.items():
        truth = recording.truth(name)
        assert (book["state"], summary[name]["gaps"]) == ("live", 0), name
        assert [list(level) for level in book["bids"]] == truth["bids"], name
        assert [list(level) for level in book["asks"]] == truth["asks"], name


@pytest.mark.parametrize("recording", OKX_REDUNDANT, indirect=True)
def test_the_checked_stream_is_the_union(recording: Recording) -> None:
    assert len(recording.lines) == 3
    for name in recording.streams:
        given = [message for message in recording.given if message.instrument == name]
        found = contents(given)
        assert found.total() == recording.truth(name)["union_ids"]
        by_line = [contents([a.message for a in recording.streams[name] if a.line == line]) for line in recording.lines]
        union = by_line[0] | by_line[1] | by_line[2]
        assert found == union


@pytest.mark.parametrize("removed", ["1", "2", "3"])
@pytest.mark.parametrize("recording", OKX_REDUNDANT, indirect=True)
def test_the_checked_stream_without_one_connection(recording: Recording, removed: str) -> None:
    capture, records = records_of(recording)
    partial = import_records(capture, [record for record in records if record.conn != removed])
    check_final(recording, partial)
    lines = [line for line in recording.lines if line != removed]
    arrived = [contents([a.message for a in recording.arrivals if a.line == line]) for line in lines]
    union = arrived[0] | arrived[1]
    found = contents(partial.given)
    assert not found - union
    assert found.total() >= min(part.total() for part in arrived)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("recording", OKX_REDUNDANT, indirect=True)
def test_losses_of_the_checked_stream_cost_nothing(recording: Recording, seed: int) -> None:
    """Every connection loses a fifth of its frames, snapshots too, wherever another still has the frame."""
    capture, records = records_of(recording)
    kept = lose_frames(records, seed)
    assert len(records) - len(kept) > 0.1 * len(records)
    partial = import_records(capture, kept)
    check_final(recording, partial)
    assert states(partial.given) == states(recording.given)
    whole = [message for message in partial.given if not message.flags & Flag.SPLICE]
    assert not contents(whole) - contents(recording.given)
    assert len(partial.given) - len(whole) < 0.02 * len(partial.given)


def lose_frames(records: list[CaptureRecord], seed: int) -> list[CaptureRecord]:
    dice = random.Random(seed)
    copies = Counter(frame_key(record) for record in records if record.kind == "recv")
    kept = []
    for record in records:
        key = frame_key(record)
        if record.kind != "recv" or copies[key] == 1 or dice.random() >= LOSS:
            kept.append(record)
        else:
            copies[key] -= 1
    return kept


# Windows that do not align: two lines made of each Binance recording.

WINDOW_NS: Nanos = 150 * MILLISECOND
WINDOW_DELTAS_MAX = 3
SKEW_NS: Nanos = 30 * MILLISECOND


def windows(stream: list[Arrival], line: str, dice: random.Random, skew_ns: Nanos) -> list[Arrival]:
    """Join neighbouring deltas into windows of random length, as a connection with other boundaries would."""
    deltas = [a for a in stream if a.message.kind is Kind.DELTA]
    found: list[Arrival] = []
    at = 0
    while at < len(deltas):
        end = at + dice.randint(1, WINDOW_DELTAS_MAX)
        joined = [a for a in deltas[at:end] if a.now_ns - deltas[at].now_ns <= WINDOW_NS]
        message = joined[0].message if len(joined) == 1 else _joined([a.message for a in joined], line)
        found.append(Arrival(line, message, joined[-1].now_ns + skew_ns))
        at += len(joined)
    return found


def _joined(messages: list[Message], line: str) -> Message:
    events = [decode(message) for message in messages]
    deltas = [event for event in events if isinstance(event, BookDelta)]
    price_scale = max(delta.price_scale for delta in deltas)
    size_scale = max(delta.size_scale for delta in deltas)
    first, last = deltas[0], deltas[-1]
    bids, asks = (
        _last_sizes([(getattr(d, side), price_scale - d.price_scale, size_scale - d.size_scale) for d in deltas])
        for side in ("bids", "asks")
    )
    delta = BookDelta(
        instrument=first.instrument,
        id_prev=first.id_prev,
        id_last=last.id_last,
        bids=bids,
        asks=asks,
        price_scale=price_scale,
        size_scale=size_scale,
        ts_venue_ns=last.ts_venue_ns,
        ts_recv_ns=last.ts_recv_ns,
    )
    return parse(encode(delta, line))


def _last_sizes(sides: list[tuple[Levels, int, int]]) -> Levels:
    sizes: dict[int, int] = {}
    for levels, price_shift, size_shift in sides:
        for price, size in zip(levels[::2], levels[1::2], strict=True):
            sizes[price * 10**price_shift] = size * 10**size_shift
    return tuple(value for level in sizes.items() for value in level)


def two_lines(stream: list[Arrival], seed: int) -> list[Arrival]:
    """Two lines that lose a fifth each, never both the same id."""
    dice = random.Random(seed)
    first, second = windows(stream, "a", dice, 0), windows(stream, "b", dice, SKEW_NS)
    lost = [window for window in first if dice.random() < LOSS]
    lost_ids = {window.message.id_last for window in lost}
    kept = [window for window in first if window.message.id_last not in lost_ids]
    at = 0
    for window in second:
        message = window.message
        while at < len(lost) and lost[at].message.id_last <= message.id_prev:
            at += 1
        is_needed = at < len(lost) and lost[at].message.id_prev < message.id_last
        if is_needed or dice.random() >= 2 * LOSS:
            kept.append(window)
    snapshots = [a for a in stream if a.message.kind is Kind.SNAPSHOT]
    return sorted([*snapshots, *kept], key=lambda arrival: arrival.now_ns)


@pytest.mark.parametrize("recording", BINANCE, indirect=True)
def test_two_lines_with_windows_of_their_own(recording: Recording) -> None:
    originals = kept = 0
    for number, (name, stream) in enumerate(sorted(recording.streams.items())):
        arrivals = two_lines(stream, number)
        originals += len(stream)
        kept += len(arrivals)
        given = arbitrate(arrivals)
        assert gaps_of(given) == [], name
        check_loose(given)
        (book,) = books_of(given).values()
        check_known_depth(stream, book, recording.importer.books[name])
        assert str(book.id_last) == str(recording.truth(name)["last_id"])
    assert 0.2 * originals < kept < 1.6 * originals


def check_known_depth(stream: list[Arrival], book: L2Book, final: L2Book) -> None:
    """Equal, but that a window which began before the snapshot may know levels deeper than the snapshot reaches."""
    first = next(a.message for a in stream if a.message.kind is Kind.SNAPSHOT)
    bids, asks = first.levels()
    factor = 10 ** (final.price_scale - first.price_scale)
    deletions = book.difference(final)
    assert all(size == 0 for side in deletions for size in side[1::2])
    assert all(price < min(bids[::2]) * factor for price in deletions[0][::2])
    assert all(price > max(asks[::2]) * factor for price in deletions[1][::2])


def check_loose(given: list[Message]) -> None:
    """Ranges may overlap, but each begins inside what is there already and ends beyond it."""
    position: int | None = None
    for message in given:
        if message.kind is Kind.DELTA and not message.flags & Flag.UNAPPLIED:
            assert position is not None
            assert message.id_prev <= position < message.id_last
        if message.kind is Kind.SNAPSHOT or not message.flags & Flag.UNAPPLIED:
            position = message.id_last


@pytest.mark.parametrize("recording", BINANCE[:2] + BINANCE[4:8], indirect=True)
def test_two_lines_that_both_lose_the_same_ids(recording: Recording) -> None:
    """A fifth lost of each without regard to the other: what neither has is told, the first hole at once."""
    for number, (name, stream) in enumerate(sorted(recording.streams.items())):
        dice = random.Random(number)
        lines = [window for line in "ab" for window in windows(stream, line, dice, 0) if dice.random() >= LOSS]
        snapshots = [a for a in stream if a.message.kind is Kind.SNAPSHOT]
        given = arbitrate(sorted([*snapshots, *lines], key=lambda arrival: arrival.now_ns))
        base = snapshots[0].message.id_last
        holes = holes_of([window.message for window in lines], base)
        gaps = [(gap.id_prev, gap.id_last) for gap in gaps_of(given)]
        if not any(message.kind is Kind.SNAPSHOT for message in given):
            assert holes and holes[0][0] == base, name
        else:
            assert bool(gaps) == bool(holes), name
            assert gaps == holes[: len(gaps)], name


def holes_of(messages: list[Message], base: int) -> list[tuple[int, int]]:
    """Give the ranges of ids beyond `base` that neither line delivered although there is more."""
    position, holes = base, []
    for message in sorted(messages, key=lambda message: message.id_prev):
        if message.id_prev > position:
            holes.append((position, message.id_prev))
        position = max(position, message.id_last)
    return holes
