"""`Subscription`: the merged stream of a running pipeline, in a driver."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import RayError

from raytrade.actors.options import facade_of
from raytrade.actors.subscriber import Subscriber, SubscriberPlan
from raytrade.config import Config
from raytrade.core.events import Channel
from raytrade.core.instrument import Filter, instrument_name
from raytrade.core.message import Message, split
from raytrade.errors import ConfigError
from raytrade.pipeline.driver import CALL_TIMEOUT_S, supervisor
from raytrade.pipeline.planning import dedup_names
from raytrade.pipeline.problems import error_of

TAKE_BYTES = 1024 * 1024
POLL_S = 0.02


class Subscription:
    """Opens at construction, closes with `close` or with the driver.

    Raises:
        ConfigError: no stream of the pipeline fits the globs.
        PipelineError: there is no such pipeline.
    """

    def __init__(self, pipeline: str, globs: tuple[str, ...] = ("*",)) -> None:
        config = Config.model_validate_json(self._ask(supervisor(pipeline).configuration.remote()))
        check_globs(config, globs)
        name = f"{config.name}-subscriber-{secrets.token_hex(4)}"
        plan = SubscriberPlan(name=name, dedups=dedup_names(config), filters=globs, same_node=config.links.same_node)
        options: dict[str, Any] = {"num_cpus": 0, "max_restarts": 0, "enable_task_events": False}
        self._actor: Any = ray.remote(facade_of(Subscriber)).options(**options).remote(plan)
        self._name = name
        self._ended = threading.Event()
        self.status()

    def _ask(self, reference: Any) -> Any:
        try:
            return ray.get(reference, timeout=CALL_TIMEOUT_S)
        except RayError as error:
            raise error_of("subscriber", error) from None

    def status(self) -> dict[str, Any]:
        """Give the state of queue and links."""
        return dict(self._ask(self._actor.status.remote()))

    def messages(self) -> Iterator[Message]:
        """Give message after message until `close`."""
        while not self._ended.is_set():
            data = self._ask(self._actor.take.remote(TAKE_BYTES))
            yield from split(data)
            if not data:
                self._ended.wait(POLL_S)

    def close(self) -> None:
        """End the stream."""
        self._ended.set()
        with suppress(RayError):
            ray.kill(self._actor)


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
