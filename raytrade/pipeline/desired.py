"""What a supervisor must know again after a restart: the configuration with all that was attached, and who runs where.

It lies in the cluster's own key-value store, so that it is as durable as the actors themselves.
"""

from __future__ import annotations

import msgspec
from ray.experimental.internal_kv import _internal_kv_del, _internal_kv_get, _internal_kv_put

_NAMESPACE = b"raytrade"


class Desired(msgspec.Struct, frozen=True):
    """What a pipeline is to be.

    `given`: the configuration as the driver gave it last; `config`: with all that was attached since. `nodes`: the node
    of each actor. `generations`: see `raytrade.pipeline.planning.Standing`. `recordings`: the address of the host that
    holds each recorder's files.
    """

    given: bytes
    config: bytes
    nodes: dict[str, str] = {}
    generations: dict[str, int] = {}
    drained: list[str] = []
    recordings: dict[str, str] = {}


def save(pipeline: str, desired: Desired) -> None:
    """Keep it."""
    _internal_kv_put(pipeline, msgspec.msgpack.encode(desired), namespace=_NAMESPACE)


def load(pipeline: str) -> Desired | None:
    """Give what was kept last."""
    kept = _internal_kv_get(pipeline, namespace=_NAMESPACE)
    return None if kept is None else msgspec.msgpack.decode(kept, type=Desired)


def forget(pipeline: str) -> None:
    """The pipeline is stopped."""
    _internal_kv_del(pipeline, namespace=_NAMESPACE)
