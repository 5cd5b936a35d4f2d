"""Micro benchmarks: single steps of an update's way, against what else one would take for them."""
