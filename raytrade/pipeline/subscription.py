"""`Subscription` and `View`: the merged stream of a running pipeline, or its newest state, in a driver."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import RayError

from raytrade.actors.options import facade_of
from raytrade.actors.subscriber import Subscriber, SubscriberPlan
from raytrade.actors.viewer import Viewer, ViewerPlan
from raytrade.config import Config
from raytrade.core.events import Channel
from raytrade.core.instrument import Filter, instrument_name
from raytrade.core.message import Message, split
from raytrade.errors import ConfigError
from raytrade.pipeline.driver import CALL_TIMEOUT_S, supervisor
from raytrade.pipeline.problems import error_of

PlanOf = Callable[[str, list[str], Config], SubscriberPlan | ViewerPlan]

TAKE_BYTES = 1024 * 1024
POLL_S = 0.02
FOLLOW_S = 1.0


class _Consumer:
    """An actor of this driver's own that follows the dedups; it ends with `close` or with the driver."""

    def __init__(self, pipeline: str, globs: tuple[str, ...], hosted: type, plan_of: PlanOf) -> None:
        handle = supervisor(pipeline)
        config = Config.model_validate_json(self._ask(handle.configuration.remote()))
        dedups = self._ask(handle.followed.remote())
        check_globs(config, globs)
        self.pipeline = config.name
        name = f"{config.name}-{hosted.__name__.lower()}-{secrets.token_hex(4)}"
        wanted = plan_of(name, dedups, config)
        options: dict[str, Any] = {"num_cpus": 0, "max_restarts": 0, "enable_task_events": False}
        self._actor: Any = ray.remote(facade_of(hosted)).options(**options).remote(wanted)
        self.status()
        self._ended = threading.Event()
        threading.Thread(target=self._follow, args=(handle, dedups), name="follow", daemon=True).start()

    def _follow(self, handle: Any, dedups: list[str]) -> None:
        """Dedups that are moved get new names: have the actor follow those."""
        while not self._ended.wait(FOLLOW_S):
            with suppress(RayError):
                found = ray.get(handle.followed.remote(), timeout=CALL_TIMEOUT_S)
                if found and found != dedups:
                    dedups = found
                    self._actor.set_dedups.remote(dedups)

    def _ask(self, reference: Any) -> Any:
        try:
            return ray.get(reference, timeout=CALL_TIMEOUT_S)
        except RayError as error:
            raise error_of("consumer", error) from None

    def status(self) -> dict[str, Any]:
        """Give the state of its links."""
        return dict(self._ask(self._actor.status.remote()))

    def end(self) -> None:
        """Have whoever reads come to an end; may be called by a signal's handler."""
        self._ended.set()

    def close(self) -> None:
        """End the actor."""
        self.end()
        with suppress(RayError):
            ray.kill(self._actor)


class Subscription(_Consumer):
    """Every event of the streams that the globs take, from an image on.

    Raises:
        ConfigError: no stream of the pipeline fits a glob.
        PipelineError: there is no such pipeline.
    """

    def __init__(self, pipeline: str, globs: tuple[str, ...] = ("*",)) -> None:
        def plan_of(name: str, dedups: list[str], config: Config) -> SubscriberPlan:
            return SubscriberPlan(name=name, dedups=dedups, filters=globs, same_node=config.links.same_node)

        super().__init__(pipeline, globs, Subscriber, plan_of)

    def messages(self) -> Iterator[Message]:
        """Give message after message until `close`."""
        while not self._ended.is_set():
            data = self._ask(self._actor.take.remote(TAKE_BYTES))
            yield from split(data)
            if not data:
                self._ended.wait(POLL_S)


class View(_Consumer):
    """The newest books and trades of the instruments that are looked at, for a screen.

    Raises:
        PipelineError: there is no such pipeline.
    """

    def __init__(self, pipeline: str) -> None:
        def plan_of(name: str, dedups: list[str], config: Config) -> ViewerPlan:
            return ViewerPlan(name=name, dedups=dedups, same_node=config.links.same_node)

        super().__init__(pipeline, (), Viewer, plan_of)

    def ladder(self, instrument: str, depth: int) -> dict[str, Any]:
        """Give the best levels of an instrument and its last trades."""
        return dict(self._ask(self._actor.ladder.remote(instrument, depth)))


def check_globs(config: Config, globs: tuple[str, ...]) -> None:
    """Refuse globs that no stream of the pipeline fits.

    Raises:
        ConfigError: names the glob and what there is.
    """
    names = [instrument_name(venue, symbol) for venue, part in config.venues.items() for symbol in part.symbols]
    for glob in globs:
        wanted = Filter(glob)
        if not any(wanted.accepts(name, channel) for name in names for channel in Channel):
            raise ConfigError("", repr(glob), f"no stream of pipeline {config.name} fits; it has {', '.join(names)}")
