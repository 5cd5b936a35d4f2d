from __future__ import annotations

import subprocess
import sys

from hypothesis import given, settings
from hypothesis import strategies as st

from raytrade.core.rendezvous import choose, ranked, weight

NODES = st.dictionaries(st.text("abcdef0123456789", min_size=4, max_size=8), st.sampled_from("uvwxyz"), min_size=2)
KEYS = [f"venue-{number}" for number in range(12)]
COPIES = st.integers(1, 4)


def test_the_weight_is_the_same_in_every_process() -> None:
    script = "from raytrade.core.rendezvous import weight; print(weight('binance-spot', 'a'))"
    options = [{"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)} for seed in ("1", "2")]
    told = [subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True) for env in options]
    assert [int(one.stdout) for one in told] == [weight("binance-spot", "a")] * 2
    assert weight("binance-spot", "a") == 14604787527544879018


@settings(deadline=None)
@given(NODES, COPIES)
def test_copies_are_apart_as_far_as_there_are_domains(domains: dict[str, str], copies: int) -> None:
    for key in KEYS:
        choice = choose(key, domains, copies)
        assert len(set(choice.names)) == len(choice.names) == min(copies, len(domains))
        assert choice.domains == len({domains[name] for name in choice.names}) == min(copies, len({*domains.values()}))


@settings(deadline=None)
@given(NODES, COPIES, st.randoms(use_true_random=False))
def test_one_node_less_moves_only_what_it_had(domains: dict[str, str], copies: int, random: object) -> None:
    gone = ranked(repr(random), domains)[0]
    left = {name: domain for name, domain in domains.items() if name != gone}
    for key in KEYS:
        before, after = set(choose(key, domains, copies).names), set(choose(key, left, copies).names)
        if gone not in before:
            assert after == before
        else:
            assert before - {gone} <= after
            assert len(after - before) <= 1


@settings(deadline=None)
@given(NODES, COPIES, st.sampled_from("uvwxyz"))
def test_one_node_more_takes_its_share_and_moves_nothing_else(domains: dict[str, str], copies: int, home: str) -> None:
    more = {**domains, "new": home}
    for key in KEYS:
        before, after = set(choose(key, domains, copies).names), set(choose(key, more, copies).names)
        assert after - before <= {"new"}
        assert len(before - after) <= 1


def test_the_shares_are_about_equal() -> None:
    domains = {f"node-{number}": f"zone-{number % 4}" for number in range(16)}
    carried = dict.fromkeys(domains, 0)
    for number in range(2000):
        for name in choose(f"key-{number}", domains, 2).names:
            carried[name] += 1
    assert all(180 < count < 320 for count in carried.values())
