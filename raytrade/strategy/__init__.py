"""Strategies: what one is (`base`), the machine that runs it (`engine`), its paper account (`paper`)."""

from raytrade.strategy.base import BaseStrategy, Context, Note, Quality, Strategy
from raytrade.strategy.commands import EngineCommand, StrategyFailed, StrategyHalted
from raytrade.strategy.engine import EngineSettings, Observer, StrategyEngine
from raytrade.strategy.ledger import Account, Fill
from raytrade.strategy.loading import load_strategy
from raytrade.strategy.orders import Fees, FillRule, Order, PaperSettings, Rejection, RiskLimits
from raytrade.strategy.paper import PaperBroker
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
    "FillRule",
    "InstrumentCounts",
    "InstrumentStatistics",
    "Note",
    "Observer",
    "Order",
    "PaperBroker",
    "PaperSettings",
    "Quality",
    "Rejection",
    "RiskLimits",
    "Strategy",
    "StrategyEngine",
    "StrategyFailed",
    "StrategyHalted",
    "load_strategy",
]
