"""The report of a backtest: one HTML file that needs nothing else, with its charts drawn into it.

Charts are matplotlib's (the extra ``report``), as SVG inside the page: no script, no network. The same result gives the
same bytes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from html import escape
from inspect import cleandoc
from io import StringIO
from pathlib import Path
from typing import Any

import msgspec

from raytrade.backtest.results import Curve, Result
from raytrade.backtest.sweep import Fold
from raytrade.core.clock import MILLISECOND, SECOND
from raytrade.core.events import Side
from raytrade.errors import ConfigError
from raytrade.storage.times import instant_text
from raytrade.strategy import fill_models, paper
from raytrade.strategy.ledger import Fill, canonical

CHARTS_MAX = 4
"""Instruments whose book is drawn; all stand in the table."""
FILLS_DRAWN_MAX = 1000
_WIDTH, _HEIGHT = 9.0, 2.4
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1b1f24 }
h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin-top: 2rem }
table { border-collapse: collapse; margin: .5rem 0 } td, th { padding: .15rem .8rem .15rem 0; text-align: right }
td:first-child, th:first-child { text-align: left } th { border-bottom: 1px solid #8c959f; font-weight: 600 }
svg { width: 100%; height: auto } pre { white-space: pre-wrap; font-size: 12px; color: #57606a } .bad { color: #b42318 }
"""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a report shows beside the run itself: the same run with other latencies, the sweep, the folds."""

    result: Result
    latencies: list[Result] = []
    runs: list[Result] = []
    folds: list[Fold] = []


def check_extra() -> None:
    """Say at once that charts cannot be drawn, before anything is run for them.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ConfigError("", "--report", "needs matplotlib: pip install 'raytrade[report]'") from None


def write_whole(path: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)
    except OSError:
        with suppress(OSError):
            part.unlink()
        raise


def html_of(report: Report) -> str:
    """Give the page."""
    result = report.result
    settings = result.settings
    title = f"{settings.name} on {', '.join(result.curve.bids) or 'nothing'}"
    parts = [f"<h1>{escape(title)}</h1>"]
    if result.stopped:
        parts.append(f'<p class="bad">Stopped: {escape(result.stopped)}</p>')
    parts += [_summary(result), _instruments(result), *_charts(result)]
    if report.latencies:
        parts += ["<h2>Latency</h2>", _latency_chart(report.latencies), _runs_table(report.latencies, "latency")]
    if report.folds:
        parts += ["<h2>Walk-forward</h2>", _folds_table(report.folds)]
    if report.runs:
        parts += ["<h2>Runs</h2>", _runs_table(report.runs, "parameters")]
    parts += ["<h2>Assumptions</h2>", f"<pre>{escape(_assumptions())}</pre>"]
    body = "\n".join(parts)
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'


def _assumptions() -> str:
    return "\n\n".join(cleandoc(part.__doc__ or "") for part in (paper, fill_models))


