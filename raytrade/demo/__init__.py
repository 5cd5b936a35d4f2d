"""``raytrade demo``: the whole pipeline on three labelled nodes of this machine, with a kill and a cut, checked."""

from raytrade.demo.run import DemoSettings, run_demo

__all__ = ["DemoSettings", "run_demo"]
