"""The systems that `benchmarks.pipeline` measures, the exchange they are all fed by, and what is made of the numbers."""
