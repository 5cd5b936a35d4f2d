"""The systems by name, in the order in which they are run."""

from __future__ import annotations

from .kafka_mock import kafka_mock
from .nats_jetstream import nats_jetstream
from .ray_pipeline import raytrade, raytrade_call, raytrade_x2
from .redis_streams import redis_streams
from .running import MakeSystem
from .zeromq import zeromq

SYSTEMS: dict[str, MakeSystem] = {
    "zeromq": zeromq,
    "raytrade": raytrade,
    "raytrade-call": raytrade_call,
    "raytrade-x2": raytrade_x2,
    "redis": redis_streams,
    "nats": nats_jetstream,
    "kafka-mock": kafka_mock,
}
