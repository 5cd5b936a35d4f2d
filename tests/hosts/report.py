"""Figures with their bounds, and what failed."""

from __future__ import annotations

TIMES = ("s", "ms")


class Report:
    """Prints each figure as it comes. `patience`: by how much times may be above their bounds on a busy machine."""

    def __init__(self, patience: float = 1.0) -> None:
        self.patience = patience
        self.failures: list[str] = []
        self.checks = 0

    def figure(self, what: str, value: float, unit: str) -> None:
        """Report a figure that nothing is asked of."""
        print(f"{what:58} {_text(value)} {unit}", flush=True)

    def bounded(self, what: str, value: float, most: float, unit: str) -> None:
        """Report a figure that must not be above its bound."""
        self.checks += 1
        most *= self.patience if unit in TIMES else 1.0
        holds = value <= most
        print(f"{what:58} {_text(value)} {unit} (at most {most:g}){'' if holds else '  FAILED'}", flush=True)
        if not holds:
            self.failures.append(f"{what}: {_text(value)} {unit}, at most {most:g} are allowed")

    def holds(self, what: str, does: bool) -> None:
        """Report something that must be so."""
        self.checks += 1
        print(f"{what:58} {'yes' if does else 'no  FAILED'}", flush=True)
        if not does:
            self.failures.append(f"not so: {what}")

    def fail(self, what: str) -> None:
        """Report a failure."""
        self.checks += 1
        print(f"FAILED: {what}", flush=True)
        self.failures.append(what)


def _text(value: float) -> str:
    return f"{value:.1f}" if isinstance(value, float) else str(value)
