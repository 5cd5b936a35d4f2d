from __future__ import annotations

from raytrade.core.clock import MILLISECOND, SECOND
from raytrade.core.events import Channel
from raytrade.links.payloads import Payloads
from raytrade.links.resume import StreamKey

REGIONS = {"tokyo-a": "tokyo", "tokyo-b": "tokyo", "osaka-a": "osaka", "osaka-b": "osaka"}
ALL = list(REGIONS)
BOOK: StreamKey = ("binance-spot:BTCUSDT", Channel.BOOK)


def sending(payloads: Payloads, up: list[str], now_ns: int, position: int = 0) -> set[str]:
    return REGIONS.keys() - payloads.review({BOOK: position}, up, now_ns)


def chosen(payloads: Payloads) -> str:
    (name,) = sending(payloads, ALL, 0)
    return name


def test_one_writer_sends_and_replicas_take_different_ones_of_one_region() -> None:
    readers = [Payloads(f"dedup-{number}", REGIONS, primary="tokyo") for number in range(20)]
    assert {chosen(one) for one in readers} == {"tokyo-a", "tokyo-b"}
    assert {REGIONS[chosen(Payloads(f"dedup-{n}", REGIONS))] for n in range(9)} == {
        REGIONS[chosen(Payloads("x", REGIONS))]
    }


def test_another_is_chosen_when_the_first_is_down_and_stays_when_it_is_back() -> None:
    payloads = Payloads("dedup", REGIONS)
    first = chosen(payloads)
    left = [name for name in ALL if name != first]
    assert sending(payloads, left, 0) == {first}, "not at once"
    (second,) = sending(payloads, left, 300 * MILLISECOND)
    assert second != first and REGIONS[second] == REGIONS[first]
    assert sending(payloads, ALL, SECOND) == {second}
    abroad = [name for name in ALL if REGIONS[name] != REGIONS[first]]
    sending(payloads, abroad, 2 * SECOND)
    assert sending(payloads, abroad, 3 * SECOND) == {next(name for name in payloads._far if name in abroad)}


def test_those_at_home_send_and_nobody_else_does_while_one_is_up() -> None:
    payloads = Payloads("dedup", REGIONS, home="osaka")
    assert sending(payloads, ALL, 0) == {"osaka-a", "osaka-b"}
    tokyo = ["tokyo-a", "tokyo-b"]
    sending(payloads, tokyo, SECOND)
    (helper,) = sending(payloads, tokyo, 2 * SECOND) - {"osaka-a", "osaka-b"}
    assert helper in tokyo
    assert sending(payloads, ALL, 3 * SECOND) == {"osaka-a", "osaka-b"}


def test_what_a_digest_tells_is_asked_for_when_it_does_not_come() -> None:
    payloads = Payloads("dedup", REGIONS)
    first = chosen(payloads)
    other = next(name for name in ALL if REGIONS[name] != REGIONS[first])
    payloads.hear(other, BOOK, 120)
    assert sending(payloads, ALL, 0, 100) == {first}
    payloads.hear(other, BOOK, 190)
    assert sending(payloads, ALL, 400 * MILLISECOND, 125) == {first}, "it has come: the next is waited for anew"
    assert sending(payloads, ALL, 800 * MILLISECOND, 125) == {first}
    assert sending(payloads, ALL, 900 * MILLISECOND, 125) == {first, other}
    assert sending(payloads, ALL, 5 * SECOND, 190) == {first, other}, "it goes on for a while"
    assert sending(payloads, ALL, 11 * SECOND, 190) == {first}
    assert payloads.helped == 1


def test_a_gap_is_filled_by_another_region_at_once() -> None:
    payloads = Payloads("dedup", REGIONS)
    first = chosen(payloads)
    payloads.miss(first, BOOK, 50, ALL, 0)
    (helper,) = sending(payloads, ALL, 0) - {first}
    assert REGIONS[helper] != REGIONS[first]
    payloads.miss(first, BOOK, 60, ALL, 1)
    assert sending(payloads, ALL, 1) == {first, helper}, "one helps, whatever is told"
    alone = Payloads("dedup", {"tokyo-a": "tokyo"})
    alone.miss("tokyo-a", BOOK, 50, ["tokyo-a"], 0)
    assert alone.helped == 0
