"""The systems that `benchmarks.pipeline` measures, the exchange that feeds them, and what is made of the numbers."""
