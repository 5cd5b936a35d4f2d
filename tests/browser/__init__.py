"""The page in a real browser over a real pipeline: ``python -m tests.browser``."""
