"""The page of a demo in a real browser: ``python -m tests.browser``."""
