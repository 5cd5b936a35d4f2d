"""Deterministic simulation of the whole pipeline: one thread, a manual clock, everything from one seed."""

from raytrade.simulation.run import Result, Simulation, run_seed

__all__ = ["Result", "Simulation", "run_seed"]
