from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from raytrade.actors.collector import CollectorPlan, LinePlan
from raytrade.pipeline.moves import Standby, can_replace, left_behind, lines_to_run, streams_of
from raytrade.pipeline.planning import Plan, Standing, plan_what_fits
from tests.unit.pipeline.nodes import config, node

NODES = [node(number) for number in range(5)]


def lines(plan: Plan) -> dict[str, list[LinePlan]]:
    return {p.plan.name: p.plan.lines for p in plan.placements if isinstance(p.plan, CollectorPlan)}


def names(given: dict[str, list[LinePlan]]) -> set[str]:
    return {line.name for mine in given.values() for line in mine}


def test_an_old_line_stays_until_the_new_one_is_served() -> None:
    old = lines(plan_what_fits(config(1), NODES))
    (home,) = old
    gone = next(one.node_id for one in NODES if one.node_id[:12] in home)
    new = lines(plan_what_fits(config(1), NODES, Standing(drained=frozenset({gone}))))
    assert names(new).isdisjoint(names(old))
    assert names(lines_to_run(new, old, set())) == names(new) | names(old)
    running = lines_to_run(new, old, set())
    assert names(lines_to_run(new, running, names(new))) == names(new)


def test_a_symbol_more_opens_a_new_line_beside_the_old_one() -> None:
    old = lines(plan_what_fits(config(symbols=2), NODES[:2]))
    new = lines(plan_what_fits(config(symbols=3), NODES[:2], Standing(generations={"binance-spot": 2})))
    given = lines_to_run(new, old, set())
    assert all([line.name[-2:] for line in mine] == ["~2", "ot"] for mine in given.values())
    first = sorted(names(new))[:1]
    assert names(lines_to_run(new, given, set(first))) == names(given), "all new lines must be there first"
    assert names(lines_to_run(new, given, names(new))) == names(new)


def test_a_venue_that_is_removed_goes_at_once() -> None:
    old = lines(plan_what_fits(config(), NODES[:2]))
    given = lines_to_run({name: [] for name in old}, old, set())
    assert names(given) == set()


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.integers(0, 4), max_size=4, unique=True),
    st.lists(st.integers(0, 4), max_size=4, unique=True),
    st.integers(1, 3),
    st.randoms(use_true_random=False),
)
def test_no_stream_is_ever_without_a_served_line(
    before: list[int], after: list[int], copies: int, random: Random
) -> None:
    """From any placement to any other, whatever order the new lines come up in."""
    shuffle = random.sample
    wanted = config(copies, 9, venue={"shares": 3})
    old = lines(plan_what_fits(wanted, NODES, Standing(drained=frozenset(NODES[at].node_id for at in before))))
    new = lines(plan_what_fits(wanted, NODES, Standing(drained=frozenset(NODES[at].node_id for at in after))))
    served, running = names(old), old
    streams = {stream for mine in old.values() for line in mine for stream in streams_of(line)}
    coming = sorted(names(new) - served)
    for name in [*shuffle(coming, len(coming)), ""]:
        running = lines_to_run(new, running, served)
        alive = {
            stream for mine in running.values() for one in mine if one.name in served for stream in streams_of(one)
        }
        assert alive == streams
        served = (served & names(running)) | {name}
    assert names(lines_to_run(new, running, served)) == names(new)


def test_an_actor_is_replaced_when_the_new_one_does_all_that_it_did() -> None:
    old, new = Standby(["c1", "c2"], ["x", "y"]), Standby(["c1", "c2"], ["x", "y", "z"])
    reader = Standby(["new", "old"], ["x"])
    standbys = {"old": old, "new": new, "reader": reader}
    writers, readers = {"c1", "c2"}, {"reader"}
    assert can_replace(["new"], "old", "dedup", standbys, writers, readers)
    assert not can_replace(["new"], "old", "dedup", standbys | {"reader": Standby(["old"], [])}, writers, readers)
    assert not can_replace(["new"], "old", "dedup", {"old": old, "new": new}, writers, readers), "a reader is silent"
    assert not can_replace(["new"], "old", "dedup", standbys, {*writers, "c3"}, readers)
    assert not can_replace(["new"], "old", "dedup", standbys | {"new": Standby(["c1", "c2"], ["x"])}, writers, readers)
    assert not can_replace(["new"], "old", "dedup", {"old": old}, writers, readers)
    assert can_replace(["new"], "old", "strategy", {"new": new}, writers, readers), "the old one is dead"


def test_a_recorder_on_another_host_says_where_its_files_are() -> None:
    assert left_behind("rec", "/data", "", "10.0.0.1") == left_behind("rec", "/data", "10.0.0.1", "10.0.0.1") == ""
    told = left_behind("rec~2", "/data", "10.0.0.1", "10.0.0.2")
    assert told == "rec~2: runs on 10.0.0.2 now and begins anew there; its files up to here are in /data on 10.0.0.1"


def test_shards_take_the_place_of_a_dedup_together() -> None:
    standbys = {
        "old": Standby(["c"], ["x", "y"]),
        "new-0": Standby(["c"], ["x"]),
        "new-1": Standby(["c"], ["y"]),
        "reader": Standby(["new-0", "new-1"], []),
    }
    assert can_replace(["new-0", "new-1"], "old", "dedup", standbys, {"c"}, {"reader"})
    assert not can_replace(["new-0"], "old", "dedup", standbys, {"c"}, {"reader"}), "the second half is nowhere"
    deaf = standbys | {"reader": Standby(["new-0"], [])}
    assert not can_replace(["new-0", "new-1"], "old", "dedup", deaf, {"c"}, {"reader"})
    assert not can_replace(["new-0", "new-1"], "old", "dedup", standbys | {"new-1": Standby([], ["y"])}, {"c"}, set())
