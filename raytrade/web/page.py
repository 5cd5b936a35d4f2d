"""The page: NiceGUI's elements over a `Feed`. A browser's elements are brought up to date twice a second."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
from nicegui import Client, app, background_tasks, ui

from raytrade.core.clock import SECOND
from raytrade.observation.overview import LineRow, Overview, RecorderRow, StreamRow
from raytrade.web.charts import ladder_chart, latencies, timeline, topology
from raytrade.web.controls import Controls, HitPanel
from raytrade.web.feed import Feed
from raytrade.web.guard import FRAME_BYTES_MAX, Guard, GuardCounts
from raytrade.web.hasty import hasty

PUSH_S = 0.5
LISTENING_POLL_S = 0.02
EVENTS_SHOWN = 30
HITS = "Faults"
TABS = ("Pipeline", "Book", "Lines", "Latency", "Gaps", "Strategies", "Events")
LEAGUE = ("line", "up", "frames/s", "first %", "lead ms", "holes", "healed", "reconnects", "reason")
STREAMS = ("instrument", "channel", "updates/s", "lines", "quality", "gaps", "resyncs")
RECORDERS = ("recorder", "kB/s", "pending MB", "free GB", "problem")
STRATEGIES = ("strategy", "instrument", "position", "realised", "unrealised", "fees", "fills", "state")


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """Where the page is served, to whom, and with what buttons: none but in a demo."""

    host: str
    port: int
    token: str = ""
    controls: Controls | None = None
    counts: GuardCounts = msgspec.field(default_factory=GuardCounts)


def serve(feed: Feed, site: Site, ready: Callable[[], None]) -> None:
    """Serve the page until Ctrl-C."""
    counts = site.counts

    @ui.page("/", title="raytrade")
    def page() -> None:
        Page(feed, counts, site.controls)

    app.add_middleware(Guard, token=site.token, counts=counts, pages=lambda: len(Client.instances))
    logging.getLogger("nicegui").setLevel(logging.ERROR)
    app.config.socket_io_js_transports = ["websocket"]
    app.on_startup(lambda: _tell_when_listening(site, ready))
    app.on_shutdown(feed.stop)
    ui.run(
        host=site.host,
        port=site.port,
        reload=False,
        show=False,
        show_welcome_message=False,
        title="raytrade",
        tailwind=False,
        uvicorn_logging_level="error",
        http=hasty(counts),
        ws_max_size=FRAME_BYTES_MAX,
        timeout_keep_alive=10,
    )


async def _tell_when_listening(site: Site, ready: Callable[[], None]) -> None:
    """The application starts before its server listens."""
    host = site.host.replace("0.0.0.0", "127.0.0.1")

    async def look() -> None:
        while True:
            try:
                _, writer = await asyncio.open_connection(host, site.port)
            except OSError:
                await asyncio.sleep(LISTENING_POLL_S)
                continue
            writer.close()
            ready()
            return

    background_tasks.create(look(), name="tell when listening")


class Page:
    """One browser's elements; those that hit the pipeline are there only if there are controls."""

    def __init__(self, feed: Feed, counts: GuardCounts, controls: Controls | None) -> None:
        self._feed = feed
        self._counts = counts
        self._controls = controls
        self._shown = (-1, "")
        self._instrument = ""
        self._head = ui.label("connecting").classes("head").props('id="head"')
        self._problem = ui.label("").style("color: #d64545; white-space: pre")
        self._tab = TABS[0]
        with ui.tabs(on_change=self._turn) as tabs:
            panes = [ui.tab(name) for name in (*TABS, *([HITS] if controls is not None else []))]
        with ui.tab_panels(tabs, value=panes[0], animated=False).style("width: 100%"):
            with ui.tab_panel(panes[0]):
                self._topology = _chart(420)
                self._streams = _table(STREAMS)
                self._recorders = _table(RECORDERS)
            with ui.tab_panel(panes[1]):
                self._select = ui.select([], label="instrument", on_change=self._choose).style("min-width: 22em")
                with ui.row().style("width: 100%"):
                    self._ladder = _chart(460, "38%")
                    self._depth = _chart(460, "58%")
            with ui.tab_panel(panes[2]):
                self._league = _table(LEAGUE)
            with ui.tab_panel(panes[3]):
                self._latency = _chart(480)
            with ui.tab_panel(panes[4]):
                self._timeline = _chart(480)
            with ui.tab_panel(panes[5]):
                self._strategies = _table(STRATEGIES)
                self._fills = ui.label("").style("white-space: pre; font-family: monospace")
            with ui.tab_panel(panes[6]):
                self._refused = ui.label("").props('id="refused"')
                self._events = ui.label("").style("white-space: pre; font-family: monospace")
            if controls is not None:
                with ui.tab_panel(panes[7]):
                    self._hits = HitPanel(controls)
        self._timer = ui.timer(PUSH_S, self._push)

    def _turn(self, event: Any) -> None:
        self._tab = event.value

    def _choose(self, event: Any) -> None:
        self._instrument = event.value or ""

    def _push(self) -> None:
        """Show what the feed saw last in the tab that is open, if it is new."""
        feed, overview = self._feed, self._feed.overview
        self._problem.text = feed.problem or "\n".join([*overview.lost, *overview.alerts] if overview else [])
        if overview is None or (feed.number, self._tab) == self._shown:
            return
        self._shown = feed.number, self._tab
        rate = sum(row.rate for row in overview.streams)
        self._head.text = f"pipeline {overview.pipeline}: {rate:.0f} updates/s, {len(feed.status['actors'])} actors"
        self._push_tab(self._tab, overview, feed.status["actors"])

    def _push_tab(self, tab: str, overview: Overview, actors: dict[str, Any]) -> None:
        match tab:
            case "Pipeline":
                _draw(self._topology, topology(actors, overview))
                _fill(self._streams, STREAMS, [_stream_cells(row) for row in overview.streams])
                _fill(self._recorders, RECORDERS, [_recorder_cells(row) for row in overview.recorders])
            case "Book":
                self._push_book()
            case "Lines":
                _fill(self._league, LEAGUE, [_line_cells(row) for row in overview.lines])
            case "Latency":
                _draw(self._latency, latencies(actors))
            case "Gaps":
                _draw(self._timeline, timeline(list(self._feed.incidents)))
            case "Strategies":
                _fill(self._strategies, STRATEGIES, list(_strategy_rows(actors)))
                self._fills.text = "\n".join(_fill_texts(actors))
            case "Faults" if self._controls is not None:
                self._hits.show()
            case "Events":
                self._refused.text = self._counts.text()
                newest = list(self._feed.incidents)[-EVENTS_SHOWN:]
                self._events.text = "\n".join(_event_text(record) for record in reversed(newest))

    def _push_book(self) -> None:
        instruments = self._feed.instruments()
        if instruments and self._select.options != instruments:
            self._select.set_options(instruments, value=self._instrument or instruments[0])
        seen = self._feed.ladder(self._instrument) if self._instrument else None
        if seen is not None:
            _draw(self._ladder, ladder_chart(seen[0]))
            _draw(self._depth, seen[1].chart())


