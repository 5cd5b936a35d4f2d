"""The buttons of a demo's page: kill an actor, or pause it, and see that nothing is missed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from nicegui import run, ui

from raytrade.errors import RaytradeError

PAUSE_S = 3.0


class Controls(Protocol):
    """What can be hit, and how. Its methods may wait; they refuse whatever is not among the targets."""

    def targets(self) -> list[str]:
        """Give the names of the actors that may be hit."""
        ...

    def kill(self, actor: str) -> str:
        """SIGKILL an actor's process; says what was done."""
        ...

    def pause(self, actor: str, seconds: float) -> str:
        """Stop an actor's process for a while; says what was done."""
        ...


class HitPanel:
    """A list of actors, two buttons, and what came of them."""

    def __init__(self, controls: Controls) -> None:
        self._controls = controls
        self._busy = False
        ui.label(
            "Kill or pause an actor of this demo; at its end the strategy and the files are held against the truth."
        )
        with ui.row():
            self._actor = ui.select([], label="actor").style("min-width: 22em").props('id="actor"')
            ui.button("Kill", color="red", on_click=self._kill).props('id="kill"')
            ui.button(f"Pause {PAUSE_S:g} s", on_click=self._pause).props('id="pause"')
        self._told = ui.label("").style("white-space: pre; font-family: monospace").props('id="told"')

    def show(self) -> None:
        """Bring the list of actors up to date."""
        names = self._controls.targets()
        if self._actor.options != names:
            self._actor.set_options(names, value=self._actor.value if self._actor.value in names else None)

    async def _kill(self) -> None:
        await self._hit(lambda actor: self._controls.kill(actor))

    async def _pause(self) -> None:
        await self._hit(lambda actor: self._controls.pause(actor, PAUSE_S))

    async def _hit(self, act: Callable[[str], str]) -> None:
        """Act in a thread, one thing at a time."""
        actor = self._actor.value
        if self._busy or not actor:
            return
        self._busy = True
        try:
            told = await run.io_bound(act, actor)
        except RaytradeError as error:
            told = str(error)
        finally:
            self._busy = False
        self._told.text = f"{told}\n{self._told.text}"
