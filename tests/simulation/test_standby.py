"""A strategy with a standby: whatever dies, is cut off or hangs, no fill is lost and no order doubled."""

from __future__ import annotations

import pytest

from raytrade.core.clock import MILLISECOND, SECOND
from tests.simulation.standby import GATEWAY, NAMES, World

SEEDS = 16


def other(name: str) -> str:
    return NAMES[1 - NAMES.index(name)]


def running() -> tuple[World, str]:
    """Give a world in which one trades."""
    world = World(1)
    world.run(2 * SECOND)
    return world, world.active()


def calm(world: World) -> None:
    """Have all faults end, and everybody come to rest."""
    world.loss = 0.0
    world.cut.clear()
    for name in (GATEWAY, *NAMES):
        world.go_on(name)
        world.restart(name)
    world.run(4 * SECOND)
    world.is_quiet = True
    world.run(SECOND)
    world.check()
    world.is_quiet = False


def test_the_standby_goes_on_within_a_second_where_the_active_one_died() -> None:
    world, first = running()
    fills = world.gateway.ledger.accounts["binance-spot:BTCUSDT"].fills
    world.kill(first)
    world.run(1100 * MILLISECOND)
    assert world.active() == other(first)
    assert world.gateway.ledger.accounts["binance-spot:BTCUSDT"].fills > fills
    calm(world)


def test_of_two_that_are_parted_one_is_fenced() -> None:
    world, first = running()
    world.cut.add(first)
    world.run(2 * SECOND)
    cut_off, epoch = world.replicas[first], world.gateway.epoch
    assert cut_off.desk.epoch == epoch - 1, "it still takes itself for the active one"
    assert world.active() == other(first)
    calm(world)
    assert (world.fenced, cut_off.desk.epoch, world.gateway.epoch) == (1, 0, epoch)
    assert cut_off.strategy is None


def test_orders_of_an_epoch_that_is_over_are_refused() -> None:
    world, first = running()
    world.pause(first)
    world.run(2 * SECOND)
    assert world.active() == other(first)
    world.go_on(first)
    calm(world)
    assert world.fenced == 1


def test_a_gateway_that_hangs_replaces_nobody_and_one_that_is_started_anew_goes_on() -> None:
    world, first = running()
    world.pause(GATEWAY)
    world.run(3 * SECOND)
    world.go_on(GATEWAY)
    world.run(SECOND)
    assert (world.active(), world.gateway.epoch) == (first, 1)
    world.kill(GATEWAY)
    world.run(SECOND)
    world.restart(GATEWAY)
    world.run(SECOND)
    assert (world.active(), world.gateway.epoch) == (first, 1)
    calm(world)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_drawn_faults(seed: int) -> None:
    world = World(seed)
    world.run(SECOND)
    for _ in range(12):
        name = world.random.choice((GATEWAY, *NAMES, *NAMES))
        match world.random.choice(("kill", "kill", "pause", "cut", "loss", "calm")):
            case "kill":
                world.kill(name)
                world.after(world.random.randrange(100, 2500) * MILLISECOND, lambda name=name: world.restart(name))  # type: ignore[misc]
            case "pause" if name not in world.dead:
                world.pause(name)
                world.after(world.random.randrange(100, 2500) * MILLISECOND, lambda name=name: world.go_on(name))  # type: ignore[misc]
            case "cut":
                world.cut.add(name)
            case "loss":
                world.loss = world.random.choice((0.05, 0.3))
            case _:
                world.cut.clear()
                world.loss = 0.0
        world.run(world.random.randrange(100, 1500) * MILLISECOND)
        world.active()
    calm(world)
    calm(world)
