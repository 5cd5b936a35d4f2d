"""The drawing of faults."""

from __future__ import annotations

from collections import Counter

from raytrade.chaos.draw import DAMAGE, DECK, DISK_FULL_S, PAUSE_S, Action, Draw, Fault

ROUND = sum(copies for _, _, copies in DECK)


def test_the_same_seed_draws_the_same() -> None:
    first, again, other = Draw(7), Draw(7), Draw(8)
    drawn = [first.next() for _ in range(100)]
    assert drawn == [again.next() for _ in range(100)]
    assert drawn != [other.next() for _ in range(100)]


def test_each_round_has_the_whole_deck() -> None:
    draw = Draw(1)
    for _ in range(3):
        kinds = Counter((fault.action, fault.role) for fault in (draw.next() for _ in range(ROUND)))
        assert kinds == {(action, role): copies for action, role, copies in DECK}


def test_only_the_wanted_actions_are_drawn() -> None:
    draw = Draw(1, (Action.KILL, Action.CUT))
    assert {draw.next().action for _ in range(ROUND)} == {Action.KILL, Action.CUT}


def test_times_are_in_their_bounds() -> None:
    draw = Draw(3)
    for fault in (draw.next() for _ in range(5 * ROUND)):
        match fault.action:
            case Action.PAUSE:
                assert PAUSE_S[0] <= fault.seconds <= PAUSE_S[1]
            case Action.DISK_FULL:
                assert DISK_FULL_S[0] <= fault.seconds <= DISK_FULL_S[1]
            case action:
                assert (fault.seconds > 0) is (action in DAMAGE)


def test_a_pick_means_one_of_the_candidates() -> None:
    def fault(pick: float) -> Fault:
        return Fault(action=Action.KILL, role="dedup", pick=pick)

    assert [fault(pick).choose("abc") for pick in (0.0, 0.34, 0.999)] == ["a", "b", "c"]
    assert fault(0.999).choose("a") == "a"
    assert fault(0.5).kind == "kill dedup"
