from __future__ import annotations

import msgspec

from raytrade.arbitration import Rule, StreamRule
from raytrade.arbitration.selftest import SelfTest, Verdict
from raytrade.core.events import BookDelta, BookSnapshot
from tests.property.lines import START_NS, Truth

IDS = range(1001, 1201)


def judged(*sockets: list[BookDelta | BookSnapshot], rule: Rule = Rule.LOOSE) -> Verdict:
    test = SelfTest(lambda *_: StreamRule(rule, contiguous=True, in_band=True))
    for number, events in enumerate(sockets):
        for event in events:
            test.receive(f"socket {number}", event, START_NS)
    (verdict,) = test.verdicts()
    return verdict


def stream(truth: Truth, step: int = 1, first: int = 1000, net: bool = True) -> list[BookDelta | BookSnapshot]:
    """Give a socket's messages; with `step` above 1 in windows."""
    ends = range(first, IDS[-1] + 1, step)
    return [
        truth.snapshot(first),
        *(truth.delta(prev, prev + step, net=net) for prev in ends if prev + step <= IDS[-1]),
    ]


def test_equal_books_and_aligned_windows_are_strict() -> None:
    truth = Truth(1, 200)
    verdict = judged(stream(truth), stream(truth), rule=Rule.STRICT)
    assert (verdict.found, verdict.is_bold, verdict.evidence.no_ops) == (Rule.STRICT.value, False, 0)
    assert (verdict.evidence.pairs_shared, verdict.evidence.contents_equal) == (1.0, 1.0)
    assert verdict.evidence.states_equal == verdict.evidence.states_compared == 201


def test_windows_that_list_what_did_not_change_are_loose_however_they_lie() -> None:
    truth = Truth(1, 200)
    verdict = judged(stream(truth, 3, net=False), stream(truth, 2, net=False))
    assert (verdict.found, verdict.is_bold) == (Rule.LOOSE.value, False)
    assert verdict.evidence.no_ops > 0
    assert verdict.evidence.ends_shared < 0.5


def test_windows_that_do_not_lie_alike_and_show_nothing_are_lead() -> None:
    truth = Truth(1, 200)
    verdict = judged(stream(truth, 3), stream(truth, 2), rule=Rule.STRICT)
    assert (verdict.found, verdict.is_bold) == (Rule.LEAD.value, True)


def test_books_that_differ_at_one_id_are_lead() -> None:
    truth = Truth(2, 200)
    wrong = stream(truth)
    event = wrong[50]
    wrong[50] = msgspec.structs.replace(event, bids=(*event.bids, 1_000_000, 7))
    verdict = judged(stream(truth), wrong)
    assert (verdict.found, verdict.is_bold) == (Rule.LEAD.value, True)
    assert verdict.reason.startswith("books differ at")
    assert verdict.evidence.contents_equal < 1


def test_ids_of_each_connection_are_lead() -> None:
    truth = Truth(3, 200)
    events = [msgspec.structs.replace(event, epoch=5) for event in stream(truth)]
    assert judged(events, events).reason == "ids are counted on each connection"


def test_too_little_is_no_verdict() -> None:
    truth = Truth(4, 200)
    assert judged(stream(truth)).found == ""
    verdict = judged(stream(truth)[:10], stream(truth)[:10])
    assert (verdict.found, verdict.is_bold) == ("", False)
    assert verdict.reason == "only 10 common ids to compare books at, 20 are needed"


def test_sockets_that_have_no_id_in_common_are_lead() -> None:
    odd, even = stream(Truth(5, 200), 2, 1001), stream(Truth(5, 200), 2, 1000)
    verdict = judged(odd, even)
    assert (verdict.found, verdict.reason) == (Rule.LEAD.value, "the sockets have no id in common")
