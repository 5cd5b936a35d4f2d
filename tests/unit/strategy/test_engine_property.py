from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from raytrade.core.book import BookState, L2Book
from raytrade.core.events import BookDelta, BookSnapshot
from raytrade.core.message import Message, decode
from tests.unit.strategy.streams import BTC, Diary, Rig, delta, line_down, line_up, snapshot, stalled, trade

LEVEL = st.tuples(st.integers(90, 99), st.integers(0, 9))
COUNT = 12
STEPS = ["next", "next", "next", "lose", "cut", "image", "stall", "line", "wait"]


def truth(moves: list[tuple[int, int]]) -> list[Message]:
    return [delta(11 + number, bids=move) for number, move in enumerate(moves)]


def state_after(messages: list[Message]) -> int:
    book = L2Book(BTC)
    for item in messages:
        event = decode(item)
        assert isinstance(event, BookSnapshot | BookDelta)
        book.apply(event)
    return book.state_hash(0)


@settings(max_examples=150, deadline=None)
@given(st.data(), st.lists(LEVEL, min_size=COUNT, max_size=COUNT))
def test_whatever_one_replica_lacks_the_other_has(data: Any, moves: list[tuple[int, int]]) -> None:
    """Two replicas in any interleaving, each with losses of its own: everything once, in order."""
    stream = truth(moves)
    lost = data.draw(st.lists(st.sampled_from(["", "a", "b"]), min_size=COUNT, max_size=COUNT))
    queues = {
        name: [snapshot(10), *(item for item, loser in zip(stream, lost, strict=True) if loser != name)]
        for name in ("a", "b")
    }
    diary = Diary()
    rig = Rig(diary)
    rig.up("a", "b")
    while queues["a"] or queues["b"]:
        names = [name for name in ("a", "b") if queues[name]]
        name = data.draw(st.sampled_from(names))
        rig.receive(name, queues[name].pop(0))
    rig.wait()
    shown = [id_last for _, id_last in diary.of("book")]
    assert shown == sorted(set(shown)) and shown[-1] == 10 + COUNT
    if not diary.of("gap"):
        assert shown == list(range(10, 11 + COUNT))
    assert rig.book.state is BookState.LIVE
    assert rig.book.state_hash(0) == state_after([snapshot(10), *stream])


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_live_book_is_the_true_one(data: Any) -> None:
    """Losses on both, links that come and go, stalls: what the strategy is shown is true, once, in order."""
    moves = data.draw(st.lists(LEVEL, min_size=COUNT, max_size=COUNT))
    stream = truth(moves)
    states = {10 + number: state_after([snapshot(10), *stream[:number]]) for number in range(COUNT + 1)}
    images = {10: snapshot(10)}
    wrong: list[int] = []

    class Watch(Diary):
        def on_book(self, context: Any, book: L2Book) -> None:
            super().on_book(context, book)
            if book.state_hash(0) != states[book.id_last]:
                wrong.append(book.id_last)

    book = L2Book(BTC)
    for number, item in enumerate([snapshot(10), *stream]):
        event = decode(item)
        assert isinstance(event, BookSnapshot | BookDelta)
        book.apply(event)
        whole = book.snapshot()
        images[10 + number] = snapshot(10 + number, whole.bids, whole.asks)
    diary = Watch()
    rig = Rig(diary)
    positions = {"a": 10, "b": 10}
    for _ in range(data.draw(st.integers(5, 40))):
        name = data.draw(st.sampled_from(["a", "b"]))
        match data.draw(st.sampled_from(STEPS)):
            case "next" if positions[name] < 10 + COUNT:
                positions[name] += 1
                rig.receive(name, stream[positions[name] - 11], trade(positions[name]))
            case "lose":
                positions[name] = min(positions[name] + 1, 10 + COUNT)
            case "cut":
                rig.down(name)
                rig.up(name)
            case "image":
                rig.receive(name, images[positions[name]])
            case "stall":
                rig.receive(name, stalled())
            case "line":
                rig.receive(name, data.draw(st.sampled_from([line_up("osaka/1"), line_down("osaka/1")])))
            case _:
                rig.wait()
    shown = [id_last for _, id_last in diary.of("book")]
    assert shown == sorted(set(shown)), "once, in order"
    assert not wrong
    assert len(set(diary.of("trade"))) == len(diary.of("trade"))
    assert rig.engine.is_running, rig.engine.statistics().failure
