"""``raytrade backtest``."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from raytrade.cli.output import wide_console
from raytrade.cli.parameters import parameters_of, value_of
from raytrade.cli.progress import steps, waiting
from raytrade.core.clock import MILLISECOND, Nanos
from raytrade.errors import ConfigError
from raytrade.strategy.orders import Fees, FillRule, PaperSettings, RiskLimits

if TYPE_CHECKING:
    from raytrade.backtest.results import Result
    from raytrade.backtest.settings import BacktestSettings
    from raytrade.backtest.sweep import Fold, RunJobs, WalkForward

INTERRUPTED = 130
ROWS_SHOWN = 20
LATENCIES = "0,10,50,200"
JsonObject = dict[str, Any]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("backtest")(backtest)


def backtest(  # noqa: PLR0913 - a command has its options
    strategy: Annotated[str, typer.Argument(metavar="FILE.py:Class", help="The strategy, as it trades live.")],
    data: Annotated[Path, typer.Option("--data", metavar="DIR", help="Directory of the recording.")],
    start: Annotated[str | None, typer.Option(metavar="TIME", help="From then on; books open with an image.")] = None,
    end: Annotated[str | None, typer.Option(metavar="TIME", help="Up to before this time.")] = None,
    instruments: Annotated[list[str] | None, typer.Option(metavar="GLOB", help="<venue>:<symbol>; repeatable.")] = None,
    param: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="A parameter of the strategy.")] = None,
    grid: Annotated[list[str] | None, typer.Option(metavar="KEY=A,B,C", help="Every value of it; repeatable.")] = None,
    walk_forward: Annotated[int, typer.Option(metavar="N", help="Choose on one part, try on the next, N times.")] = 0,
    fill: Annotated[FillRule, typer.Option(help="When resting orders fill.")] = FillRule.QUEUE,
    fees: Annotated[list[str] | None, typer.Option(metavar="[VENUE=]MAKER,TAKER", help="In basis points.")] = None,
    order_latency_ms: Annotated[float, typer.Option(help="From a decision until it acts on the market.")] = 0.0,
    feed_latency_ms: Annotated[float, typer.Option(help="From the recording until the strategy sees it.")] = 0.0,
    site: Annotated[
        str, typer.Option("--as", metavar="LINE", help="See the market as this line did, or the first.")
    ] = "",
    max_position: Annotated[
        str | None, typer.Option(metavar="QUANTITY", help="Of one instrument, in the base.")
    ] = None,
    max_order: Annotated[str | None, typer.Option(metavar="QUANTITY", help="Of one order, in the base.")] = None,
    max_loss: Annotated[str | None, typer.Option(metavar="AMOUNT", help="In the quote; then it is stopped.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write all figures here.")] = None,
    report: Annotated[Path | None, typer.Option(metavar="FILE.html", help="Write a page with charts here.")] = None,
    latencies_ms: Annotated[str, typer.Option(metavar="A,B,C", help="Order latencies the report tries.")] = LATENCIES,
    address: Annotated[str, typer.Option(help="Ray cluster for a grid; 'local' starts one here.")] = "",
    inline: Annotated[bool, typer.Option("--inline", help="Run a grid here, one after the other.")] = False,
) -> None:
    """Run a strategy on a recording, with fills on paper: one run, or a grid of parameters on a Ray cluster.

    The strategy file is the one that trades live, in the same engine. The same input gives the same result, named by
    the hash. Fill models: cross (the book must cross the order), queue (the order waits behind the size shown when it
    came; trades move it on), queue-pro-rata (cancellations too). The best of several runs is run again in full.

    Example: raytrade backtest my.py:Mine --data data --param instrument=binance-spot:BTCUSDT --grid levels=1,5,10
    """
    from raytrade.backtest.settings import BacktestSettings
    from raytrade.backtest.sweep import grid as grid_of
    from raytrade.storage.memory import keep_memory

    paper = PaperSettings(
        **_fees(fees or []),
        fill_rule=fill,
        order_latency_ns=round(order_latency_ms * MILLISECOND),
        risk=_risk(max_position, max_order, max_loss),
    )
    start_ns, end_ns = _times(start, end)
    settings = BacktestSettings(
        strategy=strategy,
        data=str(data.absolute()),
        parameters=parameters_of("backtest", param or []),
        instruments=tuple(instruments or ["*"]),
        paper=paper,
        feed_latency_ns=round(feed_latency_ms * MILLISECOND),
        site=site,
        start_ns=start_ns,
        end_ns=end_ns,
    )
    axes = _axes(grid or [])
    if walk_forward and not axes:
        raise ConfigError("backtest", "--walk-forward", "chooses parameters: give at least one --grid")
    latencies = _latencies(latencies_ms) if report is not None else []
    _check_outputs(json_file, report)
    keep_memory()
    session = _Session(settings, grid_of(settings, axes), latencies, walk_forward)
    with _executor(address, inline=inline or len(session.jobs) == 1) as run_jobs:
        session.run(run_jobs)
    session.finish(json_file, report)


def _times(start: str | None, end: str | None) -> tuple[Nanos | None, Nanos | None]:
    from raytrade.storage.times import instant_ns, interval_ns

    interval_ns(start, end)
    return None if start is None else instant_ns(start), None if end is None else instant_ns(end)


def _fees(texts: list[str]) -> JsonObject:
    """Read ``[venue=]maker,taker``."""
    from raytrade.backtest.settings import amount

    by_venue: dict[str, Fees] = {}
    elsewhere = Fees()
    for text in texts:
        venue, _, pair = text.rpartition("=")
        parts = pair.split(",")
        if len(parts) != 2:
            raise ConfigError("backtest", "--fees", f"{text}: write [VENUE=]MAKER,TAKER in basis points")
        maker, taker = (amount(part, "--fees") for part in parts)
        fee = Fees(maker_bps=maker, taker_bps=taker)
        if venue:
            by_venue[venue] = fee
        else:
            elsewhere = fee
    return {"fees": by_venue, "fees_elsewhere": elsewhere}


def _risk(position: str | None, order: str | None, loss: str | None) -> RiskLimits:
    from raytrade.backtest.settings import amount

    return RiskLimits(
        position_max=None if position is None else amount(position, "--max-position"),
        order_max=None if order is None else amount(order, "--max-order"),
        loss_max=None if loss is None else amount(loss, "--max-loss"),
    )


def _axes(texts: list[str]) -> dict[str, list[object]]:
    axes: dict[str, list[object]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        if not (name and equals and values) or name in axes:
            raise ConfigError("backtest", "--grid", f"{text}: write KEY=A,B,C, each key once")
        axes[name] = [value_of(value) for value in values.split(",")]
    return axes


def _latencies(text: str) -> list[Nanos]:
    try:
        return [round(float(part) * MILLISECOND) for part in text.split(",") if part]
    except (ValueError, OverflowError):
        raise ConfigError("backtest", "--latencies-ms", f"{text}: write milliseconds, as in {LATENCIES}") from None


def _check_outputs(*paths: Path | None) -> None:
    """Refuse before anything is run what could not be written afterwards."""
    for path in paths:
        if path is not None and (path.is_dir() or not path.parent.is_dir()):
            problem = "is a directory" if path.is_dir() else f"no such directory: {path.parent}"
            raise ConfigError("backtest", str(path), problem)
    if paths[-1] is not None:
        from raytrade.backtest.report import check_extra

        check_extra()


@contextmanager
def _executor(address: str, *, inline: bool) -> Iterator[RunJobs]:
    """Give what runs the jobs, and end what was started for it."""
    if inline:
        from raytrade.backtest.sweep import run_inline

        yield run_inline
        return
    from raytrade.pipeline import environment

    environment.prepare()
    from raytrade.backtest import cluster

    cluster.connect(address)
    try:
        yield cluster.run_jobs
    finally:
        cluster.disconnect()


class _Session:
    """One call of the command: what is run, what came of it, and what is shown."""

    def __init__(
        self, settings: BacktestSettings, jobs: list[BacktestSettings], latencies: list[Nanos], walk_forward: int
    ) -> None:
        from raytrade.backtest.run import interval_of
        from raytrade.backtest.sweep import WalkForward, folds
        from raytrade.storage.recording import open_recording
        from raytrade.strategy.loading import load_strategy

        self.jobs = jobs
        self.is_interrupted = False
        self._latencies = latencies
        self._recording = open_recording(settings.data)
        interval = interval_of(settings, self._recording)
        for job in jobs:
            load_strategy(job.strategy, job.parameters)
        self._walk: WalkForward | None = WalkForward(jobs, folds(interval, walk_forward)) if walk_forward else None
        self._runs: dict[int, Result] = {}
        self._best: Result | None = None
        self._tried: list[Result] = []

    def run(self, run_jobs: RunJobs) -> None:
        """Run all of it; at Ctrl-C what is there by then is the result."""
        try:
            if self._walk is not None:
                trained = self._collect("training", run_jobs, self._walk.training(), {})
                self._walk.choose(trained)
                self._walk.conclude(self._collect("trying", run_jobs, self._walk.testing(), {}))
            if len(self.jobs) > 1:
                self._collect("runs", run_jobs, self.jobs, self._runs)
        except KeyboardInterrupt:
            self.is_interrupted = True
        self._finish_best(run_jobs)

    def _collect(
        self, title: str, run_jobs: RunJobs, jobs: Sequence[BacktestSettings], results: dict[int, Result]
    ) -> dict[int, Result]:
        """Run jobs under a bar, keeping each result as it comes."""
        with steps(title) as progress:
            progress(0, len(jobs))
            for done, (number, result) in enumerate(run_jobs(jobs)):
                results[number] = result
                progress(done + 1, len(jobs))
        return results

    def _finish_best(self, run_jobs: RunJobs) -> None:
        """Run the best once more, in full, and with other latencies for the report."""
        from raytrade.backtest.run import run
        from raytrade.backtest.sweep import best_of, latencies

        if self.is_interrupted:
            return
        number = best_of(self._runs) if self._runs else 0
        if number is None:
            return
        try:
            with waiting("the best run in full"):
                self._best = run(self.jobs[number], self._recording)
            jobs = latencies(self.jobs[number], self._latencies)
            tried = self._collect("latencies", run_jobs, jobs, {})
            self._tried = [tried[at] for at in sorted(tried)]
        except KeyboardInterrupt:
            self.is_interrupted = True

    # What is shown.

    def finish(self, json_file: Path | None, report: Path | None) -> None:
        """Write and print what there is, and end with the status that it deserves."""
        from raytrade.backtest.report import Report, html_of, write_whole

        folds = self._walk.folds if self._walk is not None else []
        runs = [self._runs[number] for number in sorted(self._runs)]
        if json_file is not None:
            write_whole(json_file, _encode(self._json(runs, folds)))
        if report is not None and self._best is not None:
            page = Report(result=self._best, latencies=self._tried, runs=_ranked(runs), folds=folds)
            write_whole(report, html_of(page))
        self._show(wide_console(), runs, folds)
        if self.is_interrupted:
            print(f"raytrade: interrupted: {len(runs)} of {len(self.jobs)} runs done", file=sys.stderr)
            raise typer.Exit(INTERRUPTED)
        failed = next((run for run in [self._best, *runs] if run is not None and run.has_failed), None)
        if failed is not None:
            print(f"{failed.traceback}raytrade: the strategy failed: {failed.stopped}", file=sys.stderr)
            raise typer.Exit(1)

    def _json(self, runs: list[Result], folds: list[Fold]) -> JsonObject:
        return {
            "interrupted": self.is_interrupted,
            "result": self._best,
            "runs": [_figures(run) for run in runs],
            "latencies": [_figures(run) for run in self._tried],
            "folds": folds,
        }

    def _show(self, console: Console, runs: list[Result], folds: list[Fold]) -> None:
        if folds:
            console.print(_folds_table(folds))
        if runs:
            console.print(_runs_table(_ranked(runs)[:ROWS_SHOWN], f"{len(runs)} runs, best first"))
        if self._best is not None:
            console.print(_figures_table(self._best))
            if self._best.stopped:
                console.print(Text(f"stopped: {self._best.stopped}"))
            print(f"hash {self._best.hash}")


def _ranked(runs: list[Result]) -> list[Result]:
    return sorted(runs, key=lambda run: (run.has_failed, -run.figures.profit))


def _encode(value: object) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=1).decode() + "\n"


def _figures(run: Result) -> JsonObject:
    return {
        "parameters": run.settings.parameters,
        "order_latency_ns": run.settings.paper.order_latency_ns,
        "figures": run.figures,
        "hash": run.hash,
        "stopped": run.stopped,
    }


def _amounts(run: Result) -> list[str]:
    from raytrade.strategy.ledger import canonical

    figures = run.figures
    return [str(canonical(value)) for value in (figures.profit, figures.drawdown_max, figures.fees, figures.turnover)]


def _runs_table(runs: list[Result], title: str) -> Table:
    from raytrade.backtest.report import parameters_text

    table = Table("parameters", title=title)
    for name in ("profit", "drawdown", "fees", "turnover", "fills"):
        table.add_column(name, justify="right")
    for run in runs:
        cells = (parameters_text(run.settings.parameters), *_amounts(run), str(run.figures.fills))
        table.add_row(*(Text(cell) for cell in cells))
    return table


def _figures_table(run: Result) -> Table:
    from raytrade.strategy.ledger import canonical

    table = Table("instrument", title=f"{run.settings.name}: profit {canonical(run.figures.profit)} after fees")
    for name in ("fills", "position", "realised", "unrealised", "fees", "turnover"):
        table.add_column(name, justify="right")
    for name, one in run.instruments.items():
        amounts = (one.position, one.realised, one.unrealised, one.fees, one.turnover)
        table.add_row(Text(name), str(one.fills), *(str(canonical(amount)) for amount in amounts))
    return table


def _folds_table(folds: list[Fold]) -> Table:
    from raytrade.backtest.report import parameters_text
    from raytrade.storage.times import instant_text
    from raytrade.strategy.ledger import canonical

    table = Table("trained from", "tried from", "parameters", "in training", "when tried", title="walk-forward")
    for fold in folds:
        profits = ["-" if run is None else str(canonical(run.figures.profit)) for run in (fold.train, fold.test)]
        starts = instant_text(fold.train_ns[0]), instant_text(fold.test_ns[0])
        table.add_row(*(Text(cell) for cell in (*starts, parameters_text(fold.parameters), *profits)))
    return table
