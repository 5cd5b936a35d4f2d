"""The systems by name, in the order in which they are run."""

from __future__ import annotations

from .ray_pipeline import raytrade, raytrade_call, raytrade_x2
from .running import MakeSystem
from .zeromq import zeromq

SYSTEMS: dict[str, MakeSystem] = {
    "zeromq": zeromq,
    "raytrade": raytrade,
    "raytrade-call": raytrade_call,
    "raytrade-x2": raytrade_x2,
}
