"""The order gateway's actor at its end: whoever stops it has decided that the strategy's account is over."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from raytrade.actors import gateway as gateway_module
from raytrade.actors.gateway import GatewayActor, GatewayPlan
from raytrade.strategy.gateway import Call
from tests.unit.actors.inside import Registry, until

WARM = msgspec.msgpack.encode(Call(replica="one", life=7, is_warm=True))


def gateway_of(patch: pytest.MonkeyPatch, directory: Path) -> GatewayActor:
    registry = Registry(patch)
    patch.setattr(gateway_module, "ray", registry)
    registry.me = object()
    gateway = GatewayActor(GatewayPlan(name="p-gateway-s", dedups=[], directory=str(directory)))
    gateway.receive_call(WARM)
    until(lambda: gateway._thread.call(lambda: gateway._journal.size), "the epoch is written down")
    return gateway


def test_its_account_ends_with_it_whatever_the_replicas_have_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gateway = gateway_of(monkeypatch, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["p-gateway-s.journal"]
    gateway.stop()
    assert list(tmp_path.iterdir()) == []


def test_what_it_hands_over_stays_on_the_disk_until_another_one_has_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gateway = gateway_of(monkeypatch, tmp_path)
    gateway.hand_over()
    assert [path.name for path in tmp_path.iterdir()] == ["p-gateway-s.journal"]
    again = gateway_of(monkeypatch, tmp_path)
    assert again._gateway.epoch == 1
    again.stop()
