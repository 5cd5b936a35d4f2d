"""Every Ray option of every actor, in one place. The actor classes themselves are plain classes."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import ray

from raytrade.actors.collector import Collector, CollectorPlan
from raytrade.actors.dedup import Dedup, DedupPlan
from raytrade.actors.gateway import GatewayActor, GatewayPlan
from raytrade.actors.recorder import Recorder, RecorderPlan
from raytrade.actors.strategy import StrategyActor, StrategyPlan
from raytrade.actors.upstreams import NAMESPACE

ActorPlan = CollectorPlan | DedupPlan | RecorderPlan | StrategyPlan | GatewayPlan

_CLASSES: dict[type, type] = {
    CollectorPlan: Collector,
    DedupPlan: Dedup,
    RecorderPlan: Recorder,
    StrategyPlan: StrategyActor,
    GatewayPlan: GatewayActor,
}


def create(plan: ActorPlan, labels: dict[str, str]) -> Any:
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

    methods = {name: forward(name) for name, part in vars(hosted).items() if callable(part) and name[0] != "_"}
    return type(hosted.__name__, (), {"__init__": start, "__doc__": hosted.__doc__, **methods})
