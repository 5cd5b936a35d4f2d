"""The figures for people and for programs, with the machine they were made on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from benchmarks.micro.rounds import Result

PACKAGES = ("raytrade", "msgspec", "pydantic", "orjson", "sortedcontainers", "order-book", "pyarrow")


class Report(msgspec.Struct):
    """All results of one run."""

    date: str
    environment: dict[str, str]
    results: list[Result]


def environment() -> dict[str, str]:
    """Say what the figures were made on."""
    packages = [f"{package} {found}" for package in PACKAGES if (found := _version(package))]
    return {
        "CPU": _cpu_model(),
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.machine()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": ", ".join(packages),
        "load of the machine when it began": f"{os.getloadavg()[0]:.1f}",
    }


def _version(package: str) -> str:
    if package == "raytrade":
        import raytrade

        return raytrade.__version__
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _cpu_model() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or "unknown"


def table(result: Result) -> str:
    """Write one benchmark as a Markdown table."""
    lines = [
        f"### {result.title}",
        "",
        f"Per {result.unit}; medians of {result.rounds} interleaved rounds over {result.units:,}.",
        f"Input: {result.source}.",
        "",
        "| | µs | times ours | |",
        "|---|--:|--:|---|",
    ]
    lines += [f"| {row.name} | {row.us:.2f} | {row.ratio:.2f} | {row.note} |" for row in result.rows]
    if result.missing:
        lines += ["", f"Not installed: {', '.join(result.missing)}."]
    return "\n".join(lines)


def document(report: Report) -> str:
    """Write RESULTS.md."""
    head = [
        "# Micro benchmarks",
        "",
        "Made by `python -m benchmarks --write`: single steps of an update's way, on one core. Each contender works on",
        'the same input in each round, in a turning order; "times ours" is the median of the rounds\' ratios, which',
        "holds where absolute figures drift. Time is processor time.",
        "The whole pipeline is measured by `python -m benchmarks.pipeline`.",
        "",
        f"Made on {report.date}:",
        "",
        *(f"- {name}: {value}" for name, value in report.environment.items()),
        "",
    ]
    return "\n".join(head) + "\n" + "\n\n".join(table(result) for result in report.results) + "\n"
