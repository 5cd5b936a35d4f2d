"""Every Ray option of every actor, in one place. The actor classes themselves are plain classes."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import ray

import raytrade
from raytrade import __version__
from raytrade.actors.collector import Collector, CollectorPlan
from raytrade.actors.dedup import Dedup, DedupPlan
from raytrade.actors.gateway import GatewayActor, GatewayPlan
from raytrade.actors.global_dedup import GlobalDedup, GlobalDedupPlan
from raytrade.actors.recorder import Recorder, RecorderPlan
from raytrade.actors.strategy import StrategyActor, StrategyPlan
from raytrade.actors.upstreams import NAMESPACE
from raytrade.core.message import SCHEMA_VERSION

ActorPlan = CollectorPlan | DedupPlan | RecorderPlan | StrategyPlan | GatewayPlan

_CLASSES: dict[type, type] = {
    CollectorPlan: Collector,
    DedupPlan: Dedup,
    GlobalDedupPlan: GlobalDedup,
    RecorderPlan: Recorder,
    StrategyPlan: StrategyActor,
    GatewayPlan: GatewayActor,
}


class Code(msgspec.Struct, frozen=True):
    """The code that a process runs: its version, the schema of its messages, and the folder it came from."""

    version: str
    schema: int
    folder: str


def code_here() -> Code:
    """Give the code of this process."""
    return Code(__version__, SCHEMA_VERSION, str(Path(raytrade.__file__).resolve().parents[1]))


def environment_of(folder: str) -> dict[str, Any]:
    """Give the runtime environment of actors whose code lies in `folder`; the installed one if it is empty."""
    return {"env_vars": {"PYTHONPATH": f"{folder}:${{PYTHONPATH}}"}} if folder else {}


def create(plan: ActorPlan, labels: dict[str, str], code_folder: str = "") -> Any:
    """Start the actor of a plan on a node with the labels, or give the one that runs under its name.

    Synchronous actors without task retries: order comes from the links, and a link heals by opening anew. Restarts
    are without limit, with the same plan. Detached: an actor outlives the supervisor that started it.
    """
    options: dict[str, Any] = {
        "name": plan.name,
        "namespace": NAMESPACE,
        "get_if_exists": True,
        "num_cpus": 0,
        "max_restarts": -1,
        "max_task_retries": 0,
        "enable_task_events": False,
        "lifetime": "detached",
        "label_selector": labels,
    }
    if code_folder:
        options["runtime_env"] = environment_of(code_folder)
    return ray.remote(facade_of(_CLASSES[type(plan)])).options(**options).remote(plan)


def facade_of(hosted: type) -> type:
    """Give a class with the public methods of `hosted` and nothing else.

    Ray wraps every method of an actor's class with tracing, the inner ones too; behind the facade those stay plain.
    What was loaded until then stays for good: the garbage collector need not look through it while updates wait.
    """

    def start(self: Any, plan: ActorPlan) -> None:
        self.hosted = hosted(plan)
        gc.collect()
        gc.freeze()

    def forward(name: str) -> Callable[..., Any]:
        return lambda self, *arguments, **options: getattr(self.hosted, name)(*arguments, **options)

    methods = {name: forward(name) for name in dir(hosted) if name[0] != "_" and callable(getattr(hosted, name))}
    methods["code"] = lambda self: code_here()
    return type(hosted.__name__, (), {"__init__": start, "__doc__": hosted.__doc__, **methods})
