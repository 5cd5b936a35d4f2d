"""The page stands on its own, says everything, and is the same every time."""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest

from raytrade.backtest.report import Report, check_extra, html_of, write_whole
from raytrade.backtest.run import interval_of, run
from raytrade.backtest.sweep import WalkForward, folds, grid, latencies, run_inline
from raytrade.errors import ConfigError
from raytrade.storage.recording import open_recording
from tests.unit.backtest.markets import recorded_market
from tests.unit.backtest.test_run import settings
from tests.unit.storage.recordings import BTC


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    data = recorded_market(tmp_path_factory.mktemp("recording"), 200)
    wanted = msgspec.structs.replace(settings(data), curve_points=50)
    jobs = grid(wanted, {"every": [5, 20]})
    walk = WalkForward(jobs, folds(interval_of(wanted, open_recording(data)), 2))
    walk.choose(dict(run_inline(walk.training())))
    walk.conclude(dict(run_inline(walk.testing())))
    tried = [result for _, result in run_inline(latencies(wanted, [0, 50_000_000]))]
    runs = [result for _, result in run_inline(jobs)]
    return Report(result=run(wanted), latencies=tried, runs=runs, folds=walk.folds)


class Page(HTMLParser):
    """Counts elements, and collects what they refer to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.references: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.references += [value or "" for name, value in attrs if name in ("href", "src", "xlink:href")]


def test_the_page_needs_nothing_else(report: Report) -> None:
    text = html_of(report)
    page = Page(text)
    assert page.tags.count("svg") == 5 and "script" not in page.tags and "link" not in page.tags
    assert page.references and all(reference.startswith("#") for reference in page.references)
    assert not re.search(r"url\((?!#)|@import", text)
    assert len(text) < 300_000


def test_the_page_says_what_was_run_and_assumed(report: Report) -> None:
    text = html_of(report)
    for wanted in (report.result.hash, BTC, "every=20", "50 ms", "There is no market impact", "Walk-forward", "queue"):
        assert wanted in text
    assert text == html_of(report)


def test_what_a_strategy_says_is_not_taken_for_html(report: Report) -> None:
    bad = msgspec.structs.replace(report.result, stopped="<script>alert(1)</script>")
    assert "<script" not in html_of(Report(result=bad))


def test_nothing_traded(tmp_path: Path) -> None:
    result = run(settings(recorded_market(tmp_path, 30), parameters={"every": 1000}))
    assert "Nothing was traded." in html_of(Report(result=result))


def test_without_matplotlib_it_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigError, match=r"pip install 'raytrade\[report\]'"):
        check_extra()


def test_a_file_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    write_whole(tmp_path / "a.html", "page")
    assert [path.name for path in tmp_path.iterdir()] == ["a.html"]
    with pytest.raises(OSError, match="directory"):
        write_whole(tmp_path, "page")
    assert [path.name for path in tmp_path.iterdir()] == ["a.html"]