def _chart(height: int, width: str = "100%") -> ui.echart:
    return ui.echart({"series": []}).style(f"height: {height}px; width: {width}")


def _draw(chart: ui.echart, options: dict[str, Any]) -> None:
    chart.options.clear()
    chart.options.update(options)
    chart.update()


def _table(columns: tuple[str, ...]) -> ui.table:
    shown = [{"name": name, "label": name, "field": name, "align": "left", "sortable": True} for name in columns]
    return ui.table(columns=shown, rows=[], row_key=columns[0]).props("dense flat").style("width: 100%")


def _fill(table: ui.table, columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    table.rows = [dict(zip(columns, row, strict=True)) for row in rows]


def _stream_cells(row: StreamRow) -> tuple[Any, ...]:
    quality = "" if row.quality is None else f"{row.quality:.2f}"
    lines = f"{row.lines_up}/{row.lines}"
    return row.instrument, row.channel, f"{row.rate:.1f}", lines, quality, row.gaps, row.resyncs


def _line_cells(row: LineRow) -> tuple[Any, ...]:
    figures = (f"{row.rate:.1f}", f"{100 * row.share:.0f}", f"{row.lead_ms:.2f}")
    return row.line, "up" if row.is_up else "down", *figures, row.gaps, row.healed, row.reconnects, row.reason


def _recorder_cells(row: RecorderRow) -> tuple[Any, ...]:
    figures = (f"{row.bytes_rate / 1e3:.1f}", f"{row.pending_bytes / 1e6:.1f}", f"{row.free_bytes / 1e9:.0f}")
    return row.recorder, *figures, row.problem


def _strategy_rows(actors: dict[str, Any]) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    for name, actor in actors.items():
        if actor.get("role") != "strategy":
            continue
        engine = actor["engine"]
        state = engine["failure"] or ("running" if engine["running"] else "ended")
        accounts: dict[str, dict[str, Any]] = actor["accounts"] or {"": {}}
        for instrument, account in accounts.items():
            figures = [account.get(key, "") for key in ("position", "realised", "unrealised", "fees")]
            rows.append((name, instrument, *figures, engine["fills"], state))
    return rows


def _fill_texts(actors: dict[str, Any]) -> list[str]:
    fills = [fill for actor in actors.values() for fill in actor.get("fills", [])]
    newest = sorted(fills, key=lambda fill: -fill["ts_fill_ns"])[:EVENTS_SHOWN]
    sides = {1: "buy", 2: "sell"}
    return [
        f"{_time(fill['ts_fill_ns'])} {sides.get(fill['side'], ''):4} "
        f"{fill['quantity']} {fill['instrument']} at {fill['price']}"
        for fill in newest
    ]


def _event_text(record: dict[str, Any]) -> str:
    fields = " ".join(f"{key}={value}" for key, value in record["fields"].items())
    return f"{_time(record['ts_ns'])} {record['incident']:20} {record['actor']} {fields}"


def _time(ts_ns: int) -> str:
    return datetime.fromtimestamp(ts_ns / SECOND, UTC).strftime("%H:%M:%S.%f")[:-3]
