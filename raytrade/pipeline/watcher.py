"""`Watcher`: once a second it reads the pipeline's status and makes incidents, metrics and alerts of it.

A thread beside the supervisor. It reads counters that are kept anyway; the data does not pass through it.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from typing import Any

import msgspec
from ray.exceptions import RayError

from raytrade.config import AlertsConfig
from raytrade.core.incidents import Incident
from raytrade.observation.alerts import AlertRules
from raytrade.observation.incidents import IncidentBook
from raytrade.observation.metrics import Sampler
from raytrade.pipeline.exporting import Exporter
from raytrade.pipeline.problems import reason_of
from raytrade.pipeline.webhook import Webhook
from raytrade.transport.clock import SystemClock

WATCH_S = 1.0


class Watcher:
    """Watches one pipeline from `start` on; the incidents can be asked for from any thread."""

    def __init__(self, pipeline: str, alerts: AlertsConfig, status: Callable[[], dict[str, Any]]) -> None:
        self._status = status
        self._clock = SystemClock()
        self._lock = threading.Lock()
        self._book = IncidentBook()
        self._sampler = Sampler()
        self._rules = AlertRules(alerts.settings())
        self._exporter = Exporter(pipeline)
        self._webhook = Webhook(alerts.webhook)
        self._problem = ""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def set_alerts(self, alerts: AlertsConfig) -> None:
        """Judge by these thresholds from now on, and tell this webhook."""
        self._rules.settings = alerts.settings()
        if alerts.webhook != self._webhook.url:
            self._webhook.stop()
            self._webhook = Webhook(alerts.webhook)

    def stop(self) -> None:
        """Watch no more."""
        self._stopping.set()
        self._webhook.stop()
        if self._thread.is_alive():
            self._thread.join(10)

    def _run(self) -> None:
        while not self._stopping.wait(WATCH_S):
            try:
                self._take(self._status())
                self._problem = ""
            except RayError as error:
                self._problem = reason_of(error)
            except Exception as error:  # noqa: BLE001 - who only watches must not end, nor end what it watches
                traceback.print_exc()
                self._problem = f"{type(error).__name__}: {error}"

    def _take(self, status: dict[str, Any]) -> None:
        now_ns = self._clock.now_ns()
        notices = self._rules.receive(status, now_ns)
        with self._lock:
            self._book.receive(status, now_ns)
            for notice in notices:
                kind = Incident.ALERT_FIRING if notice.state == "firing" else Incident.ALERT_RESOLVED
                self._book.note(kind, notice.subject, now_ns, alert=notice.alert, summary=notice.summary)
        for notice in notices:
            self._webhook.post(notice)
        self._exporter.export(self._sampler.samples(status))

    def incidents(self, since: int) -> list[dict[str, Any]]:
        """Give what is kept from number `since` on, as plain data."""
        with self._lock:
            return [msgspec.to_builtins(record) for record in self._book.since(since)]

    def summary(self) -> dict[str, Any]:
        """Give the standing alerts and what became of the notices."""
        webhook = self._webhook
        return {
            "firing": [{"alert": rule, "subject": subject} for rule, subject in self._rules.firing()],
            "notices_sent": webhook.sent,
            "notices_lost": webhook.lost,
            "notices_suppressed": self._rules.suppressed,
            "webhook_problem": webhook.problem,
            "watcher_problem": self._problem,
        }
