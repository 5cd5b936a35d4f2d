"""Backtests: the very strategy that trades live, on a recording, with fills on paper; one run, a sweep, a report.

Nothing here reads a clock or draws a number: the same recording and settings give the same result and hash.
"""
