"""`TopApp`: the live screen. It looks once a second, and twice a second at an opened instrument.

Looking happens in a thread: a cluster that does not answer freezes the figures, never the keys.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, ClassVar

from rich.table import Table
from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import DataTable, Footer, Header, Input, Static, TabbedContent, TabPane

from raytrade.core.clock import SECOND, Clock
from raytrade.errors import RaytradeError
from raytrade.observation.overview import Overview, Overviews, StreamRow
from raytrade.terminal.ladder import ladder_table, trade_table
from raytrade.terminal.source import Source

LOOK_S, LADDER_S = 1.0, 0.5
LADDER_DEPTH = 12
INCIDENTS_SHOWN = 200

StreamKey = Callable[[StreamRow], Any]
SORTS: tuple[tuple[str, StreamKey, bool], ...] = (
    ("name", lambda row: (row.instrument, row.channel), False),
    ("rate", lambda row: row.rate, True),
    ("gaps", lambda row: row.gaps, True),
    ("quality", lambda row: 2.0 if row.quality is None else row.quality, False),
    ("lines", lambda row: row.lines_up, False),
)
COLUMNS = {
    "streams": ("instrument", "channel", "updates/s", "lines", "quality", "gaps", "resyncs"),
    "lines": ("line", "up", "frames/s", "first %", "lead ms", "holes", "healed", "reconnects", "reason"),
    "links": ("writer", "reader", "lane", "messages/s", "kB/s", "behind", "behind max", "overruns"),
}


class LadderScreen(ModalScreen[None]):
    """One instrument's ladder and trades over the screen."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q", "dismiss", "Back")]

    def __init__(self, source: Source, instrument: str) -> None:
        super().__init__()
        self._source = source
        self._instrument = instrument

    def compose(self) -> ComposeResult:
        """Lay out ladder and trades."""
        with Horizontal(id="ladder"):
            yield Static("opening", id="levels")
            yield Static("", id="trades")
        yield Footer()

    def on_mount(self) -> None:
        """Look at once, and again and again."""
        self._look()
        self.set_interval(LADDER_S, self._look)

    def _look(self) -> None:
        self.run_worker(self._fetch, thread=True, exclusive=True, group="ladder")

    def _fetch(self) -> None:
        try:
            ladder = self._source.ladder(self._instrument, LADDER_DEPTH)
        except RaytradeError as error:
            self.app.call_from_thread(self._say, str(error))
            return
        self.app.call_from_thread(self._show, ladder)

    def _say(self, problem: str) -> None:
        self._put("#levels", Text(problem, style="red"))

    def _show(self, ladder: dict[str, Any]) -> None:
        self._put("#levels", ladder_table(ladder))
        self._put("#trades", trade_table(ladder, 2 * LADDER_DEPTH))

    def _put(self, place: str, content: Table | Text) -> None:
        for shown in self.query(place).results(Static):
            shown.update(content)