def table(names: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Give a table."""
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "".join(f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _summary(result: Result) -> str:
    figures, settings = result.figures, result.settings
    paper_settings = settings.paper
    rows = [
        ("from", instant_text(figures.first_ns)),
        ("to", instant_text(figures.last_ns)),
        ("profit after fees", canonical(figures.profit)),
        ("largest drawdown", canonical(figures.drawdown_max)),
        ("fees", canonical(figures.fees)),
        ("turnover", canonical(figures.turnover)),
        ("fills (as maker)", f"{figures.fills} ({figures.maker_fills})"),
        ("refusals", figures.rejections),
        ("Sharpe ratio, annualised", "none" if figures.sharpe is None else f"{figures.sharpe:.2f}"),
        ("messages / levels", f"{figures.messages} / {figures.levels}"),
        ("fill model", paper_settings.fill_rule.value),
        ("order / feed latency", f"{_ms(paper_settings.order_latency_ns)} / {_ms(settings.feed_latency_ns)}"),
        ("market as seen by", settings.site or "all lines, merged"),
        ("parameters", parameters_text(settings.parameters)),
        ("output hash", result.hash),
    ]
    return table(("", ""), rows)


def parameters_text(parameters: dict[str, Any]) -> str:
    """Give parameters as they are written on the command line."""
    return " ".join(f"{name}={value}" for name, value in parameters.items()) or "none"


def _ms(nanos: int) -> str:
    return f"{nanos / MILLISECOND:g} ms"


def _instruments(result: Result) -> str:
    names = ("instrument", "fills", "position", "realised", "unrealised", "fees", "turnover")
    rows = [
        (name, one.fills, *map(canonical, (one.position, one.realised, one.unrealised, one.fees, one.turnover)))
        for name, one in result.instruments.items()
    ]
    return table(names, rows) if rows else "<p>Nothing was traded.</p>"


def _runs_table(runs: Sequence[Result], first: str) -> str:
    def label(run: Result) -> str:
        is_latency = first == "latency"
        return _ms(run.settings.paper.order_latency_ns) if is_latency else parameters_text(run.settings.parameters)

    names = (first, "profit", "drawdown", "fees", "turnover", "fills", "as maker", "refusals", "stopped")
    rows = []
    for run in runs:
        one = run.figures
        amounts = map(canonical, (one.profit, one.drawdown_max, one.fees, one.turnover))
        rows.append((label(run), *amounts, one.fills, one.maker_fills, one.rejections, run.stopped[:80]))
    return table(names, rows)


def _folds_table(folds: Sequence[Fold]) -> str:
    names = ("trained from", "tried from", "parameters", "profit in training", "profit when tried")
    rows = []
    for fold in folds:
        profits = ["-" if run is None else canonical(run.figures.profit) for run in (fold.train, fold.test)]
        starts = instant_text(fold.train_ns[0]), instant_text(fold.test_ns[0])
        rows.append((*starts, parameters_text(fold.parameters), *profits))
    return table(names, rows)


# Charts.


def _charts(result: Result) -> list[str]:
    curve = result.curve
    if len(curve.ts_ns) < 2:
        return []
    origin_ns = curve.ts_ns[0]
    seconds = [(at - origin_ns) / SECOND for at in curve.ts_ns]
    below = [-float(amount) for amount in curve.drawdown()]
    parts = [
        "<h2>Profit and drawdown</h2>",
        _line_chart(seconds, {"profit after fees": [float(amount) for amount in curve.profit]}),
        _line_chart(seconds, {"below the highest so far": below}, is_filled=True),
    ]
    for name in _drawn(result):
        parts.append(f"<h2>{escape(name)}</h2>")
        parts.append(_book_chart(seconds, curve, name, [fill for fill in result.fills if fill.instrument == name]))
        positions = [float(amount) for amount in curve.positions[name]]
        parts.append(_line_chart(seconds, {"position": positions}, is_stepped=True))
    return parts


def _drawn(result: Result) -> list[str]:
    """Give the instruments that are drawn: those traded most, else the first."""
    traded = sorted(result.instruments, key=lambda name: (-result.instruments[name].fills, name))
    return [name for name in traded or list(result.curve.bids) if name in result.curve.bids][:CHARTS_MAX]


def _figure() -> tuple[Any, Any]:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "raytrade", "font.size": 8, "path.simplify": True})
    figure = Figure(figsize=(_WIDTH, _HEIGHT), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    return figure, axes


def _svg(figure: Any) -> str:
    text = StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(text, format="svg", metadata=nothing)
    return text.getvalue()[text.getvalue().index("<svg") :]


def _line_chart(
    seconds: list[float], series: dict[str, list[float]], *, is_filled: bool = False, is_stepped: bool = False
) -> str:
    figure, axes = _figure()
    for name, values in series.items():
        axes.plot(seconds, values, lw=1, label=name, drawstyle="steps-post" if is_stepped else "default")
        if is_filled:
            axes.fill_between(seconds, values, alpha=0.2)
    axes.set_xlabel("seconds")
    axes.legend(frameon=False, loc="upper left")
    return _svg(figure)


def _book_chart(seconds: list[float], curve: Curve, name: str, fills: list[Fill]) -> str:
    figure, axes = _figure()
    for label, touch, colour in (("bid", curve.bids[name], "#2da44e"), ("ask", curve.asks[name], "#cf222e")):
        axes.plot(seconds, [float("nan") if price is None else price for price in touch], lw=0.7, c=colour, label=label)
    drawn = fills[:: -(-len(fills) // FILLS_DRAWN_MAX) or 1]
    for side, mark, colour in ((Side.BUY, "^", "#1f6feb"), (Side.SELL, "v", "#9a6700")):
        ours = [fill for fill in drawn if fill.side is side]
        times = [(fill.ts_fill_ns - curve.ts_ns[0]) / SECOND for fill in ours]
        prices = [float(fill.price) for fill in ours]
        axes.plot(times, prices, mark, ms=3.5, c=colour, ls="none", label=f"we {side.name.lower()}")
    axes.set_xlabel("seconds" if len(drawn) == len(fills) else f"seconds ({len(drawn)} of {len(fills)} fills drawn)")
    axes.legend(frameon=False, loc="upper left", ncols=4)
    return _svg(figure)


def _latency_chart(runs: list[Result]) -> str:
    figure, axes = _figure()
    latencies = [run.settings.paper.order_latency_ns / MILLISECOND for run in runs]
    axes.plot(latencies, [float(run.figures.profit) for run in runs], "o-", lw=1, ms=3.5, label="profit after fees")
    axes.set_xlabel("order latency, ms")
    axes.legend(frameon=False, loc="upper right")
    return _svg(figure)
