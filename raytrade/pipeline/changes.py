"""What a changed configuration changes in a running pipeline. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from raytrade.config import Config, RecorderConfig, StrategyConfig
from raytrade.errors import ConfigError
from raytrade.pipeline.planning import dedup_bases, keeps_arrivals, recorder_base, strategy_bases
from raytrade.pipeline.shares import shares_of

FIXED = (("dedup", "regional"), ("collectors", "service_timeout_s"), ("collectors", "egress"), ("links", ""))
"""What actors are started with and cannot change."""


def merged(given: Config, current: Config, new: Config) -> Config:
    """Give `new` with the strategies that were attached since `given` was.

    Raises:
        ConfigError: something is changed that cannot be while the pipeline runs, or a strategy's name is taken by an
            attached one. Names it.
    """
    for section, key in FIXED:
        old_part, new_part = getattr(current, section), getattr(new, section)
        if key:
            old_part, new_part = getattr(old_part, key), getattr(new_part, key)
        if old_part != new_part:
            path = f"{section}.{key}" if key else section
            raise ConfigError("", path, "cannot be changed while the pipeline runs: stop it first")
    if current.dedup.regional is not None and current.dedup.shards != new.dedup.shards:
        raise ConfigError("", "dedup.shards", "cannot be changed while dedups in regions run: stop it first")
    known = {part.name for part in given.strategies}
    attached = [part for part in current.strategies if part.name not in known]
    for part in attached:
        twin = next((one for one in new.strategies if one.name == part.name), None)
        if twin is not None and twin != part:
            raise ConfigError(
                "", f"strategies.{part.name}", "another strategy of that name is attached: detach it first"
            )
    names = {part.name for part in new.strategies}
    return new.model_copy(update={"strategies": [*new.strategies, *(a for a in attached if a.name not in names)]})


def replaced(old: Config, new: Config) -> list[str]:
    """Give the shares and actors that are there before and after, but not the same: each needs a new generation."""
    before = {share.name: share.endpoint for share in shares_of(old)}
    names = [share.name for share in shares_of(new) if before.get(share.name, share.endpoint) != share.endpoint]
    if keeps_arrivals(old) is not keeps_arrivals(new) or old.dedup.shards != new.dedup.shards:
        names += dedup_bases(new)
    names += [base for name in _changed(old.strategies, new.strategies) for base in strategy_bases(new, name)]
    names += [recorder_base(new, name) for name in _changed(old.recorders, new.recorders)]
    return names


def _changed(
    old: Sequence[StrategyConfig] | Sequence[RecorderConfig], new: Sequence[StrategyConfig] | Sequence[RecorderConfig]
) -> list[str]:
    before = {part.name: _run(part) for part in old}
    return [part.name for part in new if before.get(part.name, _run(part)) != _run(part)]


def _run(part: StrategyConfig | RecorderConfig) -> dict[str, Any]:
    """Give what an actor runs, without where: labels only move it."""
    return part.model_dump(exclude={"labels"})


def describe(old: Config, new: Config) -> list[str]:
    """Say what is different, a line for each thing."""
    lines = []
    for venue in sorted(old.venues.keys() | new.venues.keys()):
        before, after = old.venues.get(venue), new.venues.get(venue)
        if before is None or after is None:
            lines.append(f"{venue}: {'added' if before is None else 'removed'}")
            continue
        added = [symbol for symbol in after.symbols if symbol not in before.symbols]
        removed = [symbol for symbol in before.symbols if symbol not in after.symbols]
        lines += [f"{venue}: + {symbol}" for symbol in added] + [f"{venue}: - {symbol}" for symbol in removed]
        fields = [
            key for key in type(after).model_fields if key != "symbols" and getattr(before, key) != getattr(after, key)
        ]
        lines += [f"{venue}.{key}: {getattr(before, key)} -> {getattr(after, key)}" for key in fields]
    lines += _parts("strategy", {p.name: p for p in old.strategies}, {p.name: p for p in new.strategies})
    lines += _parts("recorder", {p.name: p for p in old.recorders}, {p.name: p for p in new.recorders})
    for section in ("collectors", "dedup", "failure_domain", "alerts"):
        if getattr(old, section) != getattr(new, section):
            lines.append(f"{section}: {getattr(old, section)} -> {getattr(new, section)}")
    return lines


def _parts(kind: str, old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    lines = [f"{kind} {name}: added" for name in new if name not in old]
    lines += [f"{kind} {name}: removed" for name in old if name not in new]
    return lines + [f"{kind} {name}: replaced" for name in new if name in old and old[name] != new[name]]
