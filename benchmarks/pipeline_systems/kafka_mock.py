"""The same pipeline over Kafka's client: confluent-kafka against the mock cluster that is built into librdkafka.

The mock speaks Kafka's protocol and keeps the last 5 MB of a partition in memory: a reader that falls further behind,
as in a burst, loses updates, which the run then reports. It is no Kafka broker: figures show what the client costs.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
from collections.abc import AsyncIterator
from importlib import import_module
from multiprocessing.connection import Connection
from typing import Any

from .plain import PlainSystem, Publisher
from .system import Failed, Task, Unavailable

READ_MAX = 1000
FETCH_WAIT_MS = 1
"""The mock answers a fetch at once or after this time; it does not wake a fetch that waits when something comes."""
START_TIMEOUT_S = 15.0


def run_mock(control: Connection) -> None:
    """Keep a mock cluster of one broker until the connection is closed (entry of the process)."""
    kafka: Any = import_module("confluent_kafka")
    producer = kafka.Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "mock", "log_level": 0})
    (broker,) = producer.list_topics(timeout=START_TIMEOUT_S).brokers.values()
    control.send(f"{broker.host}:{broker.port}")
    try:
        control.recv()
    except EOFError:
        return


class _Publisher:
    """librdkafka sends in a thread of its own; `linger.ms` 0: at once, and what has piled up together."""

    def __init__(self, client: Any, topic: str) -> None:
        self._client, self._topic = client, topic
        threading.Thread(target=self._serve, daemon=True).start()

    def put(self, message: bytes) -> None:
        self._client.produce(self._topic, message, partition=0)

    def _serve(self) -> None:
        """Take delivery reports; without it the queue fills."""
        while True:
            self._client.poll(0.1)


class KafkaBus:
    """A topic per topic, of which one partition is used (the mock makes four)."""

    def __init__(self, address: str) -> None:
        self._kafka: Any = import_module("confluent_kafka")
        self._address = address

    async def publisher(self, topic: str) -> Publisher:
        client = self._kafka.Producer(
            {
                "bootstrap.servers": self._address,
                "linger.ms": 0,
                "acks": 1,
                "queue.buffering.max.messages": 1_000_000,
                "log_level": 0,
            }
        )
        client.list_topics(topic, timeout=START_TIMEOUT_S)
        return _Publisher(client, topic)

    async def subscribe(self, topic: str) -> AsyncIterator[list[bytes]]:
        client = self._kafka.Consumer(
            {
                "bootstrap.servers": self._address,
                "group.id": topic,
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": FETCH_WAIT_MS,
                "fetch.error.backoff.ms": 1,
                "fetch.queue.backoff.ms": 1,
                "log_level": 0,
            }
        )
        client.assign([self._kafka.TopicPartition(topic, 0, 0)])
        return _read(client)


async def _read(client: Any) -> AsyncIterator[list[bytes]]:
    while True:
        first = client.poll(1.0)
        if first is None:
            await asyncio.sleep(0)
            continue
        messages = [first, *client.consume(READ_MAX, 0)]
        yield [message.value() for message in messages if message.error() is None]


class KafkaSystem(PlainSystem):
    """A plain pipeline with the mock in a process of its own."""

    def __init__(self, task: Task) -> None:
        super().__init__(task, KafkaBus)
        self._control, self._child = multiprocessing.Pipe()
        self._mock: Any = None

    def address(self) -> str:
        context = multiprocessing.get_context("spawn")
        self._mock = context.Process(target=run_mock, args=(self._child,), daemon=True)
        self._mock.start()
        self._child.close()
        if not self._control.poll(START_TIMEOUT_S):
            raise Failed("the mock cluster did not start")
        return str(self._control.recv())

    def servers(self) -> dict[int, str]:
        return {self._mock.pid: "mock cluster"} if self._mock is not None else {}

    def stop(self) -> None:
        super().stop()
        self._control.close()
        if self._mock is not None:
            self._mock.join(3)
            if self._mock.is_alive():
                self._mock.kill()
                self._mock.join(3)


def kafka_mock(task: Task) -> PlainSystem:
    """Make the system over Kafka's client."""
    try:
        import_module("confluent_kafka")
    except ImportError:
        raise Unavailable("confluent-kafka is not installed") from None
    return KafkaSystem(task)
