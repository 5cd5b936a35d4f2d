"""The import of small captures, good and bad."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from raytrade.errors import CaptureError, ConfigError
from raytrade.importer import Importer, depth_symbol
from raytrade.storage.captures import Capture
from raytrade.venues import VENUES
from tests.unit.recorded import START_NS, depth, good, header, imported, recv, rest, write

BTC = "binance-spot:BTCUSDT"
BAD_FRAMES: list[str | bytes] = [
    "",
    "not json",
    '{"e":"depthUpdate"',
    "[1, 2",
    "\x00\x01",
    b"\xff\xfe\xfd",
    "[" * 100_000,
    '{"a":' * 50_000,
    '{"e": NaN}',
    "NaN",
    "-Infinity",
]
"""No venue may read these as anything."""


def instrument(importer: Importer, name: str = BTC) -> dict[str, Any]:
    summary: Any = importer.summary()["instruments"]
    return dict(summary[name])


def book(importer: Importer, name: str = BTC) -> dict[str, Any]:
    books: Any = importer.final_books()
    return dict(books[name])


def test_a_good_capture(tmp_path: Path) -> None:
    importer = imported(write(tmp_path / "a.gz", header(), *good()), tmp_path / "out")
    assert (importer.problem, importer.bad_frame, importer.undecodable) == (None, None, 0)
    assert importer.summary() == {
        "venue": "binance-spot",
        "undecodable": 0,
        "lines": {
            "1": {"frames": 5, "updates": 5, "wins": 4, "duplicates": 0, "gaps_seen": 0, "gaps_healed": 0},
        },
        "instruments": {
            BTC: {
                "updates": 4,
                "snapshots": 1,
                "trades": 0,
                "gaps": 0,
                "resyncs": 0,
                "checksums_ok": 0,
                "checksums_failed": 0,
                "first_id": 10,
                "last_id": 50,
                "top": {"bid": ["100", "4"], "ask": ["101", "2"]},
            },
        },
    }
    assert book(importer) == {
        "symbol": "BTCUSDT",
        "state": "live",
        "bids": [("100", "4"), ("99", "1")],
        "asks": [("101", "2"), ("102", "0.5")],
    }


@pytest.mark.parametrize("venue", sorted(VENUES))
def test_bad_frames_are_counted_and_named(tmp_path: Path, venue: str) -> None:
    frames = [recv(at, frame) for at, frame in enumerate(BAD_FRAMES)]
    importer = imported(write(tmp_path / "a.gz", header(venue, ("BTC-USD",)), *frames), tmp_path / "out")
    assert importer.problem is None
    assert importer.undecodable == len(BAD_FRAMES)
    assert importer.bad_frame is not None
    assert importer.bad_frame.line == 2
    assert str(importer.bad_frame).startswith(f"{tmp_path / 'a.gz'}: line 2: undecodable frame: ")
    assert "\n" not in str(importer.bad_frame)
    assert importer.books == {}


@pytest.mark.parametrize("frame", BAD_FRAMES)
def test_a_bad_frame_between_good_ones_costs_only_itself(tmp_path: Path, frame: str | bytes) -> None:
    records = good()
    importer = imported(write(tmp_path / "a.gz", header(), *records[:4], recv(250, frame), *records[4:]))
    assert importer.undecodable == 1
    assert importer.bad_frame is not None
    assert importer.bad_frame.line == 6
    assert (instrument(importer)["updates"], book(importer)["state"]) == (4, "live")


@pytest.mark.parametrize(
    "level",
    [
        ["-1", "1"],
        ["1", "-1"],
        ["NaN", "1"],
        ["1", "Infinity"],
        ["1e400", "1"],
        ["1e5", "1"],
        ["", "1"],
        ["9" * 21, "1"],
        ["1", "0." + "1" * 19],
        ["9" * 100_000, "1"],
        ["１", "1"],
        [" 1", "1"],
        ["1_0", "1"],
        ["0x10", "1"],
        [1, 2],
        ["1"],
        [None, "1"],
    ],
)
def test_absurd_numbers_are_refused_with_their_frame(tmp_path: Path, level: list[Any]) -> None:
    records = good()
    records[3] = recv(200, depth(21, 30, [level], []))
    importer = imported(write(tmp_path / "a.gz", header(), *records))
    assert importer.undecodable == 1
    assert importer.bad_frame is not None
    assert importer.bad_frame.line == 5
    assert (instrument(importer)["gaps"], book(importer)["state"]) == (1, "stale")


@pytest.mark.parametrize("ids", [(-5, 10), (11, 2**63), (11, 10**30), (30, 20)])
def test_absurd_ids_are_refused_with_their_frame(tmp_path: Path, ids: tuple[int, int]) -> None:
    importer = imported(write(tmp_path / "a.gz", header(), *good(), recv(900, depth(*ids, [["100", "9"]], []))))
    assert importer.undecodable == 1
    assert book(importer)["bids"][0] == ("100", "4")


@pytest.mark.parametrize("symbol", ["../../etc/passwd", "/", "BTC/USD", "..", "a:b", "A" * 64, "%00", "币" * 20])
def test_names_with_path_characters(tmp_path: Path, symbol: str) -> None:
    importer = imported(write(tmp_path / "a.gz", header(), *good(symbol)), tmp_path / "out")
    assert book(importer, f"binance-spot:{symbol}")["state"] == "live"
    files = list(tmp_path.rglob("*.parquet"))
    assert len(files) == 1
    assert files[0].is_relative_to(tmp_path / "out")


@pytest.mark.parametrize("symbol", ["", " ", "a b", "a\nb", "\x1b[31m", "A" * 65, "\x00"])
def test_names_that_are_no_symbols(tmp_path: Path, symbol: str) -> None:
    frame = recv(0, depth(1, 2, [["1", "1"]], [], symbol))
    importer = imported(write(tmp_path / "a.gz", header(), frame), tmp_path / "out")
    assert importer.undecodable == 1
    assert "\x1b" not in str(importer.bad_frame)
    assert list(tmp_path.rglob("*.parquet")) == []


def test_unknown_venue(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean binance-spot"):
        Importer(Capture(write(tmp_path / "a.gz", header("binance-spt"))))


def test_a_bad_rest_book_is_named(tmp_path: Path) -> None:
    records = good()
    records[1]["data"] = "<html>try again later</html>"
    importer = imported(write(tmp_path / "a.gz", header(), *records))
    assert (importer.undecodable, book(importer)["state"]) == (1, "stale")
    assert importer.bad_frame is not None
    assert importer.bad_frame.line == 3
    assert "snapshot of BTCUSDT" in str(importer.bad_frame)


def test_damaged_base64_is_a_break(tmp_path: Path) -> None:
    record = {"kind": "recv", "conn": "1", "ts_ns": START_NS + 10**9, "b64": "A*"}
    importer = imported(write(tmp_path / "a.gz", header(), *good()[:3], record, *good()[3:]))
    assert importer.problem is not None
    assert (importer.problem.line, "damaged base64" in importer.problem.problem) == (5, True)
    assert instrument(importer)["updates"] == 1


@pytest.mark.parametrize("kind", ["connect", "rest"])
def test_damaged_urls(tmp_path: Path, kind: str) -> None:
    record = {"kind": kind, "conn": "1", "ts_ns": START_NS, "url": "wss://[bad", "data": "{}"}
    importer = imported(write(tmp_path / "a.gz", header("bybit-v5"), record))
    assert (importer.problem is not None) is (kind == "connect")


def test_the_good_part_of_a_damaged_capture_is_kept(tmp_path: Path) -> None:
    importer = imported(write(tmp_path / "a.gz", header(), *good()[:4], b"{rubbish", *good()[4:]), tmp_path / "out")
    assert isinstance(importer.problem, CaptureError)
    assert importer.problem.line == 6
    assert (instrument(importer)["updates"], book(importer)["state"]) == (2, "live")
    assert len(list(tmp_path.rglob("*.parquet"))) == 1


def test_no_connections_and_no_frames(tmp_path: Path) -> None:
    bare = {"kind": "header", "version": 1, "venue": "binance-spot"}
    importer = imported(write(tmp_path / "a.gz", bare))
    assert importer.summary()["instruments"] == {}
    importer = imported(write(tmp_path / "b.gz", bare, rest(0, 5, [["1", "1"]], [["2", "1"]])))
    assert book(importer)["state"] == "live"


def test_records_without_times(tmp_path: Path) -> None:
    records = [record | {"ts_ns": None} for record in good()]
    importer = imported(write(tmp_path / "a.gz", header(), *records), tmp_path / "out")
    assert book(importer)["state"] == "live"


@pytest.mark.timeout(20)
def test_a_leap_in_time_does_not_take_for_ever(tmp_path: Path) -> None:
    """Timers that repeat must not be run one by one over decades."""
    early = recv(0, depth(1, 10, [["99", "1"]], [])) | {"ts_ns": 0}
    importer = imported(write(tmp_path / "a.gz", header(), early, *good()))
    assert importer.problem is None
    late = recv(0, depth(1, 10, [["99", "1"]], [])) | {"ts_ns": 2**62}
    assert imported(write(tmp_path / "b.gz", header(), *good(), late)).problem is None


def test_two_connections_are_arbitrated(tmp_path: Path) -> None:
    """Each loses another delta; nothing is missing, nothing is there twice."""
    first = [record for at, record in enumerate(good()) if at != 3]
    second = [
        recv(100 * at + 20, depth(10 * at + 1, 10 * at + 10, [["100", str(at)]], [["102", "0.5"]]), "2")
        for at in (0, 1, 2, 4)
    ]
    records = sorted([*first, *second], key=lambda record: int(record["ts_ns"]))
    importer = imported(write(tmp_path / "a.gz", header(conns=("1", "2")), *records), tmp_path / "out")
    counts = instrument(importer)
    assert (counts["updates"], counts["gaps"], counts["last_id"]) == (4, 0, 50)
    lines: Any = importer.summary()["lines"]
    assert (lines["1"]["wins"], lines["2"]["wins"]) == (3, 1)
    assert (lines["1"]["gaps_seen"], lines["1"]["gaps_healed"]) == (1, 1)
    assert book(importer)["state"] == "live"


def test_a_hole_that_no_connection_fills(tmp_path: Path) -> None:
    records = good()
    importer = imported(write(tmp_path / "a.gz", header(), *records[:3], *records[4:]), tmp_path / "out")
    assert (instrument(importer)["gaps"], book(importer)["state"]) == (1, "stale")
    assert len(list((tmp_path / "out" / "gaps").glob("*.parquet"))) == 1
    assert instrument(importer)["top"]["bid"] == ["100", "1"]


def test_a_later_book_heals_the_hole(tmp_path: Path) -> None:
    records = good()
    healed = rest(3000, 50, [["100", "4"]], [["101", "1"]])
    importer = imported(write(tmp_path / "a.gz", header(), *records[:3], *records[4:], healed))
    counts = instrument(importer)
    assert (counts["gaps"], counts["resyncs"], book(importer)["state"]) == (1, 1, "live")


def test_a_book_that_became_empty_is_live(tmp_path: Path) -> None:
    empty = recv(900, depth(51, 60, [["100", "0"], ["99", "0"]], [["101", "0"], ["102", "0"]]))
    importer = imported(write(tmp_path / "a.gz", header(), *good(), empty))
    assert book(importer) == {"symbol": "BTCUSDT", "state": "live", "bids": [], "asks": []}
    assert instrument(importer)["top"] == {"bid": None, "ask": None}


def test_a_lost_frame_of_a_counted_connection_hits_every_symbol(tmp_path: Path) -> None:
    """The frame that is missing may have been of any symbol, also of one that is silent afterwards."""
    symbols = ("BTC-USD", "ETH-USD")
    frames = [coinbase(at, "snapshot", symbol) for at, symbol in enumerate(symbols)]
    frames += [coinbase(3, "update", "ETH-USD"), coinbase(4, "update", "BTC-USD")]
    records = [recv(at, frame) for at, frame in enumerate(frames)]
    importer = imported(write(tmp_path / "a.gz", header("coinbase-advanced", symbols), *records))
    assert {book(importer, f"coinbase-advanced:{symbol}")["state"] for symbol in symbols} == {"stale"}


def coinbase(sequence: int, kind: str, symbol: str) -> dict[str, Any]:
    updates = [
        {"side": side, "event_time": "2026-08-09T21:05:48Z", "price_level": price, "new_quantity": "1"}
        for side, price in (("bid", "1.5"), ("offer", "2"))
    ]
    event = {"type": kind, "product_id": symbol, "updates": updates}
    time = "2026-08-09T21:05:48.483587501Z"
    return {"channel": "l2_data", "timestamp": time, "sequence_num": sequence, "events": [event]}


def test_other_records_are_passed_over(tmp_path: Path) -> None:
    send = {"kind": "send", "conn": "1", "ts_ns": START_NS, "data": "{"}
    other = {"kind": "remark", "ts_ns": START_NS, "text": "hello"}
    importer = imported(write(tmp_path / "a.gz", header(), send, other, *good()))
    assert (importer.undecodable, book(importer)["state"]) == (0, "live")


@pytest.mark.parametrize(
    ("url", "symbol"),
    [
        ("https://x/api/v3/depth?symbol=BTCUSDT&limit=5", "BTCUSDT"),
        ("https://x/fapi/v1/depth/?limit=5&symbol=A", "A"),
        ("https://x/api/v3/exchangeInfo?symbol=A", None),
        ("https://x/api/v3/depth", None),
        ("https://[x/depth?symbol=A", None),
        ("", None),
        (None, None),
    ],
)
def test_which_rest_answers_are_books(url: str | None, symbol: str | None) -> None:
    assert depth_symbol(url) == symbol


def test_the_advance_ends_at_the_size_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gz", header(), *good())
    seen: list[int] = []
    Importer(Capture(path)).run(seen.append)
    assert seen[-1] == path.stat().st_size


def test_the_summary_is_plain_json(tmp_path: Path) -> None:
    importer = imported(write(tmp_path / "a.gz", header(), *good()))
    assert json.loads(json.dumps(importer.summary())) == importer.summary()