class TopApp(App[None]):
    """The screen over one pipeline."""

    TITLE = "raytrade top"
    CSS = """
    TabbedContent, ContentSwitcher, TabPane, DataTable { height: 1fr; }
    #side { height: 11; border-top: solid $primary; }
    #hops { width: 1fr; } #recorders { width: 1fr; }
    #filter { display: none; }
    #problem { height: auto; color: $error; }
    LadderScreen { align: center middle; }
    #ladder { width: 100; height: 34; border: thick $primary; background: $surface; padding: 1 2; }
    #levels { width: 2fr; } #trades { width: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "sort", "Sort"),
        Binding("r", "reverse", "Reverse"),
        Binding("slash", "filter", "Filter"),
        Binding("q", "quit", "Quit"),
    ]

    def __init__(self, source: Source, clock: Clock) -> None:
        super().__init__()
        self._source = source
        self._clock = clock
        self._overviews = Overviews()
        self._overview: Overview | None = None
        self._incidents: deque[str] = deque(maxlen=INCIDENTS_SHOWN)
        self._since = 0
        self._sort = 0
        self._is_reversed = False
        self._wanted = ""

    def compose(self) -> ComposeResult:
        """Lay out tables, side panels and keys."""
        yield Header(show_clock=True)
        yield Static("", id="problem")
        yield Input(placeholder="part of an instrument's or a line's name", id="filter")
        with TabbedContent(initial="tab-streams"):
            for name in COLUMNS:
                with TabPane(name.capitalize(), id=f"tab-{name}"):
                    yield DataTable(id=name, cursor_type="row", zebra_stripes=True)
            with TabPane("Events", id="tab-events"), VerticalScroll():
                yield Static("", id="events")
        with Horizontal(id="side"):
            yield Static("", id="hops")
            yield Static("", id="recorders")
        yield Footer()

    def on_mount(self) -> None:
        """Look at once, and again and again."""
        for name, columns in COLUMNS.items():
            self._table(name).add_columns(*columns)
        self._table("streams").focus()
        self._look()
        self.set_interval(LOOK_S, self._look)

    def on_unmount(self) -> None:
        """Let go of the source."""
        self._source.close()

    def _table(self, name: str) -> DataTable[str | Text]:
        return self.query_one(f"#{name}", DataTable)

    # Looking.

    def _look(self) -> None:
        self.run_worker(self._fetch, thread=True, exclusive=True, group="look")

    def _fetch(self) -> None:
        try:
            status, incidents = self._source.status(), self._source.incidents(self._since)
        except RaytradeError as error:
            self.call_from_thread(self._say, str(error))
            return
        self.call_from_thread(self._take, status, incidents)

    def _say(self, problem: str) -> None:
        for shown in self.query("#problem").results(Static):
            shown.update(problem)

    def _take(self, status: dict[str, Any], incidents: list[dict[str, Any]]) -> None:
        self._overview = self._overviews.receive(status, self._clock.now_ns())
        for record in incidents:
            if record["number"] >= self._since:
                self._since = record["number"] + 1
                self._incidents.append(_incident_text(record))
        self._show()

    # Showing.

    def _show(self) -> None:
        overview = self._overview
        if overview is None or not self.query("#problem"):
            return  # nothing to show, or the screen is being taken down
        self.sub_title = f"{overview.pipeline}, sorted by {SORTS[self._sort][0]}, Enter opens a ladder"
        self._say("\n".join([*overview.lost, *overview.alerts]))
        streams = sorted(overview.streams, key=SORTS[self._sort][1], reverse=SORTS[self._sort][2] ^ self._is_reversed)
        self._fill("streams", [(f"{row.instrument}/{row.channel}", _stream_cells(row)) for row in streams])
        self._fill("lines", [(row.line, _line_cells(row)) for row in overview.lines])
        self._fill("links", [(f"{row.writer} {row.reader}", _link_cells(row)) for row in overview.links])
        self.query_one("#events", Static).update(Text("\n".join(reversed(self._incidents))))
        hops = [f"{row.hop:28}{row.p50_ms:8.2f}{row.p99_ms:8.2f}" for row in overview.hops]
        self.query_one("#hops", Static).update(Text("\n".join([f"{'latency, ms':28}{'p50':>8}{'p99':>8}", *hops])))
        self.query_one("#recorders", Static).update(Text("\n".join(_recorder_lines(overview))))

    def _fill(self, name: str, rows: Iterable[tuple[str, list[str | Text]]]) -> None:
        """Put the rows in; the cursor stays where it is."""
        table = self._table(name)
        at = table.cursor_coordinate
        table.clear()
        for key, cells in rows:
            if self._wanted in key.lower():
                table.add_row(*cells, key=key)
        if table.row_count:
            table.cursor_coordinate = at

    # Keys.

    def action_sort(self) -> None:
        """Sort the streams by the next column."""
        self._sort = (self._sort + 1) % len(SORTS)
        self._show()

    def action_reverse(self) -> None:
        """Turn the order round."""
        self._is_reversed = not self._is_reversed
        self._show()

    def action_filter(self) -> None:
        """Ask for a part of a name."""
        field = self.query_one("#filter", Input)
        field.display = True
        field.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter while it is typed."""
        self._wanted = event.value.strip().lower()
        self._show()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Back to the table; without text the field goes."""
        event.input.display = bool(event.value)
        self._table("streams").focus()

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        """Open the instrument's ladder."""
        if event.data_table.id == "streams" and event.row_key.value is not None:
            instrument = event.row_key.value.rpartition("/")[0]
            self.push_screen(LadderScreen(self._source, instrument))


def _incident_text(record: dict[str, Any]) -> str:
    at = datetime.fromtimestamp(record["ts_ns"] / SECOND, UTC).strftime("%H:%M:%S")
    fields = " ".join(f"{key}={value}" for key, value in record["fields"].items())
    return f"{at} {record['incident']:20} {record['actor']} {fields}"


def _stream_cells(row: StreamRow) -> list[str | Text]:
    lines = Text(f"{row.lines_up}/{row.lines}", style="" if row.lines_up == row.lines else "yellow")
    quality = "" if row.quality is None else f"{row.quality:.2f}"
    shown = Text(quality, style="red" if row.quality == 0 else "")
    return [row.instrument, row.channel, f"{row.rate:.1f}", lines, shown, str(row.gaps), str(row.resyncs)]


def _line_cells(row: Any) -> list[str | Text]:
    up = Text("up", style="green") if row.is_up else Text("down", style="red")
    figures = [f"{row.rate:.1f}", f"{100 * row.share:.0f}", f"{row.lead_ms:.2f}"]
    return [row.line, up, *figures, str(row.gaps), str(row.healed), str(row.reconnects), row.reason]


def _link_cells(row: Any) -> list[str | Text]:
    overruns = Text(str(row.overruns), style="red" if row.overruns else "")
    return [
        row.writer,
        row.reader,
        row.lane,
        f"{row.rate:.1f}",
        f"{row.bytes_rate / 1e3:.1f}",
        str(row.behind),
        str(row.behind_max),
        overruns,
    ]


def _recorder_lines(overview: Overview) -> list[str]:
    lines = [f"{'recorder':32}{'kB/s':>9}{'pending MB':>12}{'free GB':>9}"]
    for row in overview.recorders:
        figures = f"{row.bytes_rate / 1e3:9.1f}{row.pending_bytes / 1e6:12.1f}{row.free_bytes / 1e9:9.1f}"
        lines.append(f"{row.recorder:32}{figures} {row.problem}")
    return lines
