"""The table of arrivals and what it says of the lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from raytrade.arbitration import Arbiter
from raytrade.core.arrivals import ArrivalLog
from raytrade.core.clock import MILLISECOND, SECOND
from raytrade.core.events import Event, LineDown
from raytrade.core.message import encode, parse
from raytrade.errors import ConfigError, StorageError
from raytrade.rules import rule_of
from raytrade.storage.arrivals import ArrivalSink, read_arrivals, read_cursors, segments_of
from raytrade.storage.league import League, league_of
from raytrade.storage.times import interval_ns
from tests.unit.storage.recordings import BTC, NOON_NS, delta, snapshot

MS = MILLISECOND
Copy = tuple[int, str, Event]


def logged(directory: Path, copies: list[Copy], sink: ArrivalSink | None = None) -> ArrivalSink:
    """Let copies (ms after noon, line, event) arrive at an arbiter and keep the log."""
    arbiter, log = Arbiter("d", rule_of), ArrivalLog("d", 1)
    sink = sink or ArrivalSink(directory)
    for at_ms, line, event in sorted(copies, key=lambda copy: copy[0]):
        now_ns = NOON_NS + at_ms * MS
        while (due_ns := arbiter.deadline_ns()) is not None and due_ns <= now_ns:
            arbiter.receive_timeout(due_ns)
        message = parse(encode(event, line))
        log.note([message], now_ns)
        arbiter.receive(line, message, now_ns)
        log.give(arbiter.output())
        log.cut(now_ns)
    log.cut(0, is_due=True)
    sink.write(log.since(1, 0), NOON_NS)
    sink.flush()
    return sink


def two_lines(count: int, *, lost_by_a: int = -1, lost_by_b: int = -1) -> list[Copy]:
    """Give `count` messages, 100 ms apart: line b is 3 ms behind line a, and 2 ms before it in every fourth."""
    copies: list[Copy] = [(0, line, snapshot(100, NOON_NS)) for line in ("a", "b")]
    for number in range(count):
        event = delta(100 + number, 101 + number, NOON_NS + number * MS)
        at_ms = 100 * (number + 1)
        if number != lost_by_a:
            copies.append((at_ms, "a", event))
        if number != lost_by_b:
            copies.append((at_ms - 2 if number % 4 == 0 else at_ms + 3, "b", event))
    return copies


def league(directory: Path, without: str | None = None) -> League:
    return league_of(directory, interval_ns(None, None), ["*"], without)


def test_wins_and_leads(tmp_path: Path) -> None:
    logged(tmp_path, two_lines(400))
    found = league(tmp_path)
    a, b = (found.standings[line, BTC, "book"] for line in ("a", "b"))
    assert (a.wins, b.wins) == (300, 100)
    assert (a.lost, b.lost, a.healed, b.healed) == (0, 0, 0, 0)
    assert set(a.leads().tolist()) == {3 * MS}
    assert set(b.leads().tolist()) == {2 * MS}
    assert a.disagreements == b.disagreements == 0


def test_what_one_line_lost_the_other_healed(tmp_path: Path) -> None:
    logged(tmp_path, two_lines(40, lost_by_a=17))
    found = league(tmp_path)
    a, b = (found.standings[line, BTC, "book"] for line in ("a", "b"))
    assert (a.lost, a.healed, b.lost, b.healed) == (1, 0, 0, 1)


def test_without_a_line(tmp_path: Path) -> None:
    logged(tmp_path, two_lines(40, lost_by_a=17))
    absence = league(tmp_path, "b").absences[BTC, "book"]
    assert absence.messages == 40
    assert absence.lost == 1
    assert absence.ranges == [(117, 118)]
    assert absence.delays().tolist() == [2 * MS] * 10


def test_windows_of_lines_need_not_align(tmp_path: Path) -> None:
    copies: list[Copy] = [(0, line, snapshot(100, NOON_NS)) for line in ("a", "b")]
    copies += [(10 * n, "a", delta(98 + 2 * n, 100 + 2 * n, NOON_NS)) for n in range(1, 50)]
    copies += [(10 * n + 1, "b", delta(97 + 2 * n, 99 + 2 * n, NOON_NS)) for n in range(1, 60)]
    logged(tmp_path, copies)
    found = league(tmp_path)
    a, b = (found.standings[line, BTC, "book"] for line in ("a", "b"))
    assert a.wins == 49
    assert a.lost == b.lost == 0
    assert set(a.leads().tolist()) == {11 * MS}


def test_other_content_under_the_same_ids_is_a_disagreement(tmp_path: Path) -> None:
    copies = two_lines(10)
    wrong = delta(105, 106, NOON_NS, bids=(10_000, 4711))
    copies = [(at, line, wrong if line == "b" and event.id_last == 106 else event) for at, line, event in copies]  # type: ignore[union-attr]
    logged(tmp_path, copies)
    assert league(tmp_path).standings["b", BTC, "book"].disagreements == 1
    assert league(tmp_path).standings["a", BTC, "book"].disagreements == 0


def test_lost_connections_and_the_interval(tmp_path: Path) -> None:
    down = LineDown(venue="binance-spot", cause="cut", ts_recv_ns=NOON_NS)
    logged(tmp_path, [*two_lines(40), (1001, "b", down)])
    assert league(tmp_path).standings["b", BTC, "book"].reconnects == 1
    whole, half_ns = league(tmp_path), NOON_NS + 2 * SECOND
    half = league_of(tmp_path, (0, half_ns), ["*"])
    assert 0 < half.standings["a", BTC, "book"].messages < whole.standings["a", BTC, "book"].messages


def test_pieces_of_the_log_are_counted_like_the_whole(tmp_path: Path) -> None:
    copies = two_lines(600, lost_by_a=203)
    logged(tmp_path / "whole", copies)
    sink = ArrivalSink(tmp_path / "cut", rows_max=1)
    logged(tmp_path / "cut", copies, sink)
    whole, pieces = League(), League()
    for piece in segments_of(tmp_path / "whole"):
        table = read_arrivals(piece)
        whole.add(table)
        for start in range(0, table.num_rows, 37):
            pieces.add(table.slice(start, 37))
    whole.finish()
    pieces.finish()
    for key, standing in whole.standings.items():
        other = pieces.standings[key]
        assert (other.wins, other.lost, other.healed) == (standing.wins, standing.lost, standing.healed), key
        assert sorted(other.leads().tolist()) == sorted(standing.leads().tolist())


def test_a_block_is_kept_once_and_a_missing_one_is_told(tmp_path: Path) -> None:
    log = ArrivalLog("d", 1)
    for number in range(4):
        log.note([parse(encode(delta(number, number + 1, NOON_NS), "a"))], NOON_NS)
        log.cut(0, is_due=True)
    blocks = log.since(1, 0)
    sink = ArrivalSink(tmp_path)
    sink.write([blocks[0], blocks[0], blocks[3]], NOON_NS)
    sink.flush()
    assert sink.cursors == read_cursors(tmp_path) == {"d": (1, 4)}
    again = ArrivalSink(tmp_path)
    again.write(blocks, NOON_NS)
    again.flush()
    (segment,) = segments_of(tmp_path)
    rows = read_arrivals(segment).to_pylist()
    assert [(row["kind"], row["id_last"]) for row in rows] == [("delta", 1), ("missing", 2), ("delta", 4)]
    assert league(tmp_path).blocks_missing == 2


def test_bad_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such directory"):
        league(tmp_path / "nothing")
    with pytest.raises(ConfigError, match="no log of arrivals"):
        league(tmp_path)
    logged(tmp_path, two_lines(4))
    with pytest.raises(ConfigError, match="no such line; there are a, b"):
        league(tmp_path, "c")
    (segment,) = segments_of(tmp_path)
    segment.write_bytes(segment.read_bytes()[:-30])
    with pytest.raises(StorageError, match=segment.name):
        league(tmp_path)
    with pytest.raises(StorageError, match="block of arrivals is damaged"):
        ArrivalSink(tmp_path / "other").write([b"\x00nothing"], NOON_NS)
