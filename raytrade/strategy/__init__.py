"""Strategies: what one is (`base`), the machine that runs it (`engine`), its paper account (`paper`)."""

from raytrade.strategy.base import BaseStrategy, Context, Note, Quality, Strategy
from raytrade.strategy.engine import (
    EngineCommand,
    EngineSettings,
    Observer,
    StrategyEngine,
    StrategyFailed,
)
from raytrade.strategy.ledger import Account, Fill
from raytrade.strategy.loading import load_strategy
from raytrade.strategy.paper import Fees, Order, PaperBroker, PaperSettings, Rejection
from raytrade.strategy.statistics import EngineStatistics, InstrumentCounts, InstrumentStatistics

__all__ = [
    "Account",
    "BaseStrategy",
    "Context",
    "EngineCommand",
    "EngineSettings",
    "EngineStatistics",
    "Fees",
    "Fill",
    "InstrumentCounts",
    "InstrumentStatistics",
    "Note",
    "Observer",
    "Order",
    "PaperBroker",
    "PaperSettings",
    "Quality",
    "Rejection",
    "Strategy",
    "StrategyEngine",
    "StrategyFailed",
    "load_strategy",
]
